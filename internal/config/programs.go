package config

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"
)

// App holds the settings of cmd/handler, the Functions app.
type App struct {
	// Policy is a policy file or a directory of them; a relative setting was
	// joined to Root.
	Policy     string
	ServiceBus ServiceBus
	Tables     Tables
	// QueuePressure, ScaleDown and Rejected are physical queue names.
	QueuePressure, ScaleDown, Rejected string
	// CommandsPrefix and a cluster's name make the name of its command queue.
	CommandsPrefix string
	// ReclaimSchedule is read by the host; the app only checks it.
	ReclaimSchedule string
	// Credentials by the name that policies use.
	Credentials map[string]Credential
	// Deadline ends the work of one invocation. It is well below the host's
	// functionTimeout, which kills every call in the process.
	Deadline time.Duration
	// Port is where the host expects the handler, on 127.0.0.1.
	Port     int
	LogLevel slog.Level
	// Root is the directory of host.json.
	Root string
}

// Agent holds the settings of cmd/burst-agent.
type Agent struct {
	// Policy is a policy file or a directory of them.
	Policy string
	// Spool is the directory that burst-hook writes to.
	Spool string
	// SlurmConf is handed to every Slurm command.
	SlurmConf string
	// SlurmBin is the directory of squeue, sinfo and scontrol; empty for PATH.
	SlurmBin      string
	ServiceBus    ServiceBus
	QueuePressure string
	// CommandsPrefix and the cluster's name make the name of its command queue.
	CommandsPrefix string
	// Heartbeat is the longest pause between two snapshots.
	Heartbeat time.Duration
	// Poll is the pause between two cheap looks at Slurm.
	Poll     time.Duration
	LogLevel slog.Level
}

// Ctl holds the settings of cmd/burstctl.
type Ctl struct {
	Tables Tables
	// Policy is a policy file or a directory of them; not every command reads it.
	Policy string
}

const (
	defaultSitePolicy = "/etc/slurmburst/policy.yaml"
	wantLevel         = "debug, info, warn or error"
	wantQueue         = "a queue's name"
	wantPrefix        = "the beginning of a queue's name"
	aboutPolicy       = "A policy file, or a directory of *.yaml, one per Slurm cluster."
	aboutLevel        = "The lowest level that is logged."
	aboutCommands     = "Put before a cluster's name to give the name of its command queue."
	aboutPressure     = "The queue of snapshots, on which queue_pressure is triggered."
)

var (
	appTable = slices.Concat([]setting[App]{
		{
			name: "BURST_POLICY", def: "policy.yaml", defNote: "in FUNCTIONS_APP_ROOT_PATH, as every relative path", want: "a path", about: aboutPolicy,
			parse: func(a *App, v string) error { return path(&a.Policy, v) },
		},
	}, busSettings(func(a *App) *ServiceBus { return &a.ServiceBus }), tablesSettings(func(a *App) *Tables { return &a.Tables }), []setting[App]{
		{
			name: "BURST_QUEUE_PRESSURE", def: "queue-pressure", want: wantQueue, about: aboutPressure,
			parse: func(a *App, v string) error { return matching(&a.QueuePressure, queueForm, v) },
		},
		{
			name: "BURST_SCALE_DOWN", def: "scale-down", want: wantQueue,
			about: "The queue of scheduled timers, on which scale_down is triggered.",
			parse: func(a *App, v string) error { return matching(&a.ScaleDown, queueForm, v) },
		},
		{
			name: "BURST_REJECTED", def: "rejected", want: wantQueue,
			about: "The queue for messages that can never succeed.",
			parse: func(a *App, v string) error { return matching(&a.Rejected, queueForm, v) },
		},
		{
			name: "BURST_COMMANDS_PREFIX", def: "slurm-commands-", want: wantPrefix, about: aboutCommands,
			parse: func(a *App, v string) error { return matching(&a.CommandsPrefix, prefixForm, v) },
		},
		{
			name: "BURST_RECLAIM_SCHEDULE", def: "0 */5 * * * *", want: "NCRONTAB such as 0 */5 * * * *, in UTC",
			about: "When reclaim_idle runs; the host reads it, so it must be an app setting.",
			parse: func(a *App, v string) error { return schedule(&a.ReclaimSchedule, v) },
		},
		{
			name: "BURST_DEADLINE", def: "60s", want: fmt.Sprintf(wantDuration, "1s", "4m"),
			about: "Ends the work of one invocation, well before the host's functionTimeout of 5 minutes.",
			parse: func(a *App, v string) error { return duration(&a.Deadline, time.Second, 4*time.Minute, v) },
		},
		{
			name: "BURST_LOG_LEVEL", def: "info", want: wantLevel, about: aboutLevel,
			parse: func(a *App, v string) error { return level(&a.LogLevel, v) },
		},
		{
			name: "FUNCTIONS_CUSTOMHANDLER_PORT", required: true, want: "a port from 1 to 65535",
			about: "Set by the Functions host: where it expects the handler.",
			parse: func(a *App, v string) error { return port(&a.Port, v) },
		},
		{
			name: "FUNCTIONS_APP_ROOT_PATH", def: ".", want: "a path",
			about: "Set by the Functions host: the directory of host.json.",
			parse: func(a *App, v string) error { return path(&a.Root, v) },
		},
	})

	agentTable = slices.Concat([]setting[Agent]{
		{
			name: "BURST_POLICY", def: defaultSitePolicy, want: "a path", about: aboutPolicy,
			parse: func(a *Agent, v string) error { return path(&a.Policy, v) },
		},
		{
			name: "BURST_SPOOL", def: "/var/lib/slurmburst/spool", want: "an absolute path",
			about: "The directory in which burst-hook leaves its files.",
			parse: func(a *Agent, v string) error { return absolute(&a.Spool, v) },
		},
		{
			name: "SLURM_CONF", def: "/etc/slurm/slurm.conf", want: "an absolute path",
			about: "Slurm's configuration, handed to every Slurm command.",
			parse: func(a *Agent, v string) error { return absolute(&a.SlurmConf, v) },
		},
		{
			name: "BURST_SLURM_BIN", defNote: "found on PATH", want: "an absolute path",
			about: "The directory of squeue, sinfo and scontrol.",
			parse: func(a *Agent, v string) error { return absolute(&a.SlurmBin, v) },
		},
	}, busSettings(func(a *Agent) *ServiceBus { return &a.ServiceBus }), []setting[Agent]{
		{
			name: "BURST_QUEUE_PRESSURE", def: "queue-pressure", want: wantQueue, about: aboutPressure,
			parse: func(a *Agent, v string) error { return matching(&a.QueuePressure, queueForm, v) },
		},
		{
			name: "BURST_COMMANDS_PREFIX", def: "slurm-commands-", want: wantPrefix, about: aboutCommands,
			parse: func(a *Agent, v string) error { return matching(&a.CommandsPrefix, prefixForm, v) },
		},
		{
			name: "BURST_HEARTBEAT", def: "30s", want: fmt.Sprintf(wantDuration, "1s", "60s"),
			about: "The longest pause between two snapshots, give or take 20 %; a snapshot may only act for 90 s.",
			parse: func(a *Agent, v string) error { return duration(&a.Heartbeat, time.Second, time.Minute, v) },
		},
		{
			name: "BURST_POLL", def: "5s", want: fmt.Sprintf(wantDuration, "100ms", "60s"),
			about: "The pause between two cheap looks at Slurm, which decide whether to take a snapshot.",
			parse: func(a *Agent, v string) error { return duration(&a.Poll, 100*time.Millisecond, time.Minute, v) },
		},
		{
			name: "BURST_LOG_LEVEL", def: "info", want: wantLevel, about: aboutLevel,
			parse: func(a *Agent, v string) error { return level(&a.LogLevel, v) },
		},
	})

	ctlTable = slices.Concat(tablesSettings(func(c *Ctl) *Tables { return &c.Tables }), []setting[Ctl]{
		{
			name: "BURST_POLICY", def: defaultSitePolicy, want: "a path", about: aboutPolicy,
			parse: func(c *Ctl, v string) error { return path(&c.Policy, v) },
		},
	})
)

// LoadApp reads the settings of the Functions app. The error, of kind
// fault.Invalid, tells all problems at once, one a line, each as
// "NAME: what is wrong (got X, want Y)".
func LoadApp(getenv func(string) string, environ []string) (App, error) {
	app, errs := load(appTable, getenv, environ)
	var credentialErrs []error
	app.Credentials, credentialErrs = credentials(getenv, environ)
	errs = append(errs, app.ServiceBus.check(getenv)...)
	errs = append(errs, app.Tables.check(getenv)...)
	if !filepath.IsAbs(app.Policy) {
		app.Policy = filepath.Join(app.Root, app.Policy)
	}
	return result(app, append(errs, credentialErrs...))
}

// LoadAgent reads the settings of burst-agent; errors are as LoadApp's.
func LoadAgent(getenv func(string) string, environ []string) (Agent, error) {
	agent, errs := load(agentTable, getenv, environ)
	return result(agent, append(errs, agent.ServiceBus.check(getenv)...))
}

// LoadCtl reads the settings of burstctl; errors are as LoadApp's.
func LoadCtl(getenv func(string) string, environ []string) (Ctl, error) {
	ctl, errs := load(ctlTable, getenv, environ)
	return result(ctl, append(errs, ctl.Tables.check(getenv)...))
}
