package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
)

func TestRangesAndNodearraysAreReadOrNamed(t *testing.T) {
	for text, want := range map[string]cyclecloudsim.Range{
		"2s": {Min: 2 * time.Second, Max: 2 * time.Second}, "500ms-1m": {Min: 500 * time.Millisecond, Max: time.Minute}, "0s": {},
	} {
		if got, err := parseRange(text); err != nil || got != want {
			t.Errorf("range %q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "1s-", "2s-1s", "-1s", "1s-2s-3s"} {
		if _, err := parseRange(text); err == nil {
			t.Errorf("range %q was accepted", text)
		}
	}
	if a, err := parseNodeArray("htc,F4,4,10,spot"); err != nil || a.Name != "htc" || a.MachineType != "F4" || a.Cores != 4 || a.MaxCount != 10 || !a.Spot {
		t.Errorf("nodearray: %+v %v", a, err)
	}
	for _, text := range []string{"htc", "htc,F4,4", "htc,F4,x,1", "htc,F4,4,1,cheap", "htc,F4,4,1,spot,x"} {
		if _, err := parseNodeArray(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("nodearray %q: %v", text, err)
		}
	}
}

func TestEveryMistakeOfTheCommandLineIsNamedAtOnce(t *testing.T) {
	cmd := newCycleCloudCommand()
	cmd.SetArgs([]string{"--boot", "soon", "--nodearray", "x", "--quirk", "location=blue", "--quirk", "colour=blue"})
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	err := cmd.ExecuteContext(t.Context())
	for _, part := range []string{"--boot", `--nodearray "x"`, "location", "colour"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not name %s", err, part)
		}
	}
}

func TestTheStandaloneSimulatorSaysWhereItIs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read, write := io.Pipe()
	cmd := newCycleCloudCommand()
	cmd.SetArgs([]string{"--addr", "127.0.0.1:0", "--plain", "--seed", "5", "--logs", t.TempDir(), "--journal", t.TempDir() + "/journal"})
	cmd.SetOut(write)
	cmd.SetErr(io.Discard)
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var where struct{ URL, Control, Cluster, User string }
	if err := json.Unmarshal([]byte(line), &where); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	for _, url := range []string{where.URL + "/clusters/" + where.Cluster + "/status", where.Control + "/snapshot"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(where.User, "not-a-secret")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %v", url, resp.StatusCode, err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("the end: %v", err)
	}
}
