package event

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/slurmburst/slurmburst/internal/fault"
)

func TestJobIDsTravelAsDifferences(t *testing.T) {
	for _, c := range []struct {
		ids  JobIDs
		want string
	}{
		{nil, `null`},
		{JobIDs{"117"}, `[{"deltas":[117]}]`},
		{JobIDs{"117", "119", "118"}, `[{"deltas":[117,2,-1]}]`},
		{JobIDs{"7_0", "7_1", "9", "7_2"}, `[{"array":7,"deltas":[0,1]},{"deltas":[9]},{"array":7,"deltas":[2]}]`},
		{JobIDs{"4294967295"}, `[{"deltas":[4294967295]}]`},
	} {
		got, err := json.Marshal(c.ids)
		if err != nil || string(got) != c.want {
			t.Errorf("%v: %s, want %s: %v", c.ids, got, c.want, err)
		}
	}
}

func TestJobIDsKeepTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOf(rapid.Custom(func(t *rapid.T) JobID {
			number := rapid.Uint32().Draw(t, "number")
			if rapid.Bool().Draw(t, "task") {
				return JobID(fmt.Sprintf("%d_%d", rapid.Uint32Range(1, 5).Draw(t, "array"), number))
			}
			return JobID(fmt.Sprint(number))
		})).Draw(t, "ids")
		wire, err := json.Marshal(JobIDs(ids))
		if err != nil {
			t.Fatal(err)
		}
		var got JobIDs
		if err := json.Unmarshal(wire, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ids, []JobID(got)); diff != "" && len(ids) > 0 {
			t.Errorf("%s reads as (-want +got):\n%s", wire, diff)
		}
	})
}

func TestTextThatIsNoJobIDIsRefused(t *testing.T) {
	for _, id := range []JobID{"", "x", "-1", "1_", "_1", "1_2_3", "1_x", "4294967296", "1_4294967296", "1 2", "1;reboot", "+1"} {
		if err := id.Validate(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: error %v, want one of kind invalid", id, err)
		}
		if _, err := json.Marshal(JobIDs{id}); err == nil {
			t.Errorf("%q was written", id)
		}
	}
	for _, wire := range []string{`[{"deltas":[5,-6]}]`, `[{"deltas":[4294967296]}]`, `[{"deltas":["1"]}]`, `{}`, `[{"array":-1,"deltas":[1]}]`} {
		var ids JobIDs
		if err := json.Unmarshal([]byte(wire), &ids); err == nil {
			t.Errorf("%s was read as %v", wire, ids)
		}
	}
}

func TestAListOfJobIDsIsBounded(t *testing.T) {
	wire := []byte(`[{"deltas":[1`)
	for range maxDecodedIDs {
		wire = append(wire, ",0"...)
	}
	var ids JobIDs
	if err := json.Unmarshal(append(wire, "]}]"...), &ids); !fault.Is(err, fault.Invalid) {
		t.Errorf("error %v, want one of kind invalid", err)
	}
}

// FuzzDecoders holds every decoder to this: it never panics, whatever it takes
// can be written again and reads the same, and whatever it refuses is Invalid.
func FuzzDecoders(f *testing.F) {
	for _, encode := range golden {
		m, err := encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Body, m.Encoding)
		packed, err := compress(m.Body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, Gzip)
	}
	f.Add([]byte(`{"specversion":"1.0","type":"slurmburst.queue_pressure.v1","source":"/slurm/","data":null}`), "")
	f.Fuzz(func(t *testing.T, body []byte, encoding string) {
		for name, decode := range decoders {
			if err := decode(body, encoding); err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: %v is not of kind invalid", name, err)
			}
		}
		q, err := DecodeQueuePressure(body, encoding)
		if err != nil {
			return
		}
		for _, group := range q.Pending {
			for _, id := range group.Jobs {
				if err := id.Validate(); err != nil {
					t.Errorf("decoded job id: %v", err)
				}
			}
		}
		m, err := q.Encode()
		if err != nil {
			return // larger than MaxBody without its groups, or a cut one
		}
		again, err := DecodeQueuePressure(m.Body, m.Encoding)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if len(m.Body) > MaxBody {
			t.Errorf("%d bytes were written", len(m.Body))
		}
		if !again.Truncated && again.Digest() != q.Digest() {
			t.Error("what was written reads differently")
		}
	})
}
