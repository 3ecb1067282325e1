package burst

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every file of testdata is one situation: what the policy says, what is known,
// the time, and the whole plan. `make golden` rewrites the plans.
func TestSituations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 40 {
		t.Fatalf("found %d situations (error %v), want at least 40", len(files), err)
	}
	seen := map[Code]bool{}
	moved := map[move]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := parseSituation(t, archive)
			plan := Decide(s.now, s.policy, s.facts)
			for _, n := range s.facts.Nodes {
				moved[moves[n.Slurm][n.Supply]] = true
			}
			reasonsOf(plan, func(r Reason) { seen[r.Code] = true })
			got := renderOverflow(s.now, s.facts.Memory, plan) + renderPlan(s.now, plan)
			again := Decide(s.now, s.policy, s.facts.After(s.now, plan))
			again.Commands = slices.DeleteFunc(again.Commands, func(c Command) bool { return c.Kind == NoticeJobs })
			if again.Acts() || len(again.Closings)+len(again.Failures) > 0 {
				t.Errorf("the plan carried out and decided again adds\n%s", renderPlan(s.now, again))
			}
			if *update {
				s.write(t, file, archive, got)
				return
			}
			if diff := cmp.Diff(s.plan, got); diff != "" {
				t.Errorf("plan (-golden +now):\n%s", diff)
			}
		})
	}
	for _, e := range Explanations() {
		if !seen[e.Code] {
			t.Errorf("no situation shows the reason %s", e.Code)
		}
	}
	for m := moveReport; m <= moveUndefined; m++ {
		if !moved[m] {
			t.Errorf("no situation shows move %d", m)
		}
	}
}

func (s situation) write(t *testing.T, file string, archive *txtar.Archive, plan string) {
	t.Helper()
	for i := range archive.Files {
		if archive.Files[i].Name == "plan" {
			archive.Files[i].Data = []byte(plan)
		}
	}
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// reasonsOf calls do for every reason of a plan.
func reasonsOf(p Plan, do func(Reason)) {
	for _, x := range p.Creates {
		do(x.Reason)
	}
	for _, x := range p.Terminates {
		do(x.Reason)
	}
	for _, x := range p.Commands {
		do(x.Reason)
	}
	for _, x := range p.Closings {
		do(x.Reason)
	}
	for _, x := range p.Failures {
		do(x.Reason)
	}
	for _, x := range p.Holds {
		do(x.Reason)
	}
	for _, x := range p.Verdicts {
		do(x.Reason)
	}
	for _, x := range p.Warnings {
		do(x.Reason)
	}
	for _, x := range p.Withheld {
		do(x)
	}
}
