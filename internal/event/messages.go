package event

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Encode gives the message of the snapshot, cut to MaxBody. Its MessageId is
// cluster/epoch/sequence.
func (q QueuePressure) Encode() (Message, error) {
	q.Pending = cutIDs(q.Pending, MaxGroupIDs)
	m, err := q.encode()
	if err != nil || len(m.Body) <= MaxBody {
		return m, err
	}
	if q, err = q.fit(); err != nil {
		return Message{}, err
	}
	return q.encode()
}

// encode gives the message of the snapshot as it is.
func (q QueuePressure) encode() (Message, error) {
	id := fmt.Sprintf("%s/%d/%d", q.Cluster, q.Epoch, q.Sequence)
	return encode(TypeQueuePressure, q.Cluster, id, q.TakenAt, q)
}

// DecodeQueuePressure reads a snapshot. Errors are fault.Invalid.
func DecodeQueuePressure(body []byte, encoding string) (QueuePressure, error) {
	var q QueuePressure
	e, err := decode(body, encoding, &q, pressureFormat)
	if err != nil {
		return QueuePressure{}, err
	}
	if err := e.checkCluster(q.Cluster); err != nil {
		return QueuePressure{}, err
	}
	if q.Epoch < 1 || q.Sequence < 1 || q.AgeAtSendMS < 0 {
		return QueuePressure{}, fault.Newf(fault.Invalid, "decode %s: epoch %d, sequence %d and age %d ms make no snapshot", TypeQueuePressure, q.Epoch, q.Sequence, q.AgeAtSendMS)
	}
	return q, nil
}

// Compressed gives the snapshot as it is kept: always gzip. One that was sent
// fits MaxBody already, and is spared the search for what to cut.
func (q QueuePressure) Compressed() ([]byte, error) {
	m, err := q.encode()
	if err == nil && len(m.Body) > MaxBody {
		m, err = q.Encode()
	}
	if err != nil || m.Encoding == Gzip {
		return m.Body, err
	}
	return compress(m.Body)
}

// Hides reports whether the snapshot does not tell of all groups of waiting jobs
// or of all running ones: what it does not name may exist all the same.
func (q QueuePressure) Hides() bool {
	told := 0
	for i := range q.Pending {
		told += q.Pending[i].Count
	}
	return q.RunningCut || told < q.PendingJobs
}

// Digest identifies what the snapshot says about Slurm. Two snapshots that
// differ only in when and by whom they were taken have the same, and so have
// two that differ in priorities, which the multifactor plugin raises for all
// waiting jobs with every minute, in expected starts, which each backfill cycle
// moves, or in the runs that have finished.
func (q QueuePressure) Digest() string {
	q.Epoch, q.Sequence, q.TakenAt, q.AgeAtSendMS, q.Cause = 0, 0, time.Time{}, 0, ""
	q.AgentHost, q.AgentVersion, q.Finished = "", "", nil
	q.Pending = slices.Clone(q.Pending)
	for i := range q.Pending {
		q.Pending[i].HighestPriority, q.Pending[i].ExpectedStart = 0, time.Time{}
	}
	raw, err := json.Marshal(q)
	if err != nil {
		return "" // cannot happen: plain fields only; and no digest equals another
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}

// Encode gives the message of the command. Its MessageId is the id and the attempt, so
// that a repeat is not taken for a duplicate; its time to live is what is left
// of the command's.
func (c SlurmCommand) Encode(now time.Time) (Message, error) {
	m, err := encode(TypeSlurmCommand, c.Cluster, fmt.Sprintf("%s/%d", c.ID, c.Attempt), now, c)
	if err != nil {
		return Message{}, err
	}
	m.TTL = max(c.ExpiresAt.Sub(now), time.Second)
	return m, nil
}

// DecodeSlurmCommand reads a command. Errors are fault.Invalid.
func DecodeSlurmCommand(body []byte, encoding string) (SlurmCommand, error) {
	var c SlurmCommand
	e, err := decode(body, encoding, &c, commandFormat)
	if err != nil {
		return SlurmCommand{}, err
	}
	if err := e.checkCluster(c.Cluster); err != nil {
		return SlurmCommand{}, err
	}
	if c.ID == "" || c.Generation < 1 {
		return SlurmCommand{}, fault.Newf(fault.Invalid, "decode %s: id %.80q and generation %d make no command", TypeSlurmCommand, c.ID, c.Generation)
	}
	return c, nil
}

// Encode gives the message of the timer. Its MessageId is cluster/purpose/target/generation.
func (t ScaleDownTimer) Encode(now time.Time) (Message, error) {
	id := fmt.Sprintf("%s/%s/%s/%d", t.Cluster, t.Purpose, t.Nodearray, t.Generation)
	return encode(TypeScaleDownTimer, t.Cluster, id, now, t)
}

// DecodeScaleDownTimer reads a timer. Errors are fault.Invalid.
func DecodeScaleDownTimer(body []byte, encoding string) (ScaleDownTimer, error) {
	var t ScaleDownTimer
	e, err := decode(body, encoding, &t, timerFormat)
	if err != nil {
		return ScaleDownTimer{}, err
	}
	if err := e.checkCluster(t.Cluster); err != nil {
		return ScaleDownTimer{}, err
	}
	switch t.Purpose {
	case BootDeadline, IdleDeadline, Retry, Recheck:
		return t, nil
	}
	return ScaleDownTimer{}, fault.Newf(fault.Invalid, "decode %s: unknown purpose %.40q", TypeScaleDownTimer, t.Purpose)
}

// Encode gives the message of an event of CycleCloud.
func (n NodeEvent) Encode() (Message, error) {
	return encode(TypeNodeEvent, n.CycleCloudCluster, n.ID, n.At, n)
}

// DecodeNodeEvent reads an event of CycleCloud. Errors are fault.Invalid.
func DecodeNodeEvent(body []byte, encoding string) (NodeEvent, error) {
	var n NodeEvent
	e, err := decode(body, encoding, &n, nodeEventFormat)
	if err != nil {
		return NodeEvent{}, err
	}
	return n, e.checkCluster(n.CycleCloudCluster)
}

// MaxRejectedBody is how much of a rejected message's body is kept, in bytes.
const MaxRejectedBody = 128 << 10

// Reject makes the record of a message that can never succeed.
func Reject(queue, messageID, sessionID string, deliveries int, enqueued time.Time, properties map[string]any, body []byte, reason string) Rejected {
	sum := sha256.Sum256(body)
	return Rejected{
		Queue: queue, MessageID: messageID, SessionID: sessionID, DeliveryCount: deliveries, EnqueuedAt: enqueued, Reason: reason,
		Properties: properties, Body: body[:min(len(body), MaxRejectedBody)], BodySize: len(body), BodySHA256: hex.EncodeToString(sum[:]),
	}
}

// Encode gives the message of the record. Its MessageId is derived from queue and
// MessageId, so that moving a message twice leaves one.
func (r Rejected) Encode(now time.Time) (Message, error) {
	sum := sha256.Sum256([]byte(r.Queue + "\x00" + r.MessageID + "\x00" + r.BodySHA256))
	m, err := encode(TypeRejected, r.Queue, hex.EncodeToString(sum[:16]), now, r)
	m.SessionID = ""
	return m, err
}

// DecodeRejected reads the record of a rejected message. Errors are
// fault.Invalid.
func DecodeRejected(body []byte, encoding string) (Rejected, error) {
	var r Rejected
	if _, err := decode(body, encoding, &r, rejectedFormat); err != nil {
		return Rejected{}, err
	}
	if r.Queue == "" {
		return Rejected{}, fault.Newf(fault.Invalid, "decode %s: it names no queue", TypeRejected)
	}
	return r, nil
}
