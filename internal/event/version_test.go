package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// readers are all readers with what the whole message of their type says.
var readers = map[string]struct {
	read   func(body []byte) (any, error)
	whole  any
	format *format
}{
	"queue_pressure":   {func(b []byte) (any, error) { return DecodeQueuePressure(b, "") }, firstPressure(), &pressureFormat},
	"slurm_command":    {func(b []byte) (any, error) { return DecodeSlurmCommand(b, "") }, wholeCommand(), &commandFormat},
	"scale_down_timer": {func(b []byte) (any, error) { return DecodeScaleDownTimer(b, "") }, wholeTimer(), &timerFormat},
	"node_event":       {func(b []byte) (any, error) { return DecodeNodeEvent(b, "") }, wholeNodeEvent(), &nodeEventFormat},
	"rejected":         {func(b []byte) (any, error) { return DecodeRejected(b, "") }, wholeRejected(), &rejectedFormat},
}

// firstPressure is the whole snapshot as it was when version 1 began: fields
// that came later are missing in its file, and read as nothing.
func firstPressure() QueuePressure {
	q := wholePressure()
	q.RunningCut, q.Finished = false, nil
	for i := range q.Pending {
		q.Pending[i].ExpectedStart = time.Time{}
	}
	for i := range q.Running {
		q.Running[i].QOS, q.Running[i].NodeCount = "", 0
	}
	return q
}

// sentByV1 is what version 1 sends. The files are never written again: when
// version 2 comes they are what version n-1 sends, until version 3.
func sentByV1(t *testing.T, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "v1", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestWhatVersion1SentIsRead(t *testing.T) {
	for name, r := range readers {
		got, err := r.read(sentByV1(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(r.whole, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestOnlyThisVersionAndTheOneBeforeAreRead(t *testing.T) {
	for name, r := range readers {
		var accepted []string
		for _, version := range []string{"0", "1", "2", "3", "01", "-1", "x", "", "1.0", "99999999999999999999"} {
			body := bytes.Replace(sentByV1(t, name), []byte(name+".v1"), []byte(name+".v"+version), 1)
			_, err := r.read(body)
			if err == nil {
				accepted = append(accepted, version)
			} else if !fault.Is(err, fault.Invalid) {
				t.Errorf("%s, version %q: %v is not invalid", name, version, err)
			}
		}
		want := []string{"1"} // there was no version 0
		if diff := cmp.Diff(want, accepted); diff != "" || r.format.newest != 1 || r.format.upgrade != nil {
			t.Errorf("%s: versions read (-want +got):\n%s\nA new version needs its upgrade, its golden files, and this line.", name, diff)
		}
	}
}

// A reader says of a version that is to come which it is, and which it reads.
func TestAVersionToComeIsNamed(t *testing.T) {
	for name, r := range readers {
		_, err := r.read(bytes.Replace(sentByV1(t, name), []byte(name+".v1"), []byte(name+".v2"), 1))
		var unread *VersionError
		if !errors.As(err, &unread) || !fault.Is(err, fault.Invalid) {
			t.Fatalf("%s: %v", name, err)
		}
		want := "decode message: slurmburst." + name + ".v2 is of version 2, and only version 1 can be read"
		if err.Error() != want {
			t.Errorf("%s: got %q, want %q", name, err, want)
		}
		if name == "slurm_command" && (unread.ID != "onprem/12/01" || unread.Generation != 12 || unread.Cluster != "onprem") {
			t.Errorf("a command that cannot be read could not be answered: %+v", unread)
		}
	}
	for what, data := range map[string]string{
		"a shape that nobody knows":    `[1,2]`,
		"ids that are no text":         `{"id":7,"cluster":{},"generation":"x"}`,
		"a cluster that is not theirs": `{"id":"onprem/12/01","cluster":"other","generation":12}`,
	} {
		_, err := DecodeSlurmCommand(envelopeOf(t, "slurmburst.slurm_command.v2", []byte(data)), "")
		var unread *VersionError
		if !errors.As(err, &unread) || unread.ID != "" || unread.Cluster != "" || unread.Generation != 0 {
			t.Errorf("%s: %v, %+v", what, err, unread)
		}
	}
}

// A version that is newer by a field is the same version: the field is ignored
// by who does not know it, at every depth.
func TestFieldsThatNobodyKnowsAreIgnored(t *testing.T) {
	for name, r := range readers {
		var message any
		if err := json.Unmarshal(sentByV1(t, name), &message); err != nil {
			t.Fatal(err)
		}
		added := 0
		var add func(v any, free bool)
		add = func(v any, free bool) {
			switch v := v.(type) {
			case map[string]any:
				for key, inner := range v {
					add(inner, key == "properties") // what is in there belongs to the sender
				}
				if !free {
					v["addedLater"] = map[string]any{"deep": []int{1, 2}}
					added++
				}
			case []any:
				for _, inner := range v {
					add(inner, false)
				}
			}
		}
		add(message, false)
		body, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.read(body)
		if err != nil || added < 2 {
			t.Fatalf("%s: %v; %d fields added", name, err, added)
		}
		if diff := cmp.Diff(r.whole, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// And a field that an older sender does not know has its zero value, whichever
// it is, but for the few without which there is no message.
func TestFieldsThatAreMissingAreZero(t *testing.T) {
	needed := map[string][]string{
		"queue_pressure":   {"cluster", "epoch", "sequence"},
		"slurm_command":    {"cluster", "generation", "id"},
		"scale_down_timer": {"cluster", "purpose"},
		"node_event":       {"cycleCloudCluster"},
		"rejected":         {"queue"},
	}
	for name, r := range readers {
		var message envelope
		if err := json.Unmarshal(sentByV1(t, name), &message); err != nil {
			t.Fatal(err)
		}
		var whole map[string]json.RawMessage
		if err := json.Unmarshal(message.Data, &whole); err != nil {
			t.Fatal(err)
		}
		var refused []string
		for field := range whole {
			less := maps.Clone(whole)
			delete(less, field)
			data, err := json.Marshal(less)
			if err != nil {
				t.Fatal(err)
			}
			message.Data = data
			body, err := json.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.read(body)
			if err != nil {
				refused = append(refused, field)
				continue
			}
			left, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var again map[string]json.RawMessage
			if err := json.Unmarshal(left, &again); err != nil {
				t.Fatal(err)
			}
			for other := range less {
				if string(again[other]) == "" {
					t.Errorf("%s without %s: %s is lost too", name, field, other)
				}
			}
			if value := string(again[field]); !slices.Contains([]string{"", "0", "null", "[]", "{}", `""`, "false", `"0001-01-01T00:00:00Z"`}, value) {
				t.Errorf("%s without %s: it is %s", name, field, value)
			}
		}
		slices.Sort(refused)
		if diff := cmp.Diff(needed[name], refused); diff != "" {
			t.Errorf("%s: fields without which it is refused (-want +got):\n%s", name, diff)
		}
	}
}

// nextPressure and nextCommand stand for a version 2: ages are in microseconds,
// a list replaces a text, a new field has a meaning when it is missing.
type (
	nextPressure struct {
		QueuePressure
		AgeAtSendUS int64    `json:"ageAtSendUs"`
		Hosts       []string `json:"agentHosts"`
		Quiet       bool     `json:"quiet"`
	}
	nextCommand struct {
		SlurmCommand
		Priority string `json:"priority"`
	}
)

func toNextPressure(data map[string]json.RawMessage) error {
	var age int64
	if raw, ok := data["ageAtSendMs"]; ok {
		if err := json.Unmarshal(raw, &age); err != nil {
			return err
		}
	}
	delete(data, "ageAtSendMs")
	data["ageAtSendUs"], _ = json.Marshal(age * 1000)
	if host, ok := data["agentHost"]; ok {
		data["agentHosts"] = json.RawMessage("[" + string(host) + "]")
		delete(data, "agentHost")
	}
	return nil
}

func toNextCommand(data map[string]json.RawMessage) error {
	data["priority"] = json.RawMessage(`"normal"`)
	return nil
}

// With a version 2, what version 1 sends is read through its upgrade to the same
// values, version 2 as it is, and nothing else.
func TestTheVersionBeforeIsReadThroughItsUpgrade(t *testing.T) {
	pressure := formatOf("slurmburst.queue_pressure.v2", toNextPressure)
	command := formatOf("slurmburst.slurm_command.v2", toNextCommand)

	var gotPressure nextPressure
	if _, err := decode(sentByV1(t, "queue_pressure"), "", &gotPressure, pressure); err != nil {
		t.Fatal(err)
	}
	wantPressure := nextPressure{QueuePressure: firstPressure(), AgeAtSendUS: 120_000, Hosts: []string{"head1"}}
	wantPressure.AgeAtSendMS, wantPressure.AgentHost = 0, ""
	if diff := cmp.Diff(wantPressure, gotPressure); diff != "" {
		t.Errorf("queue_pressure (-want +got):\n%s", diff)
	}

	var gotCommand nextCommand
	if _, err := decode(zip(t, sentByV1(t, "slurm_command")), Gzip, &gotCommand, command); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(nextCommand{wholeCommand(), "normal"}, gotCommand); diff != "" {
		t.Errorf("slurm_command (-want +got):\n%s", diff)
	}

	next := bytes.Replace(sentByV1(t, "slurm_command"), []byte("slurm_command.v1"), []byte("slurm_command.v2"), 1)
	gotCommand = nextCommand{}
	if _, err := decode(next, "", &gotCommand, command); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(nextCommand{wholeCommand(), ""}, gotCommand); diff != "" {
		t.Errorf("slurm_command, version 2, has passed the upgrade (-want +got):\n%s", diff)
	}
	for _, version := range []string{"v3", "v4", "v0"} {
		_, err := decode(bytes.Replace(next, []byte(".v2"), []byte("."+version), 1), "", &gotCommand, command)
		if !fault.Is(err, fault.Invalid) || version != "v0" && !strings.Contains(err.Error(), "only versions 2 and 1 can be read") {
			t.Errorf("%s: %v", version, err)
		}
	}
	for what, data := range map[string]string{"no object": `"text"`, "null": `null`, "a field of another shape": `{"ageAtSendMs":"soon"}`} {
		_, err := decode(envelopeOf(t, "slurmburst.queue_pressure.v1", []byte(data)), "", &gotPressure, pressure)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
