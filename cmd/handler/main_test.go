package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const handlerMark = "SLURMBURST_TEST_HANDLER"

// TestMain makes the test binary the handler when a test starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv(handlerMark) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const azurite = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=bG9jYWw=;TableEndpoint=http://127.0.0.1:1/devstoreaccount1"

// settings are those of an app whose tables and bus are out of reach.
func settings(t *testing.T) map[string]string {
	t.Helper()
	policy, err := filepath.Abs("../../examples/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"BURST_POLICY": policy, "BURST_TABLES": azurite,
		"SERVICEBUS":                  "Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=local;SharedAccessKey=bG9jYWw=;UseDevelopmentEmulator=true",
		"BURST_CREDENTIAL_CYCLECLOUD": "slurmburst:the-password",
	}
}

func command(t *testing.T, settings map[string]string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), self)
	cmd.Env = []string{handlerMark + "=1", "PATH=" + os.Getenv("PATH")}
	for name, value := range settings {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) (port int, hold net.Listener) {
	t.Helper()
	var listening net.ListenConfig
	l, err := listening.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().(*net.TCPAddr).Port, l
}

func get(t *testing.T, url string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return http.DefaultClient.Do(r)
}

// The handler listens where the host says although neither the tables nor the
// bus nor CycleCloud can be reached: the host waits for the port only.
func TestTheHandlerListensWhereTheHostSays(t *testing.T) {
	port, hold := freePort(t)
	if err := hold.Close(); err != nil {
		t.Fatal(err)
	}
	s := settings(t)
	s["FUNCTIONS_CUSTOMHANDLER_PORT"] = strconv.Itoa(port)
	cmd, stdout, stderr := command(t, s)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	for {
		answer, err := get(t, url+"/")
		if err == nil {
			answer.Body.Close()
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("not listening after 30 s: %v", err)
		}
		<-time.After(time.Millisecond)
	}
	t.Logf("start to listening: %v", time.Since(began))
	answer, err := get(t, url+"/api/state/v1/nothing")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body map[string]string
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || answer.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d, %v, %v", answer.StatusCode, body, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if !strings.Contains(stdout.String(), fmt.Sprintf("127.0.0.1:%d", port)) {
		t.Errorf("the log does not say where it listens: %s", stdout)
	}
	if strings.Contains(stdout.String()+stderr.String(), "the-password") {
		t.Error("the log has the password")
	}
}

// Exit code 0 would mean to the host that the handler wants to stay dead.
func TestWhatKeepsTheHandlerFromStarting(t *testing.T) {
	taken, hold := freePort(t)
	defer hold.Close()
	broken := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(broken, []byte("cluster: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change map[string]string
		want   []string
	}{
		"no settings at all": {
			map[string]string{"BURST_TABLES": "", "SERVICEBUS": "", "FUNCTIONS_CUSTOMHANDLER_PORT": ""},
			[]string{"BURST_TABLES", "SERVICEBUS", "FUNCTIONS_CUSTOMHANDLER_PORT"},
		},
		"several wrong settings": {
			map[string]string{"FUNCTIONS_CUSTOMHANDLER_PORT": "x", "BURST_DEADLINE": "soon", "BURST_TABELS": "y"},
			[]string{"FUNCTIONS_CUSTOMHANDLER_PORT", "BURST_DEADLINE", "BURST_TABELS"},
		},
		"a port that is taken":    {map[string]string{"FUNCTIONS_CUSTOMHANDLER_PORT": strconv.Itoa(taken)}, []string{"listen", strconv.Itoa(taken)}},
		"no policy file":          {map[string]string{"BURST_POLICY": "/nonexistent/policy.yaml"}, []string{"policies", "/nonexistent/policy.yaml"}},
		"a policy that is broken": {map[string]string{"BURST_POLICY": broken}, []string{"policies", "policy.yaml"}},
		"no credential":           {map[string]string{"BURST_CREDENTIAL_CYCLECLOUD": ""}, []string{"BURST_CREDENTIAL_CYCLECLOUD"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(t)
			s["FUNCTIONS_CUSTOMHANDLER_PORT"] = "1"
			for setting, value := range c.change {
				s[setting] = value
			}
			cmd, stdout, stderr := command(t, s)
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("ended with %v, want exit code 1; %s%s", err, stdout, stderr)
			}
			for _, want := range append(c.want, "handler: error: ") {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("%q is not in %s", want, stderr)
				}
			}
			if strings.Contains(stdout.String()+stderr.String(), "the-password") {
				t.Error("the password is told")
			}
		})
	}
}
