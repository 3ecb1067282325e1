package functionshost

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// hostFile is what host.json says, with the defaults of the real host.
type hostFile struct {
	executable      string // absolute
	arguments       []string
	workingDir      string
	stderrIsErrors  bool
	initTimeout     time.Duration
	forwarding      bool
	functionTimeout time.Duration // 0 is none
	functions       []string      // nil is all
	routePrefix     string
	hasBundle       bool
	serviceBus      serviceBusOptions
}

// serviceBusOptions is extensions.serviceBus of host.json.
type serviceBusOptions struct {
	autoComplete       bool
	maxRenewal         time.Duration // below 0 is endless
	maxConcurrentCalls int
	maxSessions        int
	sessionIdle        time.Duration
	tryTimeout         time.Duration
	maxBatch           int
}

// readHostFile reads and checks host.json (functions host: ScriptHost and
// HttpWorkerOptions; extension: ServiceBusOptions).
func readHostFile(dir string, env settings, p *problems) hostFile {
	var h hostFile
	raw, err := os.ReadFile(filepath.Join(dir, "host.json"))
	if err != nil {
		p.errorf("read host.json: %w", err)
		return h
	}
	if !json.Valid(raw) {
		p.errorf("host.json: not valid JSON")
		return h
	}
	root := p.object("host.json", raw)
	if v := root.text("version", ""); v != "2.0" {
		p.errorf("host.json.version: %q, want \"2.0\"", v)
	}
	root.read("functions", &h.functions)
	h.functionTimeout = readFunctionTimeout(root)
	h.readBundle(root)
	h.readCustomHandler(root.child("customHandler"), dir, env)
	extensions := root.child("extensions")
	web := extensions.child("http")
	h.routePrefix = strings.Trim(web.text("routePrefix", "api"), "/")
	web.known("maxOutstandingRequests", "maxConcurrentRequests", "dynamicThrottlesEnabled", "hsts", "customHeaders")
	web.finish()
	h.serviceBus = readServiceBusOptions(extensions.child("serviceBus"))
	extensions.known("blobs", "cosmosDB", "durableTask", "eventGrid", "eventHubs", "queues", "sendGrid", "signalR", "kafka")
	extensions.finish()
	root.known("$schema", "logging", "healthMonitor", "singleton", "watchDirectories", "watchFiles",
		"managedDependency", "aggregator", "telemetryMode", "configurationProfile")
	for _, key := range []string{"concurrency", "retry"} {
		if root.has(key) {
			p.errorf("host.json.%s: this host does not emulate it", key)
		}
	}
	if root.has("httpWorker") {
		p.warnf("host.json.httpWorker: the old name of customHandler, ignored")
	}
	root.finish()
	return h
}

func readFunctionTimeout(root *section) time.Duration {
	const flexDefault = 30 * time.Minute
	var text string
	if !root.read("functionTimeout", &text) {
		return flexDefault
	}
	if text == "-1" {
		return 0
	}
	d, err := parseTimeSpan(text)
	if err == nil && d < time.Second {
		root.p.errorf("host.json.functionTimeout: %q is below one second", text)
	}
	if err != nil {
		root.p.errorf("host.json.functionTimeout: %w", err)
	}
	return d
}

func (h *hostFile) readBundle(root *section) {
	if !root.has("extensionBundle") {
		return
	}
	bundle := root.child("extensionBundle")
	id, version := bundle.text("id", ""), bundle.text("version", "")
	if !strings.HasPrefix(id, "Microsoft.Azure.Functions.ExtensionBundle") {
		root.p.errorf("host.json.extensionBundle.id: %q is no extension bundle", id)
	}
	if !strings.HasPrefix(version, "[4.") && !strings.HasPrefix(version, "[4,") {
		root.p.errorf("host.json.extensionBundle.version: %q, want a 4.x range such as \"[4.*, 5.0.0)\"", version)
	}
	h.hasBundle = true
	bundle.finish()
}

func (h *hostFile) readCustomHandler(c *section, dir string, env settings) {
	if c.raw == nil {
		c.p.errorf("host.json.customHandler: missing")
		return
	}
	d := c.child("description")
	h.stderrIsErrors = d.truth("useStdErrorStreamForErrorsOnly", true)
	h.workingDir = dir
	if w := d.text("workingDirectory", ""); filepath.IsAbs(w) {
		h.workingDir = w
	} else if w != "" {
		h.workingDir = filepath.Join(dir, w)
	}
	var arguments []string
	d.read("arguments", &arguments)
	line, unset := env.expand(strings.Join(arguments, " "))
	for _, name := range unset {
		c.p.warnf("host.json.customHandler.description.arguments: setting %s is not set and becomes empty", name)
	}
	if strings.ContainsAny(line, `"'\`) {
		c.p.errorf("host.json.customHandler.description.arguments: quotes and backslashes are not emulated")
	}
	// The real host joins the arguments with blanks, unquoted, and lets the
	// system split them again.
	h.arguments = strings.Fields(line)
	h.executable = findExecutable(d.text("defaultExecutablePath", ""), dir, env, c.p)
	for _, key := range []string{"defaultWorkerPath", "workerDirectory", "workerArguments"} {
		if d.has(key) {
			c.p.errorf("%s.%s: this host does not emulate it", d.path, key)
		}
	}
	d.known("language", "extensions", "defaultRuntimeVersion")
	d.finish()
	if t := c.text("type", "http"); !strings.EqualFold(t, "http") && !strings.EqualFold(t, "none") {
		c.p.errorf("host.json.customHandler.type: %q, want \"http\"", t)
	}
	h.forwarding = c.truth("enableForwardingHttpRequest", false)
	if c.truth("enableProxyingHttpRequest", false) {
		c.p.errorf("host.json.customHandler.enableProxyingHttpRequest: this host does not emulate it")
	}
	h.initTimeout = c.span("initializationTimeout", 30*time.Second)
	for _, key := range []string{"port", "http"} {
		if c.has(key) {
			c.p.errorf("host.json.customHandler.%s: this host does not emulate it", key)
		}
	}
	c.finish()
}

// findExecutable applies the rule of HttpWorkerDescription: a relative path is
// joined to the script root. The real host would go on to PATH; an app that is
// to run in Azure ships its executable, so here it must be in the folder.
func findExecutable(text, dir string, env settings, p *problems) string {
	const key = "host.json.customHandler.description.defaultExecutablePath"
	path, unset := env.expand(text)
	for _, name := range unset {
		p.errorf("%s: setting %s is not set", key, name)
	}
	if path == "" {
		p.errorf("%s: missing", key)
		return ""
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		p.errorf("%s: %w", key, err)
	case !info.Mode().IsRegular():
		p.errorf("%s: %s is no regular file", key, path)
	case info.Mode().Perm()&0o111 == 0:
		p.errorf("%s: %s is not executable (mode %v; the zip must carry the x bit)", key, path, info.Mode().Perm())
	}
	return path
}

func readServiceBusOptions(s *section) serviceBusOptions {
	retry := s.child("clientRetryOptions")
	o := serviceBusOptions{
		autoComplete:       s.truth("autoCompleteMessages", true),
		maxRenewal:         s.span("maxAutoLockRenewalDuration", 5*time.Minute),
		maxConcurrentCalls: s.count("maxConcurrentCalls", 16*runtime.NumCPU()),
		maxSessions:        s.count("maxConcurrentSessions", 8),
		tryTimeout:         retry.span("tryTimeout", time.Minute),
		maxBatch:           s.count("maxMessageBatchSize", 1000),
	}
	o.sessionIdle = s.span("sessionIdleTimeout", o.tryTimeout)
	for name, d := range map[string]time.Duration{"sessionIdleTimeout": o.sessionIdle, "clientRetryOptions.tryTimeout": o.tryTimeout} {
		if d <= 0 {
			s.p.errorf("%s.%s: must be above zero", s.path, name)
		}
	}
	var prefetch int
	if s.read("prefetchCount", &prefetch); prefetch != 0 {
		s.p.errorf("%s.prefetchCount: only 0 is emulated", s.path)
	}
	for _, key := range []string{"maxConcurrentCallsPerSession", "minMessageBatchSize"} {
		if s.count(key, 1) != 1 {
			s.p.errorf("%s.%s: only 1 is emulated", s.path, key)
		}
	}
	if s.truth("enableCrossEntityTransactions", false) {
		s.p.errorf("%s.enableCrossEntityTransactions: this host does not emulate it", s.path)
	}
	retry.known("mode", "maxRetries", "delay", "maxDelay")
	retry.finish()
	s.known("transportType", "webProxy", "maxBatchWaitTime")
	s.finish()
	return o
}
