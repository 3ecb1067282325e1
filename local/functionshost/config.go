// Package functionshost answers one question: what would Azure Functions do with
// this packaged app folder? It starts the custom handler of host.json, feeds it
// from Service Bus queues, timers and HTTP exactly as the host of Functions v4
// (4.1037) does, and is strict where the real host hangs or guesses. README.md
// lists every behaviour with its source. It must never be shipped, never import
// the product, and never be more forgiving than the real host.
package functionshost

import (
	"log/slog"
	"net"
	"time"
)

// hostVersion is the version the host claims on every request it sends.
const hostVersion = "4.1037.0.0"

// Config says which app to host and how. AppDir and Settings are required; the
// zero value of every other field is a working default.
type Config struct {
	// AppDir is the packaged app: host.json, the executable and one folder with
	// function.json per function, directly below it.
	AppDir string
	// Settings are the app settings. They fill %NAME% in the JSON files and are
	// the environment of the handler, which inherits only PATH and HOME besides.
	Settings map[string]string
	// Listener is the public HTTP front. Without it HTTP functions and the admin
	// routes cannot be reached. The host closes it.
	Listener net.Listener
	// ServiceBusAddress is host:port where the namespaces of identity connections
	// are reached. It stands in for DNS: in Azure a namespace is found by its name
	// at port 5671. Empty is just that.
	ServiceBusAddress string
	// Keys open functions of authLevel function and admin, and the admin routes.
	Keys Keys

	// Flex runs one host with one handler process per function, all HTTP
	// functions together, as the Flex Consumption plan does. Otherwise one
	// process serves every function.
	Flex bool
	// Instances is how many hosts a function gets when Flex is set; a function
	// that is not named gets one. A timer fires on one of them only.
	Instances map[string]int
	// HostRestartDelay is what the platform does after a host stopped because its
	// handler crashed three times: 0 ends Run with ErrHostStopped, more starts a
	// new host with a new port after that delay.
	HostRestartDelay time.Duration
	// DrainTimeout is how long Run waits for running calls once its context has
	// ended, before the handler is killed. Default 10 s, as in the real host.
	DrainTimeout time.Duration
	// StateDir keeps the status of timers (last and next run) between runs of the
	// host. Empty keeps it in memory.
	StateDir string

	// HangOnEmptyReply emulates what the real host does with an empty 2xx reply:
	// the call hangs until functionTimeout, which kills the handler. Unset, such a
	// reply fails the call at once and loudly.
	HangOnEmptyReply bool
	// SingleEncodedData sends JSON text in Data encoded once instead of twice, as
	// the vendor's documentation shows it. The source of the host encodes twice.
	SingleEncodedData bool

	// Logger gets the host's own messages and the lines of the handler. Default:
	// discard.
	Logger *slog.Logger
	// OnLog is called for each line that a handler writes. It must not block.
	OnLog func(LogLine)
	// OnInvocation is called after each invocation. It must not block.
	OnInvocation func(Invocation)

	// now replaces the clock of the crash counter in tests.
	now func() time.Time
	// connect replaces Service Bus in tests.
	connect connectFunc
}

// Keys are the access keys of the app. An empty key opens nothing.
type Keys struct {
	// Function opens functions of authLevel function, in the header
	// x-functions-key or the query parameter code.
	Function string
	// Master opens everything, the admin routes included.
	Master string
}

// LogLine is one line that a handler wrote to stdout or stderr.
type LogLine struct {
	// Instance names the host instance, for example "queue_pressure-1".
	Instance string
	// PID is the handler's process id.
	PID int
	// Stream is "stdout" or "stderr".
	Stream string
	// Level is the level that Application Insights would show.
	Level slog.Level
	// Text is the line without its newline, cut at 64 KiB.
	Text string
}

// Invocation describes one finished call of a function.
type Invocation struct {
	// Function is the function's name, Instance the host instance that ran it.
	Function, Instance string
	// ID is the invocation id that the handler saw.
	ID string
	// Start and Duration bound the call, from dispatch to validated reply.
	Start    time.Time
	Duration time.Duration
	// Trigger is serviceBusTrigger, timerTrigger, httpTrigger or manual.
	Trigger string
	// MessageID, SessionID and DeliveryCount are those of the message, if any
	// (the first one of a batch).
	MessageID, SessionID string
	DeliveryCount        uint32
	// Status is the handler's HTTP status, 0 without an answer.
	Status int
	// Err is why the call failed, nil if it succeeded.
	Err error
}

// OK reports whether the invocation succeeded.
func (i Invocation) OK() bool { return i.Err == nil }

func (c Config) withDefaults() Config {
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnLog == nil {
		c.OnLog = func(LogLine) {}
	}
	if c.OnInvocation == nil {
		c.OnInvocation = func(Invocation) {}
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.connect == nil {
		c.connect = connectServiceBus
	}
	return c
}
