package slurm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func task(array, index int) JobRef {
	return JobRef{Job: JobID(array), IsTask: true, Task: uint32(index)}
}

func tasks(array, from, to, step int) []JobRef {
	var refs []JobRef
	for i := from; i <= to; i += step {
		refs = append(refs, task(array, i))
	}
	return refs
}

func TestTasksOfAnArrayAreNamedByRanges(t *testing.T) {
	for _, c := range []struct {
		name string
		jobs []JobRef
		want string
	}{
		{"jobs stay in their order", []JobRef{{Job: 9}, {Job: 7}}, "9,7"},
		{"one task is named alone", []JobRef{task(9, 0)}, "9_0"},
		{"neighbours are a range", tasks(117, 4, 7, 1), "117_[4-7]"},
		{"gaps end a range", []JobRef{task(117, 9), task(117, 0), task(117, 10), task(117, 5)}, "117_[0,5,9-10]"},
		{"a task named twice is one", []JobRef{task(117, 5), task(117, 5)}, "117_5"},
		{"arrays and jobs mix", []JobRef{task(9, 2), {Job: 7}, task(8, 1), task(9, 1)}, "9_[1-2],7,8_1"},
		{"an array and its task are not the same", []JobRef{{Job: 9}, task(9, 2), task(9, 3)}, "9,9_[2-3]"},
		{"the highest task", []JobRef{task(1, 1<<32-1), task(1, 0)}, "1_[0,4294967295]"},
	} {
		if got := jobList(c.jobs); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestBatchesKeepArraysTogether(t *testing.T) {
	lengths := func(batches [][]JobRef) (out []int) {
		for _, b := range batches {
			out = append(out, len(b))
			if list := jobList(b); len(list) > maxListBytes {
				t.Errorf("a list of %d bytes does not fit into an argument", len(list))
			}
		}
		return out
	}
	var jobs []JobRef
	for i := range 1200 {
		jobs = append(jobs, JobRef{Job: JobID(i + 1)})
	}
	for _, c := range []struct {
		name string
		jobs []JobRef
		want []int
	}{
		{"no jobs", nil, nil},
		{"many jobs", jobs, []int{500, 500, 200}},
		{"a whole array", append(tasks(7000, 1, 100_000, 1), jobs[:10]...), []int{100_000, 10}},
		{"an array that would straddle two", append(jobs[:300:300], tasks(7000, 1, 400, 1)...), []int{300, 400}},
		{"an array that no argument takes", tasks(7000, 1_000_000, 1_040_000, 2), []int{10_000, 10_001}},
	} {
		got := batches(c.jobs)
		if diff := cmp.Diff(c.want, lengths(got)); diff != "" {
			t.Errorf("%s: batches (-want +got):\n%s", c.name, diff)
		}
		seen := map[JobRef]bool{}
		for _, b := range got {
			for _, ref := range b {
				seen[ref] = true
			}
		}
		if len(seen) != len(c.jobs) {
			t.Errorf("%s: %d of %d jobs are named", c.name, len(seen), len(c.jobs))
		}
	}
}

func TestACommentOfAnyTextCostsNoJob(t *testing.T) {
	parser := JobQuery{AdminComment: true}.columns()
	row := func(id, comment string) string {
		fields := make([]string, len(jobColumns), len(jobColumns)+1)
		for i, c := range jobColumns {
			fields[i] = map[string]string{
				"JobID": id, "ArrayJobID": id, "ArrayTaskID": "N/A", "State": "PENDING", "Partition": "local", "BatchFlag": "1", "Requeue": "1",
				"RestartCnt": "0", "PriorityLong": "1",
			}[c.name]
		}
		return strings.Join(append(fields, comment), "\x1f")
	}
	comments := []string{"(null)", "why: 5 > 3", "a\x1fb\nc|d%e", strings.Repeat("é", 65_000)}
	var stream strings.Builder
	for i, comment := range comments {
		stream.WriteString(row(fmt.Sprint(i+1), comment) + "\x1eEND\n")
	}
	jobs, dropped, err := parseJobs(strings.NewReader(stream.String()), parser, "\x1eEND\n")
	if err != nil || dropped != 0 {
		t.Fatalf("%d dropped: %v", dropped, err)
	}
	var got []string
	for i := range jobs {
		got = append(got, jobs[i].AdminComment)
	}
	if diff := cmp.Diff([]string{"", "why: 5 > 3", "a?b?c|d%e", strings.Repeat("é", 127)}, got); diff != "" {
		t.Errorf("comments (-want +got):\n%s", diff)
	}
}
