package servicebusemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func writeQueues(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "queues.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestQueuesAreLoadedWithTheirClusters(t *testing.T) {
	path := writeQueues(t, `{"queues":[
		{"name":"a","requiresSession":true,"duplicateDetection":"PT10M","lockDuration":"PT1M","maxDeliveryCount":5,"defaultTimeToLive":"P1DT1H30M","deadLetteringOnMessageExpiration":true},
		{"name":"b-{cluster}","duplicateDetection":"","maxMessageSizeInKilobytes":1024,"maxSizeInMegabytes":5120}
	]}`)
	got, err := LoadQueues(path, "x", "y")
	if err != nil {
		t.Fatal(err)
	}
	want := []QueueConfig{
		{
			Name: "a", RequiresSession: true, DuplicateDetection: 10 * time.Minute, LockDuration: time.Minute,
			MaxDeliveryCount: 5, DefaultTTL: 25*time.Hour + 30*time.Minute, DeadLetterOnExpiration: true,
		},
		{Name: "b-x", MaxMessageSize: 1 << 20, MaxSize: 5 << 30},
		{Name: "b-y", MaxMessageSize: 1 << 20, MaxSize: 5 << 30},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestABadQueuesFileIsExplainedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    []string
	}{
		"not JSON":         {"queues: []", []string{"want one JSON object"}},
		"no list":          {`{"queues":{}}`, []string{"queues: want a list"}},
		"an empty list":    {`{"queues":[]}`, []string{"queues: want a list"}},
		"nothing at all":   {``, []string{"want one JSON object"}},
		"a missing name":   {`{"queues":[{}]}`, []string{"queues[0]: name: missing"}},
		"a name not legal": {`{"queues":[{"name":"a b"}]}`, []string{`queue "a b": Name`}},
		"a name twice":     {`{"queues":[{"name":"a"},{"name":"A"}]}`, []string{`queue "A": name: listed twice`}},
		"many problems": {
			`{"queues":[{"name":"a","lockDuration":"1m","maxDeliveryCount":0,"colour":1},{"name":"b","requiresSession":"yes"},{"name":"c","lockDuration":"PT6M"},{"name":"d","maxSizeInMegabytes":99999999999}]}`,
			[]string{
				`queue "a": lockDuration: got "1m"`, `queue "a": maxDeliveryCount: got 0`, `queue "a": colour: not a known setting`,
				`queue "b": requiresSession: got "yes"`, `queue "c": LockDuration: got 6m0s`, `queue "d": maxSizeInMegabytes`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := writeQueues(t, c.content)
			_, err := LoadQueues(path)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(c.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: does not say %q", err, want)
				}
			}
		})
	}
	if _, err := LoadQueues(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("an absent file was read")
	}
}

func TestDurations(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"PT1M": time.Minute, "PT0.5S": 500 * time.Millisecond, "P14D": 14 * 24 * time.Hour, "P1DT2H3M4S": 26*time.Hour + 3*time.Minute + 4*time.Second,
		"P10675199DT2H48M5.4775807S": longestDuration,
	} {
		if got, err := parseISODuration(s); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "P", "PT", "P1DT", "1M", "PT1", "P1M", "P1Y", "pt1m", "PT-1M", "PT1M ", "PT999999999999S"} {
		if got, err := parseISODuration(s); err == nil {
			t.Errorf("%q: %v, want an error", s, got)
		}
	}
}
