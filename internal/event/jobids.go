package event

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// MaxGroupIDs is how many job ids a group names at most.
const MaxGroupIDs = 64

// maxDecodedIDs bounds the ids that one list may decode to.
const maxDecodedIDs = 100_000

// jobIDsWire is a list of job ids on the wire: for each run of ids of the same
// array (0 for plain jobs) the first number and then the differences.
type jobIDsWire []struct {
	Array  uint64  `json:"array,omitempty"`
	Deltas []int64 `json:"deltas"`
}

// MarshalJSON writes the ids delta-coded, in their order.
func (ids JobIDs) MarshalJSON() ([]byte, error) {
	var wire jobIDsWire
	var last int64
	for i, id := range ids {
		array, number, err := id.split()
		if err != nil {
			return nil, err
		}
		if i == 0 || wire[len(wire)-1].Array != array {
			wire = append(wire, struct {
				Array  uint64  `json:"array,omitempty"`
				Deltas []int64 `json:"deltas"`
			}{Array: array})
			last = 0
		}
		run := &wire[len(wire)-1]
		run.Deltas = append(run.Deltas, number-last)
		last = number
	}
	return json.Marshal(wire)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (ids *JobIDs) UnmarshalJSON(data []byte) error {
	var wire jobIDsWire
	if err := json.Unmarshal(data, &wire); err != nil {
		return fmt.Errorf("read job ids: %w", err)
	}
	var out JobIDs
	for _, run := range wire {
		var number int64
		for _, delta := range run.Deltas {
			number += delta
			if number < 0 || number > maxJobNumber || len(out) == maxDecodedIDs {
				return fault.Newf(fault.Invalid, "read job ids: %d after %d ids is out of range", number, len(out))
			}
			id := strconv.FormatInt(number, 10)
			if run.Array != 0 {
				id = strconv.FormatUint(run.Array, 10) + "_" + id
			}
			out = append(out, JobID(id))
		}
	}
	*ids = out
	return nil
}

// maxJobNumber is the largest job id or task number of Slurm.
const maxJobNumber = 1<<32 - 1

// split gives the array (0 for a plain job) and the job or task number.
func (id JobID) split() (array uint64, number int64, err error) {
	first, task, isTask := strings.Cut(string(id), "_")
	n, err := strconv.ParseUint(first, 10, 32)
	if err != nil {
		return 0, 0, fault.Newf(fault.Invalid, "read job id %.40q: %v", id, err)
	}
	if !isTask {
		return 0, int64(n), nil
	}
	t, err := strconv.ParseUint(task, 10, 32)
	if err != nil {
		return 0, 0, fault.Newf(fault.Invalid, "read job id %.40q: %v", id, err)
	}
	return n, int64(t), nil
}

// Validate says why the id cannot be a job's, or gives nil.
func (id JobID) Validate() error {
	_, _, err := id.split()
	return err
}

// MaxBody bounds an encoded snapshot, in bytes after compression.
const MaxBody = 200_000

// fit cuts a snapshot to MaxBody: job ids first, then the youngest groups.
// Counts always cover all jobs.
func (q QueuePressure) fit() (QueuePressure, error) {
	q.Pending = slices.Clone(q.Pending)
	for i := range q.Pending {
		if len(q.Pending[i].Jobs) > MaxGroupIDs {
			q.Pending[i].Jobs = q.Pending[i].Jobs[:MaxGroupIDs]
		}
	}
	for keep := MaxGroupIDs; ; keep /= 2 {
		size, err := q.size()
		if err != nil || size <= MaxBody {
			return q, err
		}
		if keep == 0 {
			break
		}
		q.Truncated = true
		for i := range q.Pending {
			q.Pending[i].Jobs = q.Pending[i].Jobs[:min(len(q.Pending[i].Jobs), keep/2)]
		}
	}
	slices.SortStableFunc(q.Pending, func(a, b PendingGroup) int { return a.OldestSubmit.Compare(b.OldestSubmit) })
	for len(q.Pending) > 0 {
		q.Pending = q.Pending[:len(q.Pending)*3/4]
		if size, err := q.size(); err != nil || size <= MaxBody {
			return q, err
		}
	}
	return q, fault.Newf(fault.Invalid, "encode %s: nodes and running jobs alone exceed %d bytes", TypeQueuePressure, MaxBody)
}

// size is that of the body that travels.
func (q QueuePressure) size() (int, error) {
	raw, err := json.Marshal(q)
	if err != nil {
		return 0, fault.New(fault.Bug, "encode "+TypeQueuePressure, err)
	}
	if len(raw) <= compressAbove {
		return len(raw), nil
	}
	packed, err := compress(raw)
	return len(packed) + 512, err // the envelope
}
