package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// Scripts rely on the exit codes, and --help tells them.
func TestTheExitCodesAreTheOnesThatHelpNames(t *testing.T) {
	m := tables(t, "onprem")
	away := func() (store, error) { return nil, errors.New("the tables are away") }
	for args, want := range map[string]int{
		"": 0, "--help": 0, "--version": 0, "status": 0, "nodes --json": 0, "jobs": 0,
		"brew": 1, "nodes --brew": 1, "nodes htc-1": 1, "decisions --top 0": 1, "nodes --cluster other": 1,
		"policy check nowhere.yaml": 1, "policy rollback v0": 1,
	} {
		code, _, errs := ctlRun(m, strings.Fields(args)...)
		if code != want || (want != 0) != strings.HasPrefix(errs, "burstctl: error: ") {
			t.Errorf("burstctl %s: exit %d, want %d; %s", args, code, want, errs)
		}
	}
	var out, errs bytes.Buffer
	if code := run([]string{"status"}, away, &out, &errs); code != 1 {
		t.Errorf("without tables: exit %d", code)
	}
	_, help, _ := ctlRun(m, "--help")
	for _, says := range []string{"0 when it is done", "1 when it is not"} {
		if !strings.Contains(help, says) {
			t.Errorf("--help does not say %q:\n%s", says, help)
		}
	}
}
