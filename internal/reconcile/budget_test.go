package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

func TestTheMemoryIsWrittenWhenItSaysSomethingNew(t *testing.T) {
	p := drafting()
	p.stored = burst.Memory{Jobs: []burst.CloudJob{{ID: "5", Nodearray: "htc", CommittedAt: cloudNow.In(time.FixedZone("", 3600))}}}
	row, err := p.budget(p.stored)
	if err != nil || row != nil {
		t.Fatalf("the same memory makes the row %v, %v", row, err)
	}
	next := burst.Memory{Jobs: []burst.CloudJob{{ID: "5", Nodearray: "htc", Rate: 7, CommittedAt: cloudNow}}, Runs: []burst.RunRatio{{User: "eva", Ratio: 0.25, Jobs: 3}}}
	if row, err = p.budget(next); err != nil || row == nil {
		t.Fatalf("a new memory makes the row %v, %v", row, err)
	}
	got, err := memoryOf(*row)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(next, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestAMemoryThatCannotBeReadStopsTheCluster(t *testing.T) {
	whole, err := drafting().budget(burst.Memory{Notices: 3})
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"no gzip": []byte("{}"), "cut short": whole.Body[:len(whole.Body)-9], "no memory": mustZip(t, "text")} {
		if _, err := memoryOf(ledger.Budget{Body: body}); !fault.Is(err, fault.Bug) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// The jobs that one cluster may have in the cloud must fit the row.
func TestAMemoryOf20000JobsFitsTheRow(t *testing.T) {
	var m burst.Memory
	for i := range 20_000 {
		m.Jobs = append(m.Jobs, burst.CloudJob{
			ID: fmt.Sprint(4_000_000 + i*3), Nodearray: "htc", User: fmt.Sprintf("user%d", i%200), Account: fmt.Sprintf("account%d", i%40), Nodes: i%8 + 1,
			Home: []string{"batch"}, Rate: 1_234_567, Committed: burst.Money(i * 7919), CommittedAt: cloudNow.Add(time.Duration(i) * time.Second),
			TimeLimit: time.Hour, SubmittedAt: cloudNow.Add(-time.Duration(i) * time.Minute),
		})
	}
	row, err := drafting().budget(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(row.Body) > ledger.MaxBudget {
		t.Errorf("%d bytes, %d fit", len(row.Body), ledger.MaxBudget)
	}
}

func mustZip(t *testing.T, v any) []byte {
	t.Helper()
	body, err := zip(v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
