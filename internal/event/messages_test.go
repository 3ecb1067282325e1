package event

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestEveryMessageReadsBackAsItWasWritten(t *testing.T) {
	message := must[Message](t)
	m := message(wholePressure().Encode())
	if diff := cmp.Diff(wholePressure(), must[QueuePressure](t)(DecodeQueuePressure(m.Body, m.Encoding))); diff != "" {
		t.Errorf("queue_pressure (-want +got):\n%s", diff)
	}
	m = message(wholeCommand().Encode(noon))
	if diff := cmp.Diff(wholeCommand(), must[SlurmCommand](t)(DecodeSlurmCommand(m.Body, m.Encoding))); diff != "" {
		t.Errorf("slurm_command (-want +got):\n%s", diff)
	}
	m = message(wholeTimer().Encode(noon))
	if diff := cmp.Diff(wholeTimer(), must[ScaleDownTimer](t)(DecodeScaleDownTimer(m.Body, m.Encoding))); diff != "" {
		t.Errorf("scale_down_timer (-want +got):\n%s", diff)
	}
	m = message(wholeNodeEvent().Encode())
	if diff := cmp.Diff(wholeNodeEvent(), must[NodeEvent](t)(DecodeNodeEvent(m.Body, m.Encoding))); diff != "" {
		t.Errorf("node_event (-want +got):\n%s", diff)
	}
	m = message(wholeRejected().Encode(noon))
	if diff := cmp.Diff(wholeRejected(), must[Rejected](t)(DecodeRejected(m.Body, m.Encoding))); diff != "" {
		t.Errorf("rejected (-want +got):\n%s", diff)
	}
	compressed := must[[]byte](t)(wholePressure().Compressed())
	if diff := cmp.Diff(wholePressure(), must[QueuePressure](t)(DecodeQueuePressure(compressed, Gzip))); diff != "" {
		t.Errorf("compressed queue_pressure (-want +got):\n%s", diff)
	}
}

// decoders are all readers, reduced to whether they take a body.
var decoders = map[string]func(body []byte, encoding string) error{
	"queue_pressure":   func(b []byte, e string) error { _, err := DecodeQueuePressure(b, e); return err },
	"slurm_command":    func(b []byte, e string) error { _, err := DecodeSlurmCommand(b, e); return err },
	"scale_down_timer": func(b []byte, e string) error { _, err := DecodeScaleDownTimer(b, e); return err },
	"node_event":       func(b []byte, e string) error { _, err := DecodeNodeEvent(b, e); return err },
	"rejected":         func(b []byte, e string) error { _, err := DecodeRejected(b, e); return err },
}

func TestBrokenMessagesAreInvalidForEver(t *testing.T) {
	bomb, spaces := bomb(t), bytes.Repeat([]byte(" "), MaxInflated+1)
	for name, decode := range decoders {
		m := must[Message](t)(golden[name]())
		text := string(m.Body)
		otherType := TypeNodeEvent
		if name == "node_event" {
			otherType = TypeQueuePressure
		}
		cases := map[string]struct {
			body     []byte
			encoding string
		}{
			"nothing":                 {nil, ""},
			"garbage":                 {[]byte("\x00\xff\x80"), ""},
			"a JSON array":            {[]byte("[1,2]"), ""},
			"null":                    {[]byte("null"), ""},
			"half of it":              {m.Body[:len(m.Body)/2], ""},
			"no CloudEvent":           {[]byte(`{"data":{}}`), ""},
			"another specversion":     {[]byte(strings.Replace(text, `"specversion":"1.0"`, `"specversion":"0.3"`, 1)), ""},
			"the version after next":  {[]byte(strings.Replace(text, ".v1", ".v3", 1)), ""},
			"another type":            {[]byte(strings.Replace(text, "slurmburst."+name+".v1", otherType, 1)), ""},
			"data of the wrong shape": {envelopeOf(t, "slurmburst."+name+".v1", []byte(`"text"`)), ""},
			"no data":                 {envelopeOf(t, "slurmburst."+name+".v1", nil), ""},
			"unknown encoding":        {m.Body, "br"},
			"plain, said to be gzip":  {m.Body, Gzip},
			"truncated gzip":          {zip(t, m.Body)[:20], Gzip},
			"a gzip bomb":             {bomb, Gzip},
			"more than is ever read":  {spaces, ""},
		}
		for what, c := range cases {
			t.Run(name+": "+what, func(t *testing.T) {
				err := decode(c.body, c.encoding)
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("error %v, want one of kind invalid", err)
				}
				if err != nil && len(err.Error()) > 1000 {
					t.Errorf("error of %d bytes", len(err.Error()))
				}
			})
		}
	}
}

func envelopeOf(t *testing.T, kind string, data []byte) []byte {
	t.Helper()
	if data == nil {
		data = []byte("{}")
	}
	body, err := json.Marshal(envelope{SpecVersion: "1.0", ID: "x", Source: "/slurm/onprem", Type: kind, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func zip(t *testing.T, body []byte) []byte {
	t.Helper()
	packed, err := compress(body)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// bomb inflates to more than is ever read, a thousandfold of its size.
func bomb(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(bytes.Repeat([]byte(" "), MaxInflated+1)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestMessagesThatContradictThemselvesAreRefused(t *testing.T) {
	swap := func(m Message, old, replacement string) []byte {
		body := strings.Replace(string(m.Body), old, replacement, 1)
		if body == string(m.Body) {
			t.Fatalf("%q is not in the message", old)
		}
		return []byte(body)
	}
	pressure := must[Message](t)(wholePressure().Encode())
	command := must[Message](t)(wholeCommand().Encode(noon))
	timer := must[Message](t)(wholeTimer().Encode(noon))
	nodeEvent := must[Message](t)(wholeNodeEvent().Encode())
	for what, err := range map[string]error{
		"snapshot of another cluster":  decoders["queue_pressure"](swap(pressure, "/slurm/onprem", "/slurm/other"), ""),
		"snapshot without an epoch":    decoders["queue_pressure"](swap(pressure, `"epoch":3`, `"epoch":0`), ""),
		"snapshot with negative age":   decoders["queue_pressure"](swap(pressure, `"ageAtSendMs":120`, `"ageAtSendMs":-1`), ""),
		"snapshot without a sequence":  decoders["queue_pressure"](swap(pressure, `"sequence":41`, `"sequence":0`), ""),
		"command of another cluster":   decoders["slurm_command"](swap(command, `"cluster":"onprem"`, `"cluster":"other"`), ""),
		"command without a cluster":    decoders["slurm_command"](swap(command, `"cluster":"onprem"`, `"cluster":""`), ""),
		"command without an id":        decoders["slurm_command"](swap(command, `"data":{"id":"onprem/12/01"`, `"data":{"id":""`), ""),
		"command without a generation": decoders["slurm_command"](swap(command, `"generation":12`, `"generation":0`), ""),
		"timer of another cluster":     decoders["scale_down_timer"](swap(timer, "/slurm/onprem", "/slurm/other"), ""),
		"timer of no known purpose":    decoders["scale_down_timer"](swap(timer, `"purpose":"idle_deadline"`, `"purpose":"teatime"`), ""),
		"node event of another one":    decoders["node_event"](swap(nodeEvent, "/slurm/hpc-burst", "/slurm/other"), ""),
	} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: error %v, want one of kind invalid", what, err)
		}
	}
}

func TestUnknownFieldsOfANewerWriterAreIgnored(t *testing.T) {
	m := must[Message](t)(wholeTimer().Encode(noon))
	body := strings.Replace(string(m.Body), `"purpose"`, `"colour":"red","purpose"`, 1)
	got, err := DecodeScaleDownTimer([]byte(body), "")
	if err != nil || got != wholeTimer() {
		t.Errorf("got %+v: %v", got, err)
	}
}

// hugeQueue is a queue of so many jobs in so many shapes, whose ids are mixed at
// random, as those of many users who submit at once are.
func hugeQueue(jobs, shapes int) QueuePressure {
	random := rand.New(rand.NewPCG(1, 2))
	q := wholePressure()
	q.Truncated, q.PendingJobs, q.Pending = false, jobs, make([]PendingGroup, shapes)
	for i := range q.Pending {
		q.Pending[i] = PendingGroup{
			Partitions: []string{"local"}, User: fmt.Sprintf("user%d", i%300), Account: fmt.Sprintf("account%d", i%40), StateReason: "Priority",
			Description: "(Priority)", Nodes: 1 + i%7, CPUs: 1 + i%64, MemoryMiB: int64(1000 + 13*i), TimeLimitSeconds: int64(60 * (1 + i%1440)),
			Batch: true, Requeue: true, OldestSubmit: noon.Add(-time.Duration(random.IntN(1e6)) * time.Second), NewestSubmit: noon, HighestPriority: int64(i),
		}
		if i < 500 { // as many as backfill looks at by default, or more
			q.Pending[i].ExpectedStart = noon.Add(time.Duration(random.IntN(1e5)) * time.Minute)
		}
	}
	q.Finished = nil
	for i := range MaxFinished {
		q.Finished = append(q.Finished, FinishedRuns{
			User: fmt.Sprintf("user%d", i%300), Account: fmt.Sprintf("account%d", i%40), Jobs: MaxFinished - i, RunSeconds: random.Int64N(1e6), LimitSeconds: random.Int64N(1e7),
		})
	}
	for id := range jobs {
		group := &q.Pending[random.IntN(shapes)]
		group.Count++
		group.Jobs = append(group.Jobs, JobID(fmt.Sprint(1000+id)))
	}
	return q
}

func TestAHugeQueueFitsAndStillCountsEveryJob(t *testing.T) {
	q := hugeQueue(100_000, 5_000)
	m := must[Message](t)(q.Encode())
	if len(m.Body) > MaxBody {
		t.Errorf("body of %d bytes, want at most %d", len(m.Body), MaxBody)
	}
	got := must[QueuePressure](t)(DecodeQueuePressure(m.Body, m.Encoding))
	total, named := 0, 0
	for _, group := range got.Pending {
		total += group.Count
		named += len(group.Jobs)
	}
	if got.PendingJobs != 100_000 || total != 100_000 || len(got.Pending) != 5_000 || !got.Truncated || got.Hides() {
		t.Errorf("%d jobs, %d in %d groups, truncated %v", got.PendingJobs, total, len(got.Pending), got.Truncated)
	}
	t.Logf("%d bytes, %d ids named", len(m.Body), named)
}

func TestTheYoungestGroupsAreCutLast(t *testing.T) {
	q := hugeQueue(25_000, 25_000)
	m := must[Message](t)(q.Encode())
	if len(m.Body) > MaxBody {
		t.Errorf("body of %d bytes, want at most %d", len(m.Body), MaxBody)
	}
	got := must[QueuePressure](t)(DecodeQueuePressure(m.Body, m.Encoding))
	if len(got.Pending) == 0 || len(got.Pending) >= 25_000 || !got.Truncated || !got.Hides() || got.PendingJobs != 25_000 {
		t.Fatalf("%d groups, truncated %v", len(got.Pending), got.Truncated)
	}
	youngest := got.Pending[len(got.Pending)-1].OldestSubmit
	older := 0
	for _, group := range q.Pending {
		if group.OldestSubmit.Before(youngest) {
			older++
		}
	}
	if older > len(got.Pending) {
		t.Errorf("%d groups are older than the youngest of the %d that are left", older, len(got.Pending))
	}
}

func TestManyRunningJobsDoNotSilenceTheAgent(t *testing.T) {
	q := wholePressure()
	q.Truncated = false
	for i := range 40_000 {
		q.Running = append(q.Running, RunningJob{
			ID: JobID(fmt.Sprint(1000 + 7*i)), User: fmt.Sprintf("user%d", i*7919%300), Account: "a", QOS: "normal", Partition: "htc", State: "RUNNING",
			NodeCount: 1,
			Nodes:     fmt.Sprintf("htc-%d", i*7919%10_000), Start: noon.Add(-time.Duration(i*7919%100_000) * time.Second), TimeLimitSeconds: int64(i * 31 % 5000),
		})
	}
	m := must[Message](t)(q.Encode())
	got := must[QueuePressure](t)(DecodeQueuePressure(m.Body, m.Encoding))
	if len(m.Body) > MaxBody || !got.Truncated || !got.RunningCut || !got.Hides() || len(got.Running) == 0 || len(got.CloudNodes) != 1 || len(got.CloudNodes[0].PoweringUp) != 1 {
		t.Errorf("%d bytes, truncated %v, %d running, nodes %+v", len(m.Body), got.Truncated, len(got.Running), got.CloudNodes)
	}
}

func TestGroupsNameAtMostSixtyFourJobs(t *testing.T) {
	q := wholePressure()
	q.Pending[0].Jobs = nil
	for i := range 100 {
		q.Pending[0].Jobs = append(q.Pending[0].Jobs, JobID(fmt.Sprint(500+i)))
	}
	m := must[Message](t)(q.Encode())
	got := must[QueuePressure](t)(DecodeQueuePressure(m.Body, m.Encoding))
	if jobs := got.Pending[0].Jobs; len(jobs) != MaxGroupIDs || jobs[0] != "500" || jobs[63] != "563" {
		t.Errorf("jobs %v", jobs)
	}
	if len(q.Pending[0].Jobs) != 100 {
		t.Error("encoding changed the snapshot")
	}
}

func TestDigestIsOfSlurmAndNotOfTheLook(t *testing.T) {
	want := wholePressure().Digest()
	same := wholePressure()
	same.Epoch, same.Sequence, same.TakenAt, same.AgeAtSendMS, same.Cause = 9, 9, noon.Add(time.Hour), 9, CausePoll
	same.AgentHost, same.AgentVersion = "head2", "v2"
	same.Pending[0].HighestPriority++                   // which the multifactor plugin does with every minute
	same.Pending[0].ExpectedStart = noon.Add(time.Hour) // which backfill moves with every cycle
	same.Finished[0].Jobs++
	if got := same.Digest(); got != want {
		t.Error("a later look at the same queue has another digest")
	}
	seen := map[string]string{want: "nothing"}
	for what, change := range map[string]func(*QueuePressure){
		"a pending job":  func(q *QueuePressure) { q.PendingJobs++ },
		"a running job":  func(q *QueuePressure) { q.Running[0].State = "COMPLETING" },
		"an ended job":   func(q *QueuePressure) { q.Ended = nil },
		"a node's state": func(q *QueuePressure) { q.CloudNodes[0].Groups[0].State = "IDLE" },
		"a resume call":  func(q *QueuePressure) { q.CloudNodes[0].PoweringUp[0].ResumeID = "other" },
		"a partition":    func(q *QueuePressure) { q.Partitions[0].State = "DOWN" },
		"a local core":   func(q *QueuePressure) { q.Local[0].IdleCores++ },
		"a result":       func(q *QueuePressure) { q.CommandResults[0].State = ResultOK },
		"a problem":      func(q *QueuePressure) { q.Problems = nil },
		"the cluster":    func(q *QueuePressure) { q.Cluster = "other" },
	} {
		q := wholePressure()
		change(&q)
		got := q.Digest()
		if other, double := seen[got]; double {
			t.Errorf("changing %s gives the digest of %s", what, other)
		}
		seen[got] = what
	}
}

func TestCommandLivesAsLongAsIsLeft(t *testing.T) {
	for what, c := range map[string]struct {
		at   time.Time
		want time.Duration
	}{
		"in time":  {noon.Add(time.Minute), 4 * time.Minute},
		"too late": {noon.Add(time.Hour), time.Second},
	} {
		if m := must[Message](t)(wholeCommand().Encode(c.at)); m.TTL != c.want {
			t.Errorf("%s: %v, want %v", what, m.TTL, c.want)
		}
	}
}

func TestRejectedMessagesAreKeptInPart(t *testing.T) {
	body := bytes.Repeat([]byte("x"), MaxRejectedBody+1)
	r := Reject("q", "m", "s", 4, noon, nil, body, "why")
	if len(r.Body) != MaxRejectedBody || r.BodySize != len(body) || len(r.BodySHA256) != 64 {
		t.Errorf("kept %d of %d bytes, hash %q", len(r.Body), r.BodySize, r.BodySHA256)
	}
	first, second := must[Message](t)(r.Encode(noon)), must[Message](t)(r.Encode(noon.Add(time.Hour)))
	if first.ID != second.ID || first.SessionID != "" {
		t.Errorf("ids %q and %q, session %q: moving a message twice must leave one", first.ID, second.ID, first.SessionID)
	}
	r.Body = slices.Clone(r.Body)
	other := must[Message](t)(Reject("q", "m2", "s", 4, noon, nil, body, "why").Encode(noon))
	if other.ID == first.ID {
		t.Error("two messages share one record")
	}
}
