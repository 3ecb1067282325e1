package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestArguments(t *testing.T) {
	none := func(string) string { return "" }
	for _, c := range []struct {
		name, args  string
		out, usage  string // what either stream holds
		err         string // what the error holds; empty for none
		silentError bool   // nothing but the error is said
	}{
		{name: "help is no error", args: "--help", usage: "docs/settings.md"},
		{name: "the version", args: "-version", out: version()},
		{name: "an argument would be ignored", args: "start", err: `unexpected argument "start"`, silentError: true},
		{name: "an unknown flag", args: "--wings", usage: "usage: burst-agent", err: "wings"},
		{name: "missing settings are named", err: "SERVICEBUS: is missing", silentError: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			err := run(strings.Fields(c.args), none, nil, &out, &errs)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got error %v, want %q", err, c.err)
			}
			if !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.usage) || c.silentError && out.Len()+errs.Len() > 0 {
				t.Errorf("said %q and %q", out.String(), errs.String())
			}
		})
	}
}
