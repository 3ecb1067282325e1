package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/policy"
)

// predicateOf is the expression of an overflow rule, compiled.
func predicateOf(text string) (burst.Predicate, error) {
	d, err := policy.Parse([]byte(rule(fmt.Sprintf("when: %q", text))), expand)
	if err != nil {
		return nil, err
	}
	return d.Burst().Overflow[0].When, nil
}

func aJob() *burst.Group {
	return &burst.Group{
		Key: "k", Partitions: []string{"local", "long"}, User: "ada", Account: "cfd", QOS: "normal",
		StateReason: "Resources", Nodes: 4, CPUs: 128, MemoryMiB: 256 << 10, GPUs: 2, TimeLimit: 2 * time.Hour,
		Features: "avx512&ib", Batch: true, Requeue: true, Count: 3, Priority: 4711,
	}
}

func TestPredicatesJudgeEachFieldOfAJob(t *testing.T) {
	for text, want := range map[string]burst.Answer{
		`true`:                          burst.Yes,
		`false`:                         burst.No,
		`job.user == "ada"`:             burst.Yes,
		`job.user != "ada"`:             burst.No,
		`job.account in ["bio", "cfd"]`: burst.Yes,
		`job.qos == "normal" && job.account.startsWith("c")`: burst.Yes,
		`job.partitions.exists(p, p == "long")`:              burst.Yes,
		`job.partitions.all(p, p == "long")`:                 burst.No,
		`"long" in job.partitions`:                           burst.Yes,
		`job.partitions[0] == "local"`:                       burst.Yes,
		`size(job.partitions) == 2`:                          burst.Yes,
		`job.nodes == 4 && job.cpus == 128 && job.gpus == 2`: burst.Yes,
		`job.memoryMiB / job.nodes <= 64 * 1024`:             burst.Yes,
		`job.timeLimit == duration("2h")`:                    burst.Yes,
		`job.timeLimit < duration("2h")`:                     burst.No,
		`job.features.contains("ib")`:                        burst.Yes,
		`job.features.matches("avx(512|2)")`:                 burst.Yes,
		`job.nodeList`:                                       burst.No,
		`job.batch && job.requeue && !job.restarted`:         burst.Yes,
		`job.priority > 4710`:                                burst.Yes,
		`has(job.user)`:                                      burst.Yes,
		`job.nodes > 2 ? job.batch : job.nodeList`:           burst.Yes,
		// What cannot be answered is told, not taken for a no.
		`job.nodes / job.gpus * 0 == 1 / (job.nodes - 4)`: burst.Overrun,
		`job.partitions[7] == "x"`:                        burst.Overrun,
		`job.priority * 9223372036854775807 > 0`:          burst.Overrun,
	} {
		p, err := predicateOf(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		g := aJob()
		if got := p.Judge(g); got != want {
			t.Errorf("%s gives %v, want %v", text, got, want)
		}
		if diff := cmp.Diff(aJob(), g); diff != "" {
			t.Errorf("%s changes the job:\n%s", text, diff)
		}
	}
}

func TestUnlimitedJobsHaveNoTimeLimit(t *testing.T) {
	p, err := predicateOf(`job.timeLimit == duration("0s")`)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Judge(&burst.Group{}); got != burst.Yes {
		t.Errorf("got %v", got)
	}
}

// Functions decide for several clusters at once, with one policy.
func TestAPolicyIsSafeForConcurrentUse(t *testing.T) {
	d, err := policy.Parse([]byte(strings.Replace(whole, "    maxJobCost: 50", "    when: job.partitions.exists(p, p == job.partitions[1]) && job.nodes > 2", 1)), expand)
	if err != nil {
		t.Fatal(err)
	}
	p := d.Burst()
	start := time.Date(2026, time.July, 3, 0, 0, 0, 0, time.UTC)
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for j := range 200 {
				g := aJob()
				g.Nodes = j % 5
				if got, want := p.Overflow[0].When.Judge(g), j%5 > 2; (got == burst.Yes) != want {
					t.Errorf("%d nodes give %v", g.Nodes, got)
				}
				at := start.Add(time.Duration(i*200+j) * time.Minute)
				if open, changes := p.Nodearrays[0].Window.At(at); !changes.After(at) || open != (at.Hour() < 4 || at.Hour() >= 18 || at.Weekday() != time.Friday) {
					t.Errorf("at %v: open %v until %v", at, open, changes)
				}
			}
		})
	}
	running.Wait()
}

// Nobody bounds what a cluster calls its accounts and how many partitions a
// job waits in, so a count stops what the estimate did not foresee.
func TestAJobOfAbsurdSizeOverruns(t *testing.T) {
	p, err := predicateOf(`job.partitions.exists(p, p.contains(job.features))`)
	if err != nil {
		t.Fatal(err)
	}
	g := aJob()
	if got := p.Judge(g); got != burst.No {
		t.Errorf("an ordinary job gives %v", got)
	}
	g.Partitions = slices.Repeat([]string{strings.Repeat("a", 64)}, 200)
	if got := p.Judge(g); got != burst.Overrun {
		t.Errorf("a large job gives %v, want Overrun", got)
	}
	g.Partitions = slices.Repeat([]string{strings.Repeat("a", 1_000)}, 10_000)
	g.Features = strings.Repeat("a", 999) + "b"
	began := time.Now()
	if got := p.Judge(g); got != burst.Overrun {
		t.Errorf("an absurd job gives %v, want Overrun", got)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("the judgement took %v", took)
	}
}

func TestRulesThatAreNotPredicatesAreRefused(t *testing.T) {
	nested := "true"
	for i := range 8 {
		nested = fmt.Sprintf("job.partitions.all(p%d, %s)", i, nested)
	}
	for text, want := range map[string]string{
		`job.nodes`:           "it gives int, not true or false",
		`job.account ==`:      "at 1:15: \"Syntax error",
		`job.acount == "cfd"`: `at 1:4: "undefined field 'acount'"`,
		`job.nodes == "4"`:    "found no matching overload for '_==_'",
		`jobs.nodes == 4`:     "undeclared reference to 'jobs'",
		`timestamp("2026-01-01T00:00:00Z") < timestamp("2027-01-01T00:00:00Z")`: "undeclared reference to 'timestamp'",
		`dyn(job.nodes) == "4"`:                 "undeclared reference to 'dyn'",
		`job == job`:                            "it uses job without a field",
		`[job].exists(j, j.batch)`:              "it uses job without a field",
		`job.user.matches("(")`:                 "invalid matches argument",
		`job.user.matches("(a{1,500}){1,500}")`: "invalid matches argument",
		`job.timeLimit > duration("2 hours")`:   "invalid duration argument",
		nested:                                  "it may cost too much",
		`[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, a+b+c+d > 0))))`: "it may cost too much",
		strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200):                                                                  "expression recursion limit exceeded",
		`true || ` + strings.Repeat("job.batch || ", 200) + "true":                                                                    "has a wrong length",
		"":                                "has a wrong length",
		"  ":                              "has a wrong length",
		`cel.bind(x, job.nodes, x > 1)`:   "undeclared reference",
		`slurmburst.Job{user: "a"}.batch`: "it makes an object",
		"\x00":                            "",
	} {
		_, err := predicateOf(text)
		if err == nil {
			t.Errorf("%.80q: accepted", text)
			continue
		}
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 18: overflow[0].when: ") || strings.Count(err.Error(), "\n") > 0 || len(err.Error()) > 500 {
			t.Errorf("%.80q: %v", text, err)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	for name, text := range map[string]string{
		"simple":  `job.nodes <= 4`,
		"typical": `job.account in ["cfd", "bio"] && job.nodes <= 16 && job.timeLimit > duration("10m") && !job.nodeList && job.batch`,
		"list":    `job.partitions.exists(p, p.startsWith("lo")) && job.user.matches("^a[a-z]+$")`,
	} {
		b.Run(name, func(b *testing.B) {
			p, err := predicateOf(text)
			if err != nil {
				b.Fatal(err)
			}
			g := aJob()
			b.ReportAllocs()
			for b.Loop() {
				if p.Judge(g) != burst.Yes {
					b.Fatal("not yes")
				}
			}
		})
	}
}

// BenchmarkJudge5000 is one decision's worth of groups.
func BenchmarkJudge5000(b *testing.B) {
	p, err := predicateOf(`job.account in ["cfd", "bio"] && job.nodes <= 16 && job.timeLimit > duration("10m") && !job.nodeList && job.batch`)
	if err != nil {
		b.Fatal(err)
	}
	groups := make([]*burst.Group, 5_000)
	for i := range groups {
		groups[i] = aJob()
		groups[i].Nodes = i % 32
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, g := range groups {
			p.Judge(g)
		}
	}
}

func FuzzPredicate(f *testing.F) {
	for _, text := range []string{
		`job.nodes <= 4`, `job.partitions.exists(p, p.startsWith("lo"))`, `job.user.matches("^a+$") && job.timeLimit > duration("1h")`,
		`[1,2].map(x, x * job.nodes).filter(y, y > 3).size() == 1`, `{"a": 1}["a"] == job.gpus`, `job == job`, `has(job.user) ? true : false`,
		`(job.user + job.user).matches(job.features)`, `job.partitions.map(p, p + p).all(q, q.size() > int("7"))`,
	} {
		f.Add(text, 3)
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		p, err := predicateOf(text)
		if err != nil {
			if fault.Of(err) != fault.Invalid {
				t.Errorf("kind is %v: %v", fault.Of(err), err)
			}
			return
		}
		size = min(max(size, 0), 3_000)
		g := aJob()
		g.User, g.Features = strings.Repeat("a", size), strings.Repeat("é", size)
		g.Partitions = slices.Repeat([]string{"local"}, size)
		began := time.Now()
		first := p.Judge(g)
		if took := time.Since(began); took > time.Second {
			t.Errorf("%q took %v", text, took)
		}
		if again := p.Judge(g); again != first {
			t.Errorf("%q gives %v and then %v", text, first, again)
		}
	})
}
