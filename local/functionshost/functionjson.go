package functionshost

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	serviceBusTrigger = "serviceBusTrigger"
	timerTrigger      = "timerTrigger"
	httpTrigger       = "httpTrigger"
)

var (
	functionNameForm = regexp.MustCompile(`(?i)^[a-z][a-z0-9_\-]{0,127}$`)
	bindingNameForm  = regexp.MustCompile(`^(?:[a-zA-Z][a-zA-Z0-9]{0,127}|\$return)$`)
)

// function is one function.json, checked and with its settings filled in.
type function struct {
	name    string
	trigger string // serviceBusTrigger, timerTrigger or httpTrigger
	binding string // name of the trigger binding
	outputs []string
	bus     busBinding
	timer   timerBinding
	web     webBinding
}

type busBinding struct {
	queue, topic, subscription string
	connection                 busConnection
	sessions, autoComplete     bool
	many                       bool
	dataType                   string // "", "string" or "binary"
	maxBatch                   int
}

type timerBinding struct {
	schedule     schedule
	runOnStartup bool
	useMonitor   bool
}

type webBinding struct {
	authLevel string
	methods   []string // upper case; nil is every method
	route     route
	forward   bool
}

// readFunctions finds and checks every function of the app folder
// (HostFunctionMetadataProvider: only immediate subfolders are looked at).
func readFunctions(dir string, host hostFile, env settings, p *problems) []*function {
	entries, err := os.ReadDir(dir)
	if err != nil {
		p.errorf("read app folder: %w", err)
		return nil
	}
	refuseHiddenFunctions(dir, p)
	var found []*function
	names := map[string]string{}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name(), "function.json"))
		if err != nil {
			continue // no function folder; refuseHiddenFunctions reports misplaced ones
		}
		name := e.Name()
		if !functionNameForm.MatchString(name) || strings.EqualFold(name, "host") {
			p.errorf("%s: no legal function name (want %s, and not host)", name, functionNameForm)
			continue
		}
		if other, twice := names[strings.ToLower(name)]; twice {
			p.errorf("%s: differs from %s only in case", name, other)
		}
		names[strings.ToLower(name)] = name
		f := readFunction(name, raw, host, env, filepath.Join(dir, name), p)
		if f == nil || env.disabled(name) || (host.functions != nil && !slices.Contains(host.functions, name)) {
			continue
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		p.errorf("%s: no function to run", dir)
	}
	for _, name := range host.functions {
		if _, ok := names[strings.ToLower(name)]; !ok {
			p.errorf("host.json.functions: %s has no folder", name)
		}
	}
	return found
}

// refuseHiddenFunctions reports each function.json at a depth where the real
// host never looks.
func refuseHiddenFunctions(dir string, p *problems) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "function.json" {
			return err
		}
		rel, _ := filepath.Rel(dir, path) // path comes from dir
		if depth := strings.Count(filepath.ToSlash(rel), "/"); depth != 1 {
			p.errorf("%s: the host looks for function.json only one folder below host.json", rel)
		}
		return nil
	})
	if err != nil {
		p.errorf("walk app folder: %w", err)
	}
}

func readFunction(name string, raw []byte, host hostFile, env settings, dir string, p *problems) *function {
	root := p.object(name+"/function.json", raw)
	f := &function{name: name}
	var bindings []json.RawMessage
	if !root.read("bindings", &bindings) {
		p.errorf("%s.bindings: missing", root.path)
	}
	if script := root.text("scriptFile", ""); script != "" {
		if _, err := os.Stat(filepath.Join(dir, script)); err != nil {
			p.errorf("%s.scriptFile: %w", root.path, err)
		}
	}
	if root.has("retry") {
		p.errorf("%s.retry: this host does not emulate it (and the service dropped it for Service Bus)", root.path)
	}
	off := root.truth("disabled", false)
	root.known("$schema", "entryPoint", "configurationSource", "language", "generatedBy", "excluded")
	root.finish()
	triggers := 0
	used := map[string]bool{}
	for _, b := range bindings {
		s := p.object(root.path+".bindings", b)
		if id := strings.ToLower(s.text("name", "")); id != "" {
			if used[id] {
				p.errorf("%s: binding name %s is used twice", root.path, id)
			}
			used[id] = true
		}
		if f.readBinding(s, host, env) {
			triggers++
		}
	}
	if triggers != 1 {
		p.errorf("%s: %d triggers, want exactly one", root.path, triggers)
	}
	f.web.forward = host.forwarding && f.trigger == httpTrigger && len(f.outputs) == 1
	if off {
		return nil
	}
	return f
}

// readBinding checks one binding and reports whether it is a trigger.
func (f *function) readBinding(s *section, host hostFile, env settings) bool {
	kind, name, direction := s.text("type", ""), s.text("name", ""), s.text("direction", "")
	if !bindingNameForm.MatchString(name) {
		s.p.errorf("%s: binding name %q is not legal (want %s)", s.path, name, bindingNameForm)
	}
	isTrigger := strings.HasSuffix(strings.ToLower(kind), "trigger")
	if isTrigger {
		f.binding = name
		if direction != "in" {
			s.p.errorf("%s: direction %q of trigger %s, want \"in\"", s.path, direction, name)
		}
	}
	switch {
	case strings.EqualFold(kind, serviceBusTrigger):
		f.trigger = serviceBusTrigger
		f.readBusTrigger(s, host, env)
	case strings.EqualFold(kind, timerTrigger):
		f.trigger = timerTrigger
		f.readTimerTrigger(s, env)
	case strings.EqualFold(kind, httpTrigger):
		f.trigger = httpTrigger
		f.readHTTPTrigger(s, env)
	case strings.EqualFold(kind, "http") && direction == "out":
		f.outputs = append(f.outputs, name)
	default:
		s.p.errorf("%s: binding %s of type %q and direction %q is not emulated: only Service Bus, timer and HTTP triggers and the http output are", s.path, name, kind, direction)
		return isTrigger
	}
	s.finish()
	return isTrigger
}

// expanded reads a text field and fills in its settings; an unset one is an
// error, because the real host cannot index such a function.
func (s *section) expanded(key, fallback string, env settings) string {
	v, unset := env.expand(s.text(key, fallback))
	for _, name := range unset {
		s.p.errorf("%s.%s: setting %s is not set", s.path, key, name)
	}
	return v
}

func (f *function) readBusTrigger(s *section, host hostFile, env settings) {
	b := busBinding{
		queue:        s.expanded("queueName", "", env),
		topic:        s.expanded("topicName", "", env),
		subscription: s.expanded("subscriptionName", "", env),
		sessions:     s.truth("isSessionsEnabled", false),
		autoComplete: s.truth("autoCompleteMessages", host.serviceBus.autoComplete),
		dataType:     strings.ToLower(s.text("dataType", "")),
		maxBatch:     s.count("maxMessageBatchSize", host.serviceBus.maxBatch),
	}
	if (b.queue == "") == (b.topic == "" || b.subscription == "") {
		s.p.errorf("%s: want either queueName or topicName and subscriptionName", s.path)
	}
	switch c := s.text("cardinality", "one"); strings.ToLower(c) {
	case "one", "many":
		b.many = strings.EqualFold(c, "many")
	default:
		s.p.errorf("%s.cardinality: %q, want one or many", s.path, c)
	}
	if !slices.Contains([]string{"", "string", "binary"}, b.dataType) {
		s.p.errorf("%s.dataType: %q, want string or binary", s.path, b.dataType)
	}
	name := s.text("connection", "")
	if name == "" {
		name = "ServiceBus"
		s.p.warnf("%s.connection: not set; the scale controller needs it", s.path)
	}
	connection, err := env.connection(name)
	if err != nil {
		s.p.errorf("%s.connection: %w", s.path, err)
	}
	b.connection = connection
	if !host.hasBundle {
		s.p.errorf("%s: serviceBusTrigger needs host.json.extensionBundle", s.path)
	}
	f.bus = b
}

func (f *function) readTimerTrigger(s *section, env settings) {
	f.timer.runOnStartup = s.truth("runOnStartup", false)
	f.timer.useMonitor = s.truth("useMonitor", true)
	text := s.expanded("schedule", "", env)
	sched, err := parseSchedule(text)
	if err != nil {
		s.p.errorf("%s.schedule: %w", s.path, err)
		return
	}
	f.timer.schedule = sched
}

func (f *function) readHTTPTrigger(s *section, env settings) {
	s.read("methods", &f.web.methods)
	for i, m := range f.web.methods {
		f.web.methods[i] = strings.ToUpper(m)
	}
	f.web.authLevel = strings.ToLower(s.text("authLevel", "function"))
	if !slices.Contains([]string{"anonymous", "function", "admin"}, f.web.authLevel) {
		s.p.errorf("%s.authLevel: %q, want anonymous, function or admin", s.path, f.web.authLevel)
	}
	if s.has("webHookType") {
		s.p.errorf("%s.webHookType: this host does not emulate it", s.path)
	}
	r, err := parseRoute(s.expanded("route", f.name, env))
	if err != nil {
		s.p.errorf("%s.route: %w", s.path, err)
	}
	f.web.route = r
}
