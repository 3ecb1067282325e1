package slurm

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestParseTimeLimit(t *testing.T) {
	tests := []struct {
		text string
		want TimeLimit
		ok   bool
	}{
		{"5:00", TimeLimit(5 * time.Minute), true},
		{"1:30:00", TimeLimit(90 * time.Minute), true},
		{"01:00:00", TimeLimit(time.Hour), true},
		{"7-00:00:00", TimeLimit(7 * 24 * time.Hour), true},
		{"365-00:00:00", TimeLimit(365 * 24 * time.Hour), true},
		{"900", TimeLimit(15 * time.Minute), true},
		{"900 sec", TimeLimit(15 * time.Minute), true},
		{"UNLIMITED", Unlimited, true},
		{"INFINITE", Unlimited, true},
		{"NOT_SET", LimitNotSet, true},
		{"GLOBAL", LimitNotSet, true},
		{"NONE", LimitNotSet, true},
		{"", LimitNotSet, true},
		{"soon", LimitNotSet, false},
		{"1:2:3:4", LimitNotSet, false},
		{"-5", LimitNotSet, false},
		{"1-", LimitNotSet, false},
		{"999999999-00:00:00", LimitNotSet, false},
		{"999999999999", LimitNotSet, false},
	}
	for _, tt := range tests {
		got, err := ParseTimeLimit(tt.text)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%q: got %v, %v; want %v, %v", tt.text, got, err, tt.want, tt.ok)
		}
	}
	if day := TimeLimit(24 * time.Hour); day >= Unlimited {
		t.Error("a day is not below unlimited")
	}
}

func TestParseGPUs(t *testing.T) {
	tests := []struct {
		text string
		want int
	}{
		{"", 0},
		{"gpu:2", 2},
		{"gpu", 1},
		{"gres:gpu:tesla:2", 2},
		{"gres/gpu:tesla:2", 2},
		{"gres/gpu=3", 3},
		{"gpu:tesla", 1},
		{"gpu:tesla:2(S:0-1)", 2},
		{"gpu:a100:2(IDX:0,1),gpu:v100:1,lustre:1", 3},
		{"lustre:4", 0},
		{"gpus:4", 0},
		{"gpu:99999999999999", 1},
		{strings.Repeat("gpu:2000000000,", 5), 2147483647},
	}
	for _, tt := range tests {
		if got := parseGPUs(tt.text); got != tt.want {
			t.Errorf("%q: got %d, want %d", tt.text, got, tt.want)
		}
	}
}

func TestGPUsOfAJob(t *testing.T) {
	tests := []struct {
		name   string
		fields map[string]string
		want   int
	}{
		{"Slurm's own total comes first", map[string]string{"tres-alloc": "cpu=4,gres/gpu=6,node=2", "tres-per-node": "gres/gpu:1", "NumNodes": "2"}, 6},
		{"per job", map[string]string{"tres-per-job": "gres/gpu:5", "NumNodes": "2"}, 5},
		{"per node", map[string]string{"tres-per-node": "gres:gpu:tesla:2", "NumNodes": "3"}, 6},
		{"per task", map[string]string{"tres-per-task": "gres/gpu=2", "NumNodes": "1", "NumTasks": "4"}, 8},
		{"per socket, the least it can mean", map[string]string{"tres-per-socket": "gpu:2", "NumNodes": "2"}, 4},
		{"the node count is not known yet", map[string]string{"tres-per-node": "gpu:2"}, 2},
		{"none", map[string]string{"tres-alloc": "cpu=4,node=1", "NumNodes": "1"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			jobs, dropped, err := parseJobs(strings.NewReader(jobRecord(tt.fields)+"\x1eEND\n"), newTableParser(jobColumns), "\x1eEND\n")
			if err != nil || dropped != 0 || len(jobs) != 1 {
				t.Fatalf("%d jobs, %d dropped, error %v", len(jobs), dropped, err)
			}
			if got := jobs[0].GPUs; got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// jobRecord is squeue's record of job 1 with some fields as given.
func jobRecord(given map[string]string) string {
	plain := map[string]string{
		"JobID": "1", "ArrayJobID": "1", "ArrayTaskID": "N/A", "State": "PENDING", "Partition": "local", "BatchFlag": "1", "Requeue": "1", "PriorityLong": "1",
	}
	fields := make([]string, len(jobColumns))
	for i, c := range jobColumns {
		if text, found := given[c.name]; found {
			fields[i] = text
			continue
		}
		fields[i] = plain[c.name]
	}
	return strings.Join(fields, string(fieldEnd))
}

func TestParseSizes(t *testing.T) {
	tests := []struct {
		text string
		want int64
		ok   bool
	}{
		{"", 0, true},
		{"0", 0, true},
		{"N/A", 0, true},
		{"500M", 500, true},
		{"1000", 1000, true},
		{"2G", 2048, true},
		{"62.50G", 64000, true},
		{"1024K", 1, true},
		{"G", 0, false},
		{"1e9", 0, false},
		{"-5M", 0, false},
		{"9999999999999P", 0, false},
		{"NaN", 0, false},
	}
	for _, tt := range tests {
		if got, ok := parseMegabytes([]byte(tt.text)); got != tt.want || ok != tt.ok {
			t.Errorf("%q: got %d %v, want %d %v", tt.text, got, ok, tt.want, tt.ok)
		}
	}
	for text, want := range map[string]int{"4": 4, "2-4": 2, "1K": 1024, "N/A": 0} {
		if got, ok := parseCount([]byte(text)); got != want || !ok {
			t.Errorf("count %q: got %d %v", text, got, ok)
		}
	}
}

func TestPrintableCutsAtCharacters(t *testing.T) {
	tests := []struct{ text, want string }{
		{"plain", "plain"},
		{"a\x1fb\nc\x00d\x1b[31m", "a?b?c?d?["},
		{"ééééé", "éééé"},
		{"\xff\xfe", "??"},
		{"1234567890", "123456789"},
		{"12345678é", "12345678"},
		{"a\u202eb", "a?b"},
	}
	for _, tt := range tests {
		if got := printable([]byte(tt.text), 9); got != tt.want || !utf8.ValidString(got) {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestNamesAreStrict(t *testing.T) {
	for _, good := range []string{"htc-1", "a", "9x", "n1.example_com-2"} {
		if err := NodeName(good).Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "-a", ".a", "_a", "a b", "a,b", "a[1]", "a=b", "a\n", "é", "a*", "a/b", strings.Repeat("a", 256)} {
		if NodeName(bad).Validate() == nil || PartitionName(bad).Validate() == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
