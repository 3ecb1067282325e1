// Package bus talks to Azure Service Bus through azservicebus: it sends,
// schedules and cancels messages, and receives the messages of one session. It
// answers whether the broker took a message; it must never look into a body,
// and it keeps nothing that the broker should keep.
package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/fault/credential"
)

// callTimeout bounds every call to the broker; without it the client waits as
// long as its caller.
const callTimeout = 30 * time.Second

// Options say how to reach the namespace: by connection string, or by its name
// and a credential.
type Options struct {
	ConnectionString string
	// Namespace is fully qualified: ns.servicebus.windows.net.
	Namespace  string
	Credential azcore.TokenCredential
	// Client is handed to azservicebus. Its RetryOptions default to three
	// retries that begin after 300 ms: the client's own 4 s are too long for a
	// function with a deadline.
	Client azservicebus.ClientOptions
}

// Client is a connection to one namespace. It is safe for use by many
// goroutines.
type Client struct {
	client  *azservicebus.Client
	mu      sync.Mutex
	senders map[string]*azservicebus.Sender
}

// New makes a client; it does not connect yet.
func New(o Options) (*Client, error) {
	options := o.Client
	if options.RetryOptions == (azservicebus.RetryOptions{}) {
		options.RetryOptions = azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 300 * time.Millisecond, MaxRetryDelay: 5 * time.Second}
	}
	var (
		client *azservicebus.Client
		err    error
	)
	switch {
	case o.ConnectionString != "":
		client, err = azservicebus.NewClientFromConnectionString(o.ConnectionString, &options)
	case o.Namespace != "" && o.Credential != nil:
		client, err = azservicebus.NewClient(o.Namespace, o.Credential, &options)
	default:
		err = errors.New("neither a connection string nor a namespace with a credential is given")
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "set up Service Bus client", err)
	}
	return &Client{client: client, senders: map[string]*azservicebus.Sender{}}, nil
}

// Close ends the connection.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.client.Close(ctx); err != nil {
		return classify("close Service Bus client", err)
	}
	return nil
}

// Message is a message to send.
type Message struct {
	ID string
	// SessionID is needed on a queue with sessions.
	SessionID   string
	ContentType string
	Body        []byte
	// TTL is the time to live; zero leaves it to the queue.
	TTL time.Duration
	// Properties are application properties.
	Properties map[string]any
}

func (m Message) outgoing() *azservicebus.Message {
	out := &azservicebus.Message{MessageID: &m.ID, ContentType: &m.ContentType, Body: m.Body, ApplicationProperties: m.Properties}
	if m.SessionID != "" {
		out.SessionID = &m.SessionID
	}
	if m.TTL > 0 {
		out.TimeToLive = &m.TTL
	}
	return out
}

// Send gives a message to the broker and returns when it is stored.
func (c *Client) Send(ctx context.Context, queue string, m Message) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	op := fmt.Sprintf("send message %s to queue %s", m.ID, queue)
	sender, err := c.sender(queue)
	if err != nil {
		return classify(op, err)
	}
	return classify(op, sender.SendMessage(ctx, m.outgoing(), nil))
}

// Schedule stores a message that becomes visible at the given time, and gives
// the number by which it can be cancelled.
func (c *Client) Schedule(ctx context.Context, queue string, m Message, at time.Time) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	op := fmt.Sprintf("schedule message %s on queue %s", m.ID, queue)
	sender, err := c.sender(queue)
	if err != nil {
		return 0, classify(op, err)
	}
	numbers, err := sender.ScheduleMessages(ctx, []*azservicebus.Message{m.outgoing()}, at, nil)
	if err != nil {
		return 0, classify(op, err)
	}
	if len(numbers) != 1 {
		return 0, fault.Newf(fault.Bug, "%s: %d sequence numbers came back", op, len(numbers))
	}
	return numbers[0], nil
}

// Cancel withdraws scheduled messages. One that is due already is an error of
// kind fault.Invalid.
func (c *Client) Cancel(ctx context.Context, queue string, numbers ...int64) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	op := "cancel scheduled messages on queue " + queue
	sender, err := c.sender(queue)
	if err != nil {
		return classify(op, err)
	}
	return classify(op, sender.CancelScheduledMessages(ctx, numbers, nil))
}

// sender gives the one sender of a queue.
func (c *Client) sender(queue string) (*azservicebus.Sender, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.senders[queue]; ok {
		return s, nil
	}
	s, err := c.client.NewSender(queue, nil)
	if err != nil {
		return nil, fmt.Errorf("open sender: %w", err)
	}
	c.senders[queue] = s
	return s, nil
}

// ErrSessionLocked says that another receiver holds the session, or that none
// was free in time.
var ErrSessionLocked = errors.New("the session is held by another receiver")

// classify says what kind of failure the broker reported.
func classify(op string, err error) error {
	if err == nil {
		return nil
	}
	var (
		bus       *azservicebus.Error
		condition *amqp.Error
	)
	if kind, ours := credential.Kind(err); ours {
		return fault.New(kind, op, err)
	}
	switch {
	case errors.Is(err, azservicebus.ErrMessageTooLarge):
		return fault.New(fault.Invalid, op, err)
	case errors.As(err, &bus):
		switch bus.Code {
		case azservicebus.CodeUnauthorizedAccess:
			return fault.New(fault.Denied, op, err)
		case azservicebus.CodeNotFound:
			return fault.New(fault.Invalid, op, err)
		case azservicebus.CodeLockLost:
			return fault.New(fault.Conflict, op, err)
		case azservicebus.CodeTimeout, azservicebus.CodeConnectionLost, azservicebus.CodeClosed:
		}
		return fault.New(fault.Transient, op, err)
	case errors.As(err, &condition):
		switch condition.Condition {
		case "com.microsoft:session-cannot-be-locked":
			return fault.New(fault.Conflict, op, fmt.Errorf("%w: %w", ErrSessionLocked, err))
		case amqp.ErrCondUnauthorizedAccess:
			return fault.New(fault.Denied, op, err)
		case amqp.ErrCondNotFound, amqp.ErrCondNotAllowed, amqp.ErrCondMessageSizeExceeded:
			return fault.New(fault.Invalid, op, err)
		}
	}
	return fault.New(fault.Transient, op, err)
}
