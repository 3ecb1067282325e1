package slurm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// hugeQueue is squeue's answer for so many pending jobs in 5,000 shapes.
func hugeQueue(jobs int, end string) []byte {
	var out bytes.Buffer
	for i := range jobs {
		shape := i % 5000
		fields := []string{
			fmt.Sprint(1000000 + i), fmt.Sprint(1000000 + i), "N/A", "PENDING", "local,htc", fmt.Sprintf("user%d", shape%200),
			fmt.Sprintf("account%d", shape%50), "normal", "Priority", fmt.Sprint(1 + shape%8), fmt.Sprint(4 * (1 + shape%8)), fmt.Sprint(1 + shape%8),
			"4000M", fmt.Sprintf("cpu=%d,mem=%dM,node=%d,billing=4", 4*(1+shape%8), 4000*(1+shape%8), 1+shape%8), "N/A", "gres/gpu:tesla:2", "N/A", "N/A",
			fmt.Sprintf("%d:00:00", 1+shape%24), "", "1", "1", "0", fmt.Sprint(1795446529 + i), fmt.Sprint(1795446529 + i), "N/A", "N/A",
			fmt.Sprint(4294901759 - i), "", "htc|hpc", "(Priority)",
		}
		out.WriteString(strings.Join(fields, "\x1f") + end)
	}
	return out.Bytes()
}

// TestAHugeQueueSharesItsText bounds the memory per job: what repeats is kept
// once. The jobs themselves grow one slice, a few dozen allocations in all.
func TestAHugeQueueSharesItsText(t *testing.T) {
	const end = "\x1eMARK\n"
	data := hugeQueue(100_000, end)
	var jobs []Job
	allocations := testing.AllocsPerRun(1, func() {
		var (
			dropped int
			err     error
		)
		jobs, dropped, err = parseJobs(bytes.NewReader(data), newTableParser(jobColumns), end)
		if err != nil || dropped != 0 {
			t.Fatalf("%d dropped, error %v", dropped, err)
		}
	})
	if len(jobs) != 100_000 {
		t.Fatalf("%d jobs", len(jobs))
	}
	if last := jobs[99_999]; last.ID != 1099999 || last.GPUs != 16 || last.NodeCount != 8 || last.TotalMemoryMB != 32000 {
		t.Errorf("the last job is %+v", last)
	}
	if allocations > 5000 {
		t.Errorf("%v allocations for 100,000 jobs, want at most 5000", allocations)
	}
}

func BenchmarkParse100kJobs(b *testing.B) {
	const end = "\x1eMARK\n"
	data := hugeQueue(100_000, end)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := parseJobs(bytes.NewReader(data), newTableParser(jobColumns), end); err != nil {
			b.Fatal(err)
		}
	}
}
