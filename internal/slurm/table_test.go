package slurm

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestARecordReadsTheSameAfterAnyOther guards what a parser keeps of the record
// before: every field is written, left out and broken before and after every
// other.
func TestARecordReadsTheSameAfterAnyOther(t *testing.T) {
	const end = "\x1eEND\n"
	present := map[string]string{
		"JobID": "2", "ArrayJobID": "3", "ArrayTaskID": "4", "State": "RUNNING", "Partition": "local,htc", "UserName": "eve", "Account": "physics",
		"QOS": "high", "Reason": "Priority", "NumNodes": "2-4", "NumCPUs": "8", "NumTasks": "3", "MinMemory": "2G", "tres-alloc": "mem=5G,gres/gpu=7",
		"tres-per-job": "gpu:5", "tres-per-node": "gpu:2", "tres-per-socket": "gpu:3", "tres-per-task": "gpu:6", "TimeLimit": "1:00:00", "ReqNodes": "n1",
		"BatchFlag": "0", "Requeue": "0", "RestartCnt": "2", "SubmitTime": "11", "EligibleTime": "12", "StartTime": "13", "EndTime": "14",
		"PriorityLong": "15", "NodeList": "n[1-2]", "Feature": "a&b", "ReasonList": "(Priority)", "admin_comment": "a\x1fb",
	}
	query := JobQuery{AdminComment: true}
	long := strings.Repeat("(", maxRepeatedBytes+1)
	records := []string{
		jobRecord(nil), jobRecord(nil) + "\x1f", jobRecord(present) + "\x1fa\x1fb", "no record",
		jobRecord(map[string]string{"Account": long}) + "\x1f", jobRecord(map[string]string{"Feature": long}) + "\x1f" + long,
	}
	for _, column := range query.columns().columns[:len(jobColumns)] {
		text, found := present[column.name]
		if !found {
			t.Fatalf("field %s is not tested", column.name)
		}
		records = append(records,
			jobRecord(map[string]string{column.name: text})+"\x1f",
			jobRecord(map[string]string{column.name: text + "0"})+"\x1f")
	}
	read := func(stream string) []Job {
		jobs, _, err := parseJobs(strings.NewReader(stream), query.columns(), end)
		if err != nil {
			t.Fatal(err)
		}
		return jobs
	}
	alone := make([][]Job, len(records))
	for i, record := range records {
		alone[i] = read(record + end)
	}
	for i, first := range records {
		for k, second := range records {
			want := slices.Concat(alone[i], alone[k])
			if got := read(first + end + second + end); len(want)+len(got) > 0 && !reflect.DeepEqual(want, got) {
				t.Fatalf("%q\nafter %q (-alone +together):\n%s", second, first, cmp.Diff(want, got))
			}
		}
	}
}

func TestANodeReadsTheSameAfterAnyOther(t *testing.T) {
	const end = "\x1eEND\n"
	records := []string{
		"n1\x1flocal*\x1fidle+cloud\x1f0/4/0/4\x1f1000\x1f10\x1fa,b\x1fgpu:tesla:2\x1f127.0.0.1\x1f1795441409\x1fbad\x1fdisk",
		"n2\x1flocal*\x1fidle+cloud\x1f0/4/0/4\x1f1000\x1f10\x1fa,b\x1fgpu:tesla:2\x1f127.0.0.1\x1f1795441409\x1fbad\x1f",
		"n3\x1f\x1fidle\x1f4/0/0/4\x1f\x1f\x1f(null)\x1f(null)\x1f\x1fUnknown\x1fnone",
		"n4\x1flocal\x1fallocated\x1f4/0/0\x1f1\x1f2\x1fa\x1fgpu\x1fb\x1f0\x1f",
		"n5\x1fhtc\x1fallocated\x1f4/0/0/4\x1f1\x1f2\x1fa\x1fgpu\x1fb\x1f0\x1f",
	}
	read := func(stream string) []Node {
		parser := newTableParser(nodeColumns)
		parser.openEnd = true
		nodes, _, err := parseNodes(strings.NewReader(stream), parser, end)
		if err != nil {
			t.Fatal(err)
		}
		return nodes
	}
	for _, first := range records {
		for _, second := range records {
			if first == second {
				continue
			}
			want := append(read(first+end), read(second+end)...)
			if diff := cmp.Diff(want, read(first+end+second+end)); diff != "" {
				t.Fatalf("%q\nafter %q (-alone +together):\n%s", second, first, diff)
			}
		}
	}
}
