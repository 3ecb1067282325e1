package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/fault"
)

const (
	busText    = "Endpoint=sb://127.0.0.1;SharedAccessKeyName=local;SharedAccessKey=hunter2;UseDevelopmentEmulator=true"
	tablesText = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=hunter2;TableEndpoint=http://127.0.0.1:10002/devstoreaccount1"
)

// env is an environment; it gives both arguments of a Load function.
type env map[string]string

func (e env) get(name string) string { return e[name] }

func (e env) all() []string {
	var entries []string
	for name, value := range e {
		entries = append(entries, name+"="+value)
	}
	return entries
}

// with gives a copy with settings changed.
func (e env) with(pairs ...string) env {
	changed := env{}
	for name, value := range e {
		changed[name] = value
	}
	for i := 0; i < len(pairs); i += 2 {
		changed[pairs[i]] = pairs[i+1]
	}
	return changed
}

var (
	appEnv = env{
		"SERVICEBUS": busText, "BURST_TABLES": tablesText, "FUNCTIONS_CUSTOMHANDLER_PORT": "40001",
		"FUNCTIONS_APP_ROOT_PATH": "/home/site/wwwroot", "PATH": "/usr/bin",
	}
	agentEnv = env{"SERVICEBUS__fullyQualifiedNamespace": "ns.servicebus.windows.net"}
	ctlEnv   = env{"BURST_TABLES": tablesText}
)

func TestAppDefaults(t *testing.T) {
	got, err := config.LoadApp(appEnv.get, appEnv.all())
	if err != nil {
		t.Fatal(err)
	}
	want := config.App{
		Policy:          "/home/site/wwwroot/policy.yaml",
		ServiceBus:      config.ServiceBus{ConnectionString: config.NewSecret(busText)},
		Tables:          config.Tables{ConnectionString: config.NewSecret(tablesText)},
		QueuePressure:   "queue-pressure",
		ScaleDown:       "scale-down",
		Rejected:        "rejected",
		CommandsPrefix:  "slurm-commands-",
		ReclaimSchedule: "0 */5 * * * *",
		Credentials:     map[string]config.Credential{},
		Deadline:        time.Minute,
		Port:            40001,
		LogLevel:        slog.LevelInfo,
		Root:            "/home/site/wwwroot",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestAppTakesEverySetting(t *testing.T) {
	const id = "00000000-1111-2222-3333-444444444444"
	e := env{
		"BURST_POLICY": "/etc/policies", "SERVICEBUS__fullyQualifiedNamespace": "ns.servicebus.windows.net", "SERVICEBUS__clientId": id,
		"SERVICEBUS__customEndpoint": "10.0.0.4:5671",
		"BURST_TABLES__endpoint":     "https://st.table.core.windows.net/", "BURST_TABLES__clientId": id, "BURST_TABLE_PREFIX": "dev",
		"BURST_QUEUE_PRESSURE": "queue-pressure-v1", "BURST_SCALE_DOWN": "scale-down-v1", "BURST_REJECTED": "rejected-v1",
		"BURST_COMMANDS_PREFIX": "cmd-v1-", "BURST_RECLAIM_SCHEDULE": "30 2 * * 1-5", "BURST_CREDENTIAL_CYCLECLOUD": "ops:a:b",
		"BURST_CREDENTIAL_UNUSED": "", "BURST_DEADLINE": "30s", "BURST_LOG_LEVEL": "DEBUG", "FUNCTIONS_CUSTOMHANDLER_PORT": "1",
	}
	got, err := config.LoadApp(e.get, e.all())
	if err != nil {
		t.Fatal(err)
	}
	want := config.App{
		Policy:          "/etc/policies",
		ServiceBus:      config.ServiceBus{Namespace: "ns.servicebus.windows.net", ClientID: id, CustomEndpoint: "10.0.0.4:5671"},
		Tables:          config.Tables{Endpoint: "https://st.table.core.windows.net", ClientID: id, Prefix: "dev"},
		QueuePressure:   "queue-pressure-v1",
		ScaleDown:       "scale-down-v1",
		Rejected:        "rejected-v1",
		CommandsPrefix:  "cmd-v1-",
		ReclaimSchedule: "30 2 * * 1-5",
		Credentials:     map[string]config.Credential{"cyclecloud": {User: "ops", Password: config.NewSecret("a:b")}},
		Deadline:        30 * time.Second,
		Port:            1,
		LogLevel:        slog.LevelDebug,
		Root:            ".",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if c, err := got.Credential("cyclecloud"); err != nil || c.User != "ops" || c.Password.Reveal() != "a:b" {
		t.Errorf("credential is %v, %v", c, err)
	}
	if _, err := got.Credential("other"); err == nil || !strings.Contains(err.Error(), "BURST_CREDENTIAL_OTHER: is missing") || fault.Of(err) != fault.Invalid {
		t.Errorf("got %v", err)
	}
}

func TestAgentAndCtlDefaults(t *testing.T) {
	agent, err := config.LoadAgent(agentEnv.get, agentEnv.all())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Agent{
		Policy:         "/etc/slurmburst/policy.yaml",
		Spool:          "/var/lib/slurmburst/spool",
		SlurmConf:      "/etc/slurm/slurm.conf",
		ServiceBus:     config.ServiceBus{Namespace: "ns.servicebus.windows.net"},
		QueuePressure:  "queue-pressure",
		CommandsPrefix: "slurm-commands-",
		Heartbeat:      30 * time.Second,
		Poll:           5 * time.Second,
		LogLevel:       slog.LevelInfo,
	}, agent); diff != "" {
		t.Errorf("agent (-want +got):\n%s", diff)
	}
	ctl, err := config.LoadCtl(ctlEnv.get, ctlEnv.all())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Ctl{
		Tables: config.Tables{ConnectionString: config.NewSecret(tablesText)},
		Policy: "/etc/slurmburst/policy.yaml",
	}, ctl); diff != "" {
		t.Errorf("burstctl (-want +got):\n%s", diff)
	}
}

func TestAppRefuses(t *testing.T) {
	tests := []struct {
		name string
		env  env
		want string // the whole error, behind "read settings: "
	}{
		{
			"nothing at all, all told at once",
			env{},
			"FUNCTIONS_CUSTOMHANDLER_PORT: is missing (want a port from 1 to 65535)\n" +
				"SERVICEBUS: is missing (got neither it nor SERVICEBUS__fullyQualifiedNamespace, want one)\n" +
				"BURST_TABLES: is missing (got neither it nor BURST_TABLES__endpoint, want one)",
		},
		{
			"a misspelt name", appEnv.with("BURST_SCALEDOWN", "x"),
			"BURST_SCALEDOWN: is not a setting (got a value, want the nearest known name, BURST_SCALE_DOWN, or none)",
		},
		{
			"secret and address", appEnv.with("SERVICEBUS__fullyQualifiedNamespace", "ns"),
			"SERVICEBUS: is given together with SERVICEBUS__fullyQualifiedNamespace (got both, want one)",
		},
		{
			"an identity for a connection string", appEnv.with("BURST_TABLES__clientId", "00000000-1111-2222-3333-444444444444"),
			"BURST_TABLES__clientId: has no use (got BURST_TABLES, want BURST_TABLES__endpoint)",
		},
		{
			"an address to dial for a connection string", appEnv.with("SERVICEBUS__customEndpoint", "[::1]:5671"),
			"SERVICEBUS__customEndpoint: has no use (got SERVICEBUS, want SERVICEBUS__fullyQualifiedNamespace)",
		},
		{
			"an address to dial without port", appEnv.with("SERVICEBUS", "", "SERVICEBUS__fullyQualifiedNamespace", "ns", "SERVICEBUS__customEndpoint", "10.0.0.4"),
			`SERVICEBUS__customEndpoint: is not well-formed (got "10.0.0.4", want host:port)`,
		},
		{
			"a URL for an address to dial", appEnv.with("SERVICEBUS", "", "SERVICEBUS__fullyQualifiedNamespace", "ns", "SERVICEBUS__customEndpoint", "amqps://proxy:5671"),
			`SERVICEBUS__customEndpoint: is not well-formed (got "amqps://proxy:5671", want host:port)`,
		},
		{
			"an address to dial whose port is none", appEnv.with("SERVICEBUS", "", "SERVICEBUS__fullyQualifiedNamespace", "ns", "SERVICEBUS__customEndpoint", "proxy:0"),
			`SERVICEBUS__customEndpoint: names no port (got "proxy:0", want host:port)`,
		},
		{
			"a token in the clear on this machine", appEnv.with("BURST_TABLES", "", "BURST_TABLES__endpoint", "http://127.0.0.1:10002/devstoreaccount1"),
			"BURST_TABLES__endpoint: would send a token in the clear (got [redacted], want https://account.table.core.windows.net)",
		},
		{
			"a broken connection string, not echoed", appEnv.with("SERVICEBUS", "hunter2"),
			"SERVICEBUS: has no Endpoint=sb://… (got [redacted], want Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…)",
		},
		{
			"a connection string without key", appEnv.with("SERVICEBUS", "Endpoint=sb://x"),
			"SERVICEBUS: has neither SharedAccessKeyName with SharedAccessKey nor SharedAccessSignature (got [redacted], want Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…)",
		},
		{
			"the emulator's abbreviation", appEnv.with("BURST_TABLES", "UseDevelopmentStorage=true"),
			"BURST_TABLES: abbreviates the emulator's address (spell out AccountName, AccountKey and TableEndpoint) (got [redacted], want DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…)",
		},
		{
			"a signature in an endpoint, not echoed", appEnv.with("BURST_TABLES", "", "BURST_TABLES__endpoint", "https://st.table.core.windows.net?sig=hunter2"),
			"BURST_TABLES__endpoint: is not well-formed (got [redacted], want https://account.table.core.windows.net)",
		},
		{
			"a token in the clear", appEnv.with("BURST_TABLES", "", "BURST_TABLES__endpoint", "http://st.example.com"),
			"BURST_TABLES__endpoint: would send a token in the clear (got [redacted], want https://account.table.core.windows.net)",
		},
		{
			"a credential without password, not echoed", appEnv.with("BURST_CREDENTIAL_CC", "hunter2"),
			"BURST_CREDENTIAL_CC: is not a credential (got [redacted], want user:password)",
		},
		{
			"a credential's name in lower case", appEnv.with("BURST_CREDENTIAL_cc", "a:hunter2"),
			"BURST_CREDENTIAL_cc: is not well-formed as a name (want BURST_CREDENTIAL_ and at most 31 of A-Z, 0-9 and _)",
		},
		{
			"a queue with a slash", appEnv.with("BURST_REJECTED", "a/b"),
			`BURST_REJECTED: is not well-formed (got "a/b", want a queue's name)`,
		},
		{
			"a schedule that no calendar has", appEnv.with("BURST_RECLAIM_SCHEDULE", "0 61 * * * *"),
			`BURST_RECLAIM_SCHEDULE: is not a schedule (got "0 61 * * * *", want NCRONTAB such as 0 */5 * * * *, in UTC)`,
		},
		{
			"a schedule in another language", appEnv.with("BURST_RECLAIM_SCHEDULE", "@hourly"),
			`BURST_RECLAIM_SCHEDULE: is not well-formed (got "@hourly", want NCRONTAB such as 0 */5 * * * *, in UTC)`,
		},
		{
			"a deadline beyond the host's", appEnv.with("BURST_DEADLINE", "5m"),
			`BURST_DEADLINE: is out of range (got "5m", want a duration from 1s to 4m)`,
		},
		{
			"a number for a duration", appEnv.with("BURST_DEADLINE", "60"),
			`BURST_DEADLINE: is not a duration (got "60", want a duration from 1s to 4m)`,
		},
		{
			"an unknown level", appEnv.with("BURST_LOG_LEVEL", "loud"),
			`BURST_LOG_LEVEL: is not a level (got "loud", want debug, info, warn or error)`,
		},
		{
			"port 0", appEnv.with("FUNCTIONS_CUSTOMHANDLER_PORT", "0"),
			`FUNCTIONS_CUSTOMHANDLER_PORT: is not a port (got "0", want a port from 1 to 65535)`,
		},
		{
			"a value without end", appEnv.with("BURST_POLICY", strings.Repeat("x", 5000)),
			"BURST_POLICY: is too long (got 5000 bytes, want at most 4096)",
		},
		{
			"a long value, cut", appEnv.with("BURST_REJECTED", strings.Repeat("/", 300)),
			`BURST_REJECTED: is not well-formed (got "` + strings.Repeat("/", 100) + `"…, want a queue's name)`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.LoadApp(tt.env.get, tt.env.all())
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff("read settings: "+tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error echoes a secret")
			}
			if fault.Of(err) != fault.Invalid {
				t.Errorf("kind is %v", fault.Of(err))
			}
		})
	}
}

func TestAgentRefusesRelativePaths(t *testing.T) {
	e := agentEnv.with("BURST_SPOOL", "spool", "SLURM_CONF", "slurm.conf", "BURST_SLURM_BIN", "bin")
	_, err := config.LoadAgent(e.get, e.all())
	const want = `read settings: BURST_SPOOL: is not absolute (got "spool", want an absolute path)
SLURM_CONF: is not absolute (got "slurm.conf", want an absolute path)
BURST_SLURM_BIN: is not absolute (got "bin", want an absolute path)`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestSettingsOfOtherProgramsAreNoError(t *testing.T) {
	e := ctlEnv.with("BURST_HEARTBEAT", "not even checked", "BURST_CREDENTIAL_X", "a:b")
	if _, err := config.LoadCtl(e.get, e.all()); err != nil {
		t.Error(err)
	}
}

func TestSecretNeverShowsItsText(t *testing.T) {
	type outer struct {
		Open   config.Secret
		hidden config.Secret
	}
	secret := config.NewSecret("hunter2")
	holder := outer{Open: secret, hidden: secret}
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", secret, "holder", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", secret, "holder", holder)
	all := []string{
		secret.String(), string(encoded), log.String(),
		fmt.Sprint(secret, &secret, holder), fmt.Sprintf("%v %+v %#v %s %q %x %d", secret, secret, secret, secret, secret, secret, secret),
		fmt.Sprintf("%v %+v %#v", holder, holder, holder),
	}
	for _, text := range all {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("shows the text: %s", text)
		}
	}
	if !strings.Contains(string(encoded), "[redacted]") || secret.String() != "[redacted]" {
		t.Errorf("does not say [redacted]: %s %s", encoded, secret)
	}
	if secret.Reveal() != "hunter2" || !secret.IsSet() || (config.Secret{}).IsSet() || holder.hidden.Equal(config.Secret{}) {
		t.Error("does not keep its text")
	}
}

func TestExampleFileIsAccepted(t *testing.T) {
	data, err := os.ReadFile("../../local.settings.json.example")
	if err != nil {
		t.Fatal(err)
	}
	var example struct{ Values env }
	if err := json.Unmarshal(data, &example); err != nil {
		t.Fatal(err)
	}
	e := example.Values.with("FUNCTIONS_CUSTOMHANDLER_PORT", "7071")
	app, err := config.LoadApp(e.get, e.all())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Credential("cyclecloud"); err != nil {
		t.Error(err)
	}
}
