package event

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

const (
	// ContentType is that of every message: CloudEvents 1.0 structured JSON.
	ContentType = "application/cloudevents+json"
	// Gzip is the value of the application property EncodingProperty of a
	// compressed body.
	Gzip = "gzip"
	// EncodingProperty is the application property that names the compression.
	EncodingProperty = "content-encoding"
	// TraceProperty is the application property with the W3C trace context of
	// the hook call that led to the message.
	TraceProperty = "traceparent"
	// compressAbove is the body size from which compression pays.
	compressAbove = 8 << 10
	// MaxInflated bounds what a compressed body may become.
	MaxInflated = 16 << 20
)

// Message is an encoded message and what the broker needs to know about it.
type Message struct {
	// ID is the broker's MessageId, SessionID its session.
	ID, SessionID string
	Body          []byte
	// Encoding is Gzip or empty.
	Encoding string
	// TTL is the time to live; zero leaves it to the queue.
	TTL time.Duration
}

// envelope is a CloudEvents 1.0 event in structured mode.
type envelope struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Time            time.Time       `json:"time,omitzero"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
}

// outgoing is an envelope to write. Its data takes the place of the envelope's,
// whose bytes json.Marshal would check and copy once more.
type outgoing struct {
	envelope
	Data any `json:"data"`
}

// encode wraps data and compresses the result where that pays.
func encode(kind, cluster, id string, at time.Time, data any) (Message, error) {
	body, err := json.Marshal(outgoing{
		envelope: envelope{
			SpecVersion: "1.0", ID: id, Source: "/slurm/" + cluster, Type: kind, Time: at.UTC(), DataContentType: "application/json",
		},
		Data: data,
	})
	if err != nil {
		return Message{}, fault.New(fault.Bug, "encode "+kind, err)
	}
	m := Message{ID: id, SessionID: cluster, Body: body}
	if len(body) <= compressAbove {
		return m, nil
	}
	if m.Body, err = compress(body); err != nil {
		return Message{}, fmt.Errorf("encode %s: %w", kind, err)
	}
	m.Encoding = Gzip
	return m, nil
}

func compress(body []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(body)
	if err := errors.Join(err, z.Close()); err != nil {
		return nil, fault.New(fault.Bug, "compress", err)
	}
	return b.Bytes(), nil
}

// decode unwraps a body of the given format into data. Whatever is wrong with it
// is wrong for ever: errors are fault.Invalid.
func decode(body []byte, encoding string, data any, f format) (envelope, error) {
	invalid := func(format string, args ...any) (envelope, error) {
		return envelope{}, fault.Newf(fault.Invalid, format, args...)
	}
	switch encoding {
	case "":
	case Gzip:
		inflated, err := inflate(body)
		if err != nil {
			return invalid("decode message: %v", err)
		}
		body = inflated
	default:
		return invalid("decode message: unknown content-encoding %.40q", encoding)
	}
	if len(body) > MaxInflated {
		return invalid("decode message: %d bytes, at most %d are read", len(body), MaxInflated)
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return invalid("decode message: not a CloudEvents JSON object: %v", err)
	}
	if e.SpecVersion != "1.0" {
		return invalid("decode message: specversion is %.20q, want 1.0", e.SpecVersion)
	}
	if err := f.read(e, data); err != nil {
		return envelope{}, err
	}
	return e, nil
}

// inflate decompresses a body, but never beyond MaxInflated.
func inflate(body []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	inflated, err := io.ReadAll(io.LimitReader(z, MaxInflated+1))
	if err != nil {
		return nil, fmt.Errorf("gzip: %w", err)
	}
	if len(inflated) > MaxInflated {
		return nil, fmt.Errorf("gzip: more than %d bytes", MaxInflated)
	}
	return inflated, nil
}

// checkCluster compares the cluster in the data with the one in the envelope:
// a message that disagrees with itself is forged or broken.
func (e envelope) checkCluster(cluster string) error {
	if cluster == "" || e.Source != "/slurm/"+cluster {
		return fault.Newf(fault.Invalid, "decode %s: source %.80q does not fit cluster %.80q", e.Type, e.Source, cluster)
	}
	return nil
}
