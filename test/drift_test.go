package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/policy"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// binding is one binding of a function.json, with every field that we use.
type binding struct {
	Type, Direction, Name    string
	QueueName, Connection    string
	IsSessionsEnabled        bool
	AutoCompleteMessages     bool
	DataType, Cardinality    string
	Schedule                 string
	RunOnStartup, UseMonitor bool
	AuthLevel, Route         string
	Methods                  []string
}

// queue is one row of infra/queues.json.
type queue struct {
	Name                             string
	RequiresSession                  bool
	DuplicateDetection               string
	LockDuration                     string
	MaxDeliveryCount                 int
	DefaultTimeToLive                string
	DeadLetteringOnMessageExpiration bool
}

// read decodes a JSON file of the repository strictly.
func read(t *testing.T, name string, into any) {
	t.Helper()
	file, err := os.Open(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// functions gives the bindings of every function by its name.
func functions(t *testing.T) map[string][]binding {
	t.Helper()
	folders, err := filepath.Glob("../functions/*/function.json")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no functions: %v", err)
	}
	found := map[string][]binding{}
	for _, file := range folders {
		name := filepath.Base(filepath.Dir(file))
		var content struct{ Bindings []binding }
		read(t, "functions/"+name+"/function.json", &content)
		found[name] = content.Bindings
	}
	return found
}

func queues(t *testing.T) map[string]queue {
	t.Helper()
	var content struct{ Queues []queue }
	read(t, "infra/queues.json", &content)
	found := map[string]queue{}
	for _, q := range content.Queues {
		found[q.Name] = q
	}
	return found
}

// exampleSettings gives the values of local.settings.json.example.
func exampleSettings(t *testing.T) map[string]string {
	t.Helper()
	var example struct {
		IsEncrypted bool
		Values      map[string]string
	}
	read(t, "local.settings.json.example", &example)
	return example.Values
}

// defaultApp gives the settings of an app that was told only what it must be.
func defaultApp(t *testing.T) config.App {
	t.Helper()
	values := map[string]string{
		"FUNCTIONS_CUSTOMHANDLER_PORT":        "7071",
		"SERVICEBUS__fullyQualifiedNamespace": "ns.servicebus.windows.net",
		"BURST_TABLES__endpoint":              "https://st.table.core.windows.net",
	}
	app, err := config.LoadApp(func(name string) string { return values[name] }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

var settingReference = regexp.MustCompile(`%([^%]+)%`)

func TestSettingsInBindingsAreKnown(t *testing.T) {
	known, example := config.Names(), exampleSettings(t)
	for name, bindings := range functions(t) {
		for _, b := range bindings {
			for _, match := range settingReference.FindAllStringSubmatch(b.QueueName+" "+b.Schedule+" "+b.Route, -1) {
				setting := match[1]
				if !slices.Contains(known, setting) {
					t.Errorf("%s uses %%%s%%, which internal/config does not know", name, setting)
				}
				if example[setting] == "" {
					t.Errorf("%s uses %%%s%%, which local.settings.json.example does not give", name, setting)
				}
			}
			if b.Connection != "" && !slices.Contains(known, b.Connection) {
				t.Errorf("%s uses connection %s, which internal/config does not know", name, b.Connection)
			}
		}
	}
}

func TestExampleGivesTheDefaults(t *testing.T) {
	app, example := defaultApp(t), exampleSettings(t)
	want := map[string]string{
		"BURST_QUEUE_PRESSURE":   app.QueuePressure,
		"BURST_SCALE_DOWN":       app.ScaleDown,
		"BURST_REJECTED":         app.Rejected,
		"BURST_COMMANDS_PREFIX":  app.CommandsPrefix,
		"BURST_RECLAIM_SCHEDULE": app.ReclaimSchedule,
		"BURST_TABLE_PREFIX":     app.Tables.Prefix,
	}
	got := map[string]string{}
	for name := range want {
		got[name] = example[name]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("local.settings.json.example (-default +example):\n%s", diff)
	}
}

func TestEveryQueueThatThePartsNameIsDefined(t *testing.T) {
	app, defined := defaultApp(t), queues(t)
	for _, name := range []string{app.QueuePressure, app.ScaleDown, app.Rejected, app.CommandsPrefix + "{cluster}"} {
		if _, ok := defined[name]; !ok {
			t.Errorf("infra/queues.json lacks %s", name)
		}
	}
}

func TestQueueTriggersFitTheirQueues(t *testing.T) {
	defined, example := queues(t), exampleSettings(t)
	for name, bindings := range functions(t) {
		for _, b := range bindings {
			if b.Type != "serviceBusTrigger" {
				continue
			}
			setting := strings.Trim(b.QueueName, "%")
			if b.QueueName != "%"+setting+"%" {
				t.Errorf("%s names its queue %q, want it from a setting", name, b.QueueName)
			}
			q, ok := defined[example[setting]]
			if !ok {
				t.Errorf("%s is triggered by %s, which infra/queues.json lacks", name, example[setting])
			}
			if q.RequiresSession != b.IsSessionsEnabled {
				t.Errorf("%s: isSessionsEnabled is %v, the queue says %v: the trigger would get nothing", name, b.IsSessionsEnabled, q.RequiresSession)
			}
			// Not binary, a body's properties would land among the metadata.
			if b.DataType != "binary" || !b.AutoCompleteMessages || b.Connection != "SERVICEBUS" {
				t.Errorf("%s: a queue trigger is binary, completes by itself and uses SERVICEBUS: %+v", name, b)
			}
			if q.RequiresSession && b.Cardinality != "one" {
				t.Errorf("%s: a session's messages are taken one by one, not %q", name, b.Cardinality)
			}
		}
	}
}

func TestFunctionsHaveOneTriggerAndNoOutputButRes(t *testing.T) {
	folder := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for name, bindings := range functions(t) {
		// Go would leave out a file whose name ends like this.
		if !folder.MatchString(name) || regexp.MustCompile(`_(test|linux|windows|darwin|unix|amd64|arm64)$`).MatchString(name) {
			t.Errorf("%s is no name for a function, a handler's file and a route", name)
		}
		triggers := 0
		for _, b := range bindings {
			switch {
			case strings.HasSuffix(b.Type, "Trigger") && b.Direction == "in":
				triggers++
			case b.Type == "http" && b.Direction == "out" && b.Name == "res":
			default:
				t.Errorf("%s has a binding that nobody serves: %+v", name, b)
			}
		}
		if triggers != 1 {
			t.Errorf("%s has %d triggers", name, triggers)
		}
	}
}

func TestFunctionsReadmeHasARowForEachFunction(t *testing.T) {
	text, err := os.ReadFile("../functions/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) == 6 && strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			rows[strings.Trim(cells[1], " `")] = cells
		}
	}
	all := functions(t)
	for name := range rows {
		if _, ok := all[name]; !ok {
			t.Errorf("functions/README.md has a row for %s, which is no function", name)
		}
	}
	for name, bindings := range all {
		cells, ok := rows[name]
		if !ok {
			t.Errorf("functions/README.md has no row for %s", name)
			continue
		}
		if want := "`handlers/" + name + ".go`"; strings.TrimSpace(cells[3]) != want {
			t.Errorf("the row of %s says %s is its handler, want %s", name, cells[3], want)
		}
		for _, b := range bindings {
			for _, token := range []string{b.QueueName, b.Schedule, b.Route} {
				if !strings.Contains(cells[2], token) {
					t.Errorf("the row of %s does not name its trigger's %s", name, token)
				}
			}
		}
	}
}

func TestHostJSONGivesOurDeadlineRoom(t *testing.T) {
	var host struct {
		Version         string
		ExtensionBundle struct{ ID, Version string }
		CustomHandler   struct {
			Description struct {
				DefaultExecutablePath          string
				UseStdErrorStreamForErrorsOnly bool
			}
			EnableForwardingHTTPRequest bool
		}
		FunctionTimeout string
		Extensions      struct {
			HTTP       struct{ RoutePrefix string }
			ServiceBus struct {
				PrefetchCount                int
				AutoCompleteMessages         bool
				MaxConcurrentSessions        int
				MaxConcurrentCallsPerSession int
				SessionIdleTimeout           string
				MaxAutoLockRenewalDuration   string
			}
		}
	}
	read(t, "host.json", &host)
	timeout, renewal := timespan(t, host.FunctionTimeout), timespan(t, host.Extensions.ServiceBus.MaxAutoLockRenewalDuration)
	deadline := defaultApp(t).Deadline
	if deadline >= timeout/2 || timeout >= renewal {
		t.Errorf("deadline %v, functionTimeout %v, maxAutoLockRenewalDuration %v: each must end well before the next, "+
			"because functionTimeout kills every call in the process", deadline, timeout, renewal)
	}
	bus := host.Extensions.ServiceBus
	if bus.PrefetchCount != 0 || bus.MaxConcurrentCallsPerSession != 1 || !bus.AutoCompleteMessages {
		t.Errorf("one message of a session at a time, none held in advance, completed by the host: %+v", bus)
	}
	if !host.CustomHandler.Description.UseStdErrorStreamForErrorsOnly || !host.CustomHandler.EnableForwardingHTTPRequest {
		t.Errorf("internal/logging and the HTTP functions rely on these: %+v", host.CustomHandler)
	}
	executable := host.CustomHandler.Description.DefaultExecutablePath
	source, err := os.ReadFile("../local/cmd/package/assemble.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(source), fmt.Sprintf("const executable = %q", executable)) {
		t.Errorf("host.json starts %q, which is not what local/cmd/package builds", executable)
	}
}

// timespan reads .NET's hh:mm:ss.
func timespan(t *testing.T, text string) time.Duration {
	t.Helper()
	var h, m, s int
	if _, err := fmt.Sscanf(text, "%d:%d:%d", &h, &m, &s); err != nil {
		t.Fatalf("timespan %q: %v", text, err)
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
}

func TestExamplePolicyExpandsWithSlurmsOwnHostlists(t *testing.T) {
	docs, err := policy.LoadPath("../examples/policy.yaml", slurm.ParseHostlist)
	if err != nil {
		t.Fatal(err)
	}
	if got := docs[0].Nodearrays[1].Nodes; len(got) != 16 || got[0] != "hpc-1" || got[15] != "hpc-16" {
		t.Errorf("got %v", got)
	}
	if app := exampleSettings(t); app["BURST_CREDENTIAL_"+strings.ToUpper(docs[0].CycleCloud.Credential)] == "" {
		t.Errorf("local.settings.json.example lacks the credential %q of the example policy", docs[0].CycleCloud.Credential)
	}
}
