package servicebusemu

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"time"
)

// Defaults that New fills in, and the limits of the service that it enforces
// (learn.microsoft.com/azure/service-bus-messaging/service-bus-quotas, read
// 2026-11). Standard tier: the smaller one, so that nothing works only here.
const (
	DefaultLockDuration     = 30 * time.Second
	DefaultMaxDeliveryCount = 10
	DefaultMaxMessageSize   = 256 << 10
	DefaultMaxSize          = 1 << 30

	maxLockDuration = 5 * time.Minute
	maxMessageSize  = 100 << 20
	maxNameLength   = 260
)

// QueueConfig describes one queue. The zero value of every field but Name means
// the default.
type QueueConfig struct {
	// Name is compared without regard to case. At most 260 characters: letters,
	// digits, and . _ - / inside.
	Name string
	// RequiresSession makes senders name a session and receivers accept one.
	RequiresSession bool
	// LockDuration is how long a message, or a session, is held without renewal.
	// Default 30 s, at most 5 min.
	LockDuration time.Duration
	// MaxDeliveryCount is how many deliveries may fail before a message goes to
	// the dead-letter sub-queue. Default 10.
	MaxDeliveryCount int
	// DefaultTTL bounds the time to live of every message. 0 means no bound.
	DefaultTTL time.Duration
	// DeadLetterOnExpiration moves expired messages to the dead-letter sub-queue
	// instead of dropping them.
	DeadLetterOnExpiration bool
	// DuplicateDetection is the window in which a second message with the same
	// MessageID is accepted and dropped. 0 means off.
	DuplicateDetection time.Duration
	// MaxMessageSize is in bytes and also bounds a whole batch. Default 256 KiB,
	// as in the Standard tier.
	MaxMessageSize int
	// MaxSize bounds the bytes held by the queue with its dead-letter sub-queue;
	// beyond it sends are refused. Default 1 GiB.
	MaxSize int
}

// Config configures a Server.
type Config struct {
	Queues []QueueConfig
	// Logger receives connections at debug level and broken peers at warning
	// level. Nil discards.
	Logger *slog.Logger
	// Data is a directory in which the messages survive the server: each queue has
	// a file there, to which every change is appended before anybody is told of it.
	// One server at a time may use it. Empty keeps everything in memory.
	Data string
	// Fsync also waits for the disk, so that what was answered survives a power
	// failure too, not only the end of the process.
	Fsync bool
	// TLS, if not nil, is spoken on every listener from the first byte, as the
	// service does on port 5671.
	TLS *tls.Config
	// Auth says whose tokens are good. Nil accepts every token, also none.
	Auth *Auth
	// Faults are injected from the start, by queue; see SetFaults.
	Faults map[string]Faults
	// Seed makes the choice of faults repeatable for equal sequences of operations.
	Seed uint64
	// Clock rules locks, schedules and time to live. Nil is the machine's clock.
	Clock Clock
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$`)

// withDefaults returns c with every zero field replaced.
func (c QueueConfig) withDefaults() QueueConfig {
	if c.LockDuration == 0 {
		c.LockDuration = DefaultLockDuration
	}
	if c.MaxDeliveryCount == 0 {
		c.MaxDeliveryCount = DefaultMaxDeliveryCount
	}
	if c.MaxMessageSize == 0 {
		c.MaxMessageSize = DefaultMaxMessageSize
	}
	if c.MaxSize == 0 {
		c.MaxSize = DefaultMaxSize
	}
	return c
}

// check reports every problem of a configuration whose defaults are filled in.
func (c QueueConfig) check() error {
	var errs []error
	bad := func(name string, got any, want string) {
		errs = append(errs, fmt.Errorf("queue %q: %s: got %v, want %s", c.Name, name, got, want))
	}
	if len(c.Name) > maxNameLength || !namePattern.MatchString(c.Name) {
		bad("Name", fmt.Sprintf("%q", c.Name), "1 to 260 letters, digits and . _ - / inside")
	}
	if c.LockDuration <= 0 || c.LockDuration > maxLockDuration {
		bad("LockDuration", c.LockDuration, "more than 0, at most 5m")
	}
	if c.MaxDeliveryCount < 1 || c.MaxDeliveryCount > 2000 {
		bad("MaxDeliveryCount", c.MaxDeliveryCount, "1 to 2000")
	}
	if c.DefaultTTL < 0 {
		bad("DefaultTTL", c.DefaultTTL, "0 (none) or more")
	}
	if c.DuplicateDetection < 0 || c.DuplicateDetection > 7*24*time.Hour {
		bad("DuplicateDetection", c.DuplicateDetection, "0 (off) to 7 days")
	}
	if c.MaxMessageSize < 1024 || c.MaxMessageSize > maxMessageSize {
		bad("MaxMessageSize", c.MaxMessageSize, "1 KiB to 100 MiB")
	}
	if c.MaxSize < c.MaxMessageSize {
		bad("MaxSize", c.MaxSize, "MaxMessageSize or more")
	}
	return errors.Join(errs...)
}

// entities builds one entity per queue, by lower-case name, or reports every
// problem at once.
func (c Config) entities() (map[string]*entity, error) {
	var errs []error
	if len(c.Queues) == 0 {
		errs = append(errs, errors.New("no queues configured"))
	}
	byName := make(map[string]*entity, len(c.Queues))
	for _, q := range c.Queues {
		q = q.withDefaults()
		if err := q.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		key := strings.ToLower(q.Name)
		if byName[key] != nil {
			errs = append(errs, fmt.Errorf("queue %q: Name: listed twice (case does not count)", q.Name))
			continue
		}
		byName[key] = newEntity(q, c.Clock)
	}
	return byName, errors.Join(errs...)
}

// ConnectionString is what a client on this machine needs to reach a server that
// listens on addr (host:port). UseDevelopmentEmulator makes azservicebus speak
// plain TCP; the key is not a secret and opens nothing else.
func ConnectionString(addr string) string {
	return "Endpoint=sb://" + addr +
		";SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=emulator;UseDevelopmentEmulator=true"
}
