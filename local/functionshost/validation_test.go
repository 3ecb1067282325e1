package functionshost

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	webFunction   = `{"bindings":[{"type":"httpTrigger","direction":"in","name":"req","route":"a/{*path}","methods":["get"]},{"type":"http","direction":"out","name":"res"}]}`
	timerFunction = `{"bindings":[{"type":"timerTrigger","direction":"in","name":"timer","schedule":"0 */5 * * * *"}]}`
)

func TestGoodAppHasNoWarnings(t *testing.T) {
	a := newApp(t, goodHost, map[string]string{"work": workFunction, "sweep": timerFunction, "web": webFunction})
	h, err := New(a.config())
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Warnings()) != 0 {
		t.Errorf("warnings %q", h.Warnings())
	}
}

func TestRelativeAppFolder(t *testing.T) {
	a := oneFunction(t)
	t.Chdir(filepath.Dir(a.dir))
	a.dir = filepath.Base(a.dir)
	a.run(nil).starts(t, 1)
}

func TestProblemsOfAnApp(t *testing.T) {
	binding := func(fields string) map[string]string {
		return map[string]string{"work": `{"bindings":[{"direction":"in","name":"msg",` + fields + `}]}`}
	}
	host := func(old, replacement string) string { return strings.Replace(goodHost, old, replacement, 1) }
	for _, c := range []struct {
		name      string
		host      string
		functions map[string]string
		change    func(t *testing.T, a *app)
		want      string
	}{
		{name: "host.json is missing", change: func(_ *testing.T, a *app) { os.Remove(filepath.Join(a.dir, "host.json")) }, want: "read host.json"},
		{name: "host.json is no JSON", host: `{`, want: "not valid JSON"},
		{name: "version is 1.0", host: host(`"2.0"`, `"1.0"`), want: "host.json.version"},
		{name: "customHandler is missing", host: host(`customHandler`, `customHendler`), want: "host.json.customHandler: missing"},
		{name: "the executable is missing", host: host(`"handler"`, `"hendler"`), want: "no such file"},
		{name: "the executable has no x bit", want: "not executable", change: func(t *testing.T, a *app) {
			os.Remove(filepath.Join(a.dir, "handler"))
			a.write("handler", "x")
		}},
		{name: "the executable is a folder", host: host(`"handler"`, `"work"`), want: "no regular file"},
		{name: "functionTimeout is not a time span", host: host(`00:00:30`, `30s`), want: "functionTimeout"},
		{name: "functionTimeout is below a second", host: host(`00:00:30`, `00:00:00`), want: "below one second"},
		{name: "the extension bundle is missing", host: host(`extensionBundle`, `bundle`), want: "extensionBundle"},
		{name: "the extension bundle is of version 3", host: host(`[4.*, 5.0.0)`, `[3.*, 4.0.0)`), want: "extensionBundle.version"},
		{name: "prefetchCount is set", host: host(`"maxConcurrentSessions":4`, `"prefetchCount":10`), want: "prefetchCount"},
		{name: "sessions run calls in parallel", host: host(`"maxConcurrentSessions":4`, `"maxConcurrentCallsPerSession":2`), want: "maxConcurrentCallsPerSession"},
		{name: "a number is negative", host: host(`"maxConcurrentSessions":4`, `"maxConcurrentSessions":-4`), want: "below 1"},
		{name: "a number is text", host: host(`"maxConcurrentSessions":4`, `"maxConcurrentSessions":"4"`), want: "maxConcurrentSessions"},
		{name: "proxying is on", host: host(`"enableForwardingHttpRequest"`, `"enableProxyingHttpRequest"`), want: "enableProxyingHttpRequest"},
		{name: "host.json lists a function without folder", host: host(`"version"`, `"functions":["other"],"version"`), want: "other has no folder"},
		{name: "no function", functions: map[string]string{}, want: "no function to run"},
		{name: "a function lies two folders deep", functions: map[string]string{"functions/deep": workFunction, "work": workFunction}, want: "functions/deep/function.json"},
		{name: "function.json lies beside host.json", functions: map[string]string{".": workFunction, "work": workFunction}, want: "one folder below"},
		{name: "a folder name begins with a digit", functions: map[string]string{"1work": workFunction}, want: "no legal function name"},
		{name: "a folder is named host", functions: map[string]string{"Host": workFunction}, want: "no legal function name"},
		{name: "two folders differ in case", functions: map[string]string{"Work": workFunction, "work": workFunction}, want: "only in case"},
		{name: "function.json is no object", functions: map[string]string{"work": `[]`}, want: "want a JSON object"},
		{name: "no trigger", functions: map[string]string{"work": `{"bindings":[]}`}, want: "0 triggers"},
		{name: "two triggers", functions: map[string]string{"work": `{"bindings":[{"type":"timerTrigger","direction":"in","name":"a","schedule":"0 * * * * *"},{"type":"timerTrigger","direction":"in","name":"b","schedule":"0 * * * * *"}]}`}, want: "2 triggers"},
		{name: "a binding name has an underscore", functions: map[string]string{"work": `{"bindings":[{"type":"timerTrigger","direction":"in","name":"my_timer","schedule":"0 * * * * *"}]}`}, want: "my_timer"},
		{name: "a trigger goes out", functions: map[string]string{"work": `{"bindings":[{"type":"timerTrigger","direction":"out","name":"t","schedule":"0 * * * * *"}]}`}, want: "direction"},
		{name: "a setting is not set", functions: binding(`"type":"serviceBusTrigger","queueName":"%NO_SUCH%","connection":"SB"`), want: "NO_SUCH is not set"},
		{name: "no queue", functions: binding(`"type":"serviceBusTrigger","connection":"SB"`), want: "either queueName or topicName"},
		{name: "a queue and a topic", functions: binding(`"type":"serviceBusTrigger","queueName":"q","topicName":"t","subscriptionName":"s","connection":"SB"`), want: "either queueName or topicName"},
		{name: "the connection is not set", functions: binding(`"type":"serviceBusTrigger","queueName":"q","connection":"OTHER"`), want: "OTHER is not set"},
		{
			name: "an identity without endpoint", functions: binding(`"type":"serviceBusTrigger","queueName":"q","connection":"ID"`), want: "IDENTITY_ENDPOINT and IDENTITY_HEADER",
			change: func(_ *testing.T, a *app) {
				a.settings["ID__fullyQualifiedNamespace"] = "ns"
			},
		},
		{
			name: "a kind of credential that is not emulated", functions: binding(`"type":"serviceBusTrigger","queueName":"q","connection":"ID"`), want: "only managedidentity",
			change: func(_ *testing.T, a *app) {
				a.settings["ID__fullyQualifiedNamespace"] = "ns"
				a.settings["IDENTITY_ENDPOINT"] = "http://127.0.0.1:1/msi/token"
				a.settings["IDENTITY_HEADER"] = "secret"
				a.settings["ID__credential"] = "workloadidentity"
			},
		},
		{
			name: "a client id that the host would overlook", functions: binding(`"type":"serviceBusTrigger","queueName":"q","connection":"ID"`), want: "ID__clientId has no effect",
			change: func(_ *testing.T, a *app) {
				a.settings["ID__fullyQualifiedNamespace"] = "ns"
				a.settings["IDENTITY_ENDPOINT"] = "http://127.0.0.1:1/msi/token"
				a.settings["IDENTITY_HEADER"] = "secret"
				a.settings["ID__clientId"] = "x"
			},
		},
		{
			name: "authorities that are not there", functions: binding(`"type":"serviceBusTrigger","queueName":"q","connection":"ID"`), want: "setting SSL_CERT_FILE",
			change: func(t *testing.T, a *app) {
				a.settings["ID__fullyQualifiedNamespace"] = "ns"
				a.settings["IDENTITY_ENDPOINT"] = "http://127.0.0.1:1/msi/token"
				a.settings["IDENTITY_HEADER"] = "secret"
				a.settings["SSL_CERT_FILE"] = filepath.Join(t.TempDir(), "no.pem")
			},
		},
		{
			name: "authorities that are none", functions: binding(`"type":"serviceBusTrigger","queueName":"q","connection":"ID"`), want: "holds no certificate",
			change: func(_ *testing.T, a *app) {
				a.settings["ID__fullyQualifiedNamespace"] = "ns"
				a.settings["IDENTITY_ENDPOINT"] = "http://127.0.0.1:1/msi/token"
				a.settings["IDENTITY_HEADER"] = "secret"
				a.settings["SSL_CERT_FILE"] = filepath.Join(a.dir, "host.json")
			},
		},
		{name: "the connection is something else", functions: binding(`"type":"serviceBusTrigger","queueName":"q","connection":"QUEUE"`), want: "no Service Bus connection string"},
		{name: "the data type is unknown", functions: binding(`"type":"serviceBusTrigger","queueName":"q","connection":"SB","dataType":"bytes"`), want: "dataType"},
		{name: "the cardinality is unknown", functions: binding(`"type":"serviceBusTrigger","queueName":"q","connection":"SB","cardinality":"few"`), want: "cardinality"},
		{name: "a retry policy is set", functions: map[string]string{"work": strings.Replace(workFunction, "{", `{"retry":{},`, 1)}, want: "retry"},
		{name: "another trigger", functions: binding(`"type":"queueTrigger","queueName":"q"`), want: "queueTrigger"},
		{name: "a Service Bus output", functions: map[string]string{"work": strings.Replace(workFunction, "[", `[{"type":"serviceBus","direction":"out","name":"out","queueName":"q"},`, 1)}, want: "is not emulated"},
		{name: "a binding name is used twice", functions: map[string]string{"work": strings.Replace(workFunction, "[", `[{"type":"http","direction":"out","name":"msg"},`, 1)}, want: "used twice"},
		{name: "the schedule is a time span", functions: binding(`"type":"timerTrigger","schedule":"00:05:00"`), want: "schedule"},
		{name: "the route is reserved", functions: binding(`"type":"httpTrigger","route":"admin/x"`), want: "reserved"},
		{name: "the route has an unknown constraint", functions: binding(`"type":"httpTrigger","route":"{x:regex}"`), want: "constraint"},
		{name: "a catch-all is not last", functions: binding(`"type":"httpTrigger","route":"{*x}/y"`), want: "last"},
		{name: "the auth level is unknown", functions: binding(`"type":"httpTrigger","authLevel":"user"`), want: "authLevel"},
		{name: "two functions share a route", functions: map[string]string{"a": webFunction, "b": webFunction}, want: "same route"},
		{name: "the script file is missing", functions: map[string]string{"work": strings.Replace(workFunction, "{", `{"scriptFile":"../no",`, 1)}, want: "scriptFile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.host == "" {
				c.host = goodHost
			}
			if c.functions == nil {
				c.functions = map[string]string{"work": workFunction}
			}
			a := newApp(t, c.host, c.functions)
			if c.change != nil {
				c.change(t, a)
			}
			_, err := New(a.config())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "a2V5") {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		a := newApp(t, host(`"2.0"`, `"1.0"`), map[string]string{"1work": workFunction, "sweep": strings.Replace(timerFunction, "0 */5", "0 99", 1)})
		_, err := New(a.config())
		for _, want := range []string{"host.json.version", "1work", "schedule"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q is missing from: %v", want, err)
			}
		}
	})
}

func TestQuestionableApps(t *testing.T) {
	for _, c := range []struct{ name, host, function, want string }{
		{"an unknown field of host.json", strings.Replace(goodHost, `"sessionIdleTimeout"`, `"sessionIdleTimeOuts":"x","sessionIdleTimeout"`, 1), workFunction, "serviceBus.sessionIdleTimeOuts"},
		{"an unknown field of a binding", goodHost, strings.Replace(workFunction, `"isSessionsEnabled"`, `"isSessionEnabled":true,"isSessionsEnabled"`, 1), "isSessionEnabled"},
		{"an unknown field of function.json", goodHost, strings.Replace(workFunction, `{`, `{"bindigs":[],`, 1), "bindigs"},
		{"an argument without its setting", strings.Replace(goodHost, `"defaultExecutablePath"`, `"arguments":["%NOT_SET%"],"defaultExecutablePath"`, 1), workFunction, "NOT_SET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := New(newApp(t, c.host, map[string]string{"work": c.function}).config())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(h.Warnings(), "\n"); !strings.Contains(got, c.want) {
				t.Errorf("warnings %q, want one about %s", got, c.want)
			}
		})
	}
}

func TestDisabledFunctions(t *testing.T) {
	functions := map[string]string{"work": workFunction, "sweep": timerFunction, "web": strings.Replace(webFunction, "{", `{"disabled":true,`, 1)}
	for _, c := range []struct{ name, host, setting, want string }{
		{"function.json disables one", goodHost, "", "sweep work"},
		{"a setting disables another", goodHost, "AzureWebJobs.sweep.Disabled", "work"},
		{"the setting may have underscores", goodHost, "AzureWebJobs_sweep_Disabled", "work"},
		{"host.json names what to run", strings.Replace(goodHost, "{", `{"functions":["sweep"],`, 1), "", "sweep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newApp(t, c.host, functions)
			if c.setting != "" {
				a.settings[c.setting] = "true"
			}
			h, err := New(a.config())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(h.Stats().Instances[0].Functions, " "); got != c.want {
				t.Errorf("functions %q, want %q", got, c.want)
			}
		})
	}
}

func TestFlexPlacement(t *testing.T) {
	a := newApp(t, goodHost, map[string]string{
		"work": workFunction, "sweep": timerFunction, "web": webFunction,
		"web2": strings.Replace(webFunction, "a/{*path}", "b", 1),
	})
	cfg := a.config()
	cfg.Flex, cfg.Instances = true, map[string]int{"work": 2}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, in := range h.Stats().Instances {
		got = append(got, in.Name+"="+strings.Join(in.Functions, "+"))
	}
	if want := "sweep-1=sweep work-1=work work-2=work http-1=web+web2"; strings.Join(got, " ") != want {
		t.Errorf("instances %q, want %q", got, want)
	}
	cfg.Instances = map[string]int{"sweep": 3}
	if h, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	owners := 0
	for _, in := range h.instances {
		if in.serves("sweep") && h.ownsTimer(in, in.functions[0]) {
			owners++
		}
	}
	if owners != 1 {
		t.Errorf("%d of three instances own the timer, want one", owners)
	}
	for name, n := range map[string]int{"web": 2, "nobody": 1, "work": 0} {
		cfg.Instances = map[string]int{name: n}
		if _, err := New(cfg); err == nil {
			t.Errorf("%d instances of %s were accepted", n, name)
		}
	}
}

func TestTimeSpans(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		bad  bool
	}{
		{text: "00:05:00", want: 5 * time.Minute},
		{text: "1.02:03:04", want: 26*time.Hour + 3*time.Minute + 4*time.Second},
		{text: "00:00:00.5", want: 500 * time.Millisecond},
		{text: "-00:00:00.0010000", want: -time.Millisecond},
		{text: "10:30", want: 10*time.Hour + 30*time.Minute},
		{text: "24:00:00", bad: true},
		{text: "00:60:00", bad: true},
		{text: "5m", bad: true},
		{text: "", bad: true},
		{text: "00:00:01x", bad: true},
	} {
		got, err := parseTimeSpan(c.text)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}
