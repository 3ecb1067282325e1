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

// MarshalJSON writes the ids delta-coded, in their order. It writes a jobIDsWire
// by hand: a long queue's ids are most of a snapshot.
func (ids JobIDs) MarshalJSON() ([]byte, error) {
	if len(ids) == 0 {
		return []byte("null"), nil
	}
	var run uint64
	var last int64
	out := append(make([]byte, 0, 32+8*len(ids)), '[')
	for i, id := range ids {
		array, number, err := id.split()
		if err != nil {
			return nil, err
		}
		switch {
		case i == 0:
			out = beginRun(out, array)
		case array == run:
			out = append(out, ',')
		default:
			out = beginRun(append(out, "]},"...), array)
			last = 0
		}
		out = strconv.AppendInt(out, number-last, 10)
		run, last = array, number
	}
	return append(out, "]}]"...), nil
}

func beginRun(out []byte, array uint64) []byte {
	out = append(out, '{')
	if array != 0 {
		out = strconv.AppendUint(append(out, `"array":`...), array, 10)
		out = append(out, ',')
	}
	return append(out, `"deltas":[`...)
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

// fit cuts a snapshot that is too large to MaxBody: running jobs to half of it,
// then job ids, then the youngest groups. Counts always cover all jobs.
func (q QueuePressure) fit() (QueuePressure, error) {
	all := q.Pending
	q.Truncated = true
	running, err := shrink(len(q.Running), MaxBody/2, func(n int) (int, error) {
		return QueuePressure{Running: q.Running[:n]}.size()
	})
	if err != nil {
		return q, err
	}
	q.RunningCut = running < len(q.Running)
	q.Running = q.Running[:running]
	q.Pending = cutIDs(all, 0)
	size, err := q.size()
	if err != nil {
		return q, err
	}
	if size <= MaxBody {
		return q.withSomeIDs(all)
	}
	slices.SortStableFunc(q.Pending, func(a, b PendingGroup) int { return a.OldestSubmit.Compare(b.OldestSubmit) })
	oldestFirst := q.Pending
	_, err = shrink(len(oldestFirst), MaxBody, func(n int) (int, error) {
		q.Pending = oldestFirst[:n]
		return q.size()
	})
	return q, err
}

// withSomeIDs gives each group as many of its ids back as fit.
func (q QueuePressure) withSomeIDs(all []PendingGroup) (QueuePressure, error) {
	without := q.Pending
	for _, keep := range []int{24, 8, 2} {
		q.Pending = cutIDs(all, keep)
		if size, err := q.size(); err != nil || size <= MaxBody {
			return q, err
		}
	}
	q.Pending = without
	return q, nil
}

// cutIDs gives the groups with at most so many job ids each.
func cutIDs(groups []PendingGroup, keep int) []PendingGroup {
	groups = slices.Clone(groups)
	for i := range groups {
		groups[i].Jobs = groups[i].Jobs[:min(len(groups[i].Jobs), keep)]
	}
	return groups
}

// shrink gives how many of n things fit into the limit, where size tells the
// bytes of some of them.
func shrink(n, limit int, size func(n int) (int, error)) (int, error) {
	for {
		bytes, err := size(n)
		if err != nil || bytes <= limit {
			return n, err
		}
		if n == 0 {
			return 0, fault.Newf(fault.Invalid, "encode %s: the cloud nodes alone exceed %d bytes", TypeQueuePressure, limit)
		}
		n = n * limit / bytes * 19 / 20 // a little less, as shorter texts compress worse
	}
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
