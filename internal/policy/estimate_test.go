package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// An ordinary job is judged without counting, because the estimate made at
// load already bounds what it costs. So the largest ordinary job must never
// reach the bound when it is counted.
func TestTheEstimateHoldsForTheLargestOrdinaryJob(t *testing.T) {
	text := strings.Repeat("a", textSize)
	g := &burst.Group{
		User: text, Account: text, QOS: text, Features: text, Partitions: slices.Repeat([]string{text}, listSize),
		Nodes: 1 << 20, TimeLimit: 365 * 24 * time.Hour,
	}
	if !isOrdinary(g) {
		t.Fatal("the largest job is not ordinary")
	}
	e, err := newEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	compiled := 0
	for _, expression := range []string{
		`job.partitions.all(p, p == p)`,
		`job.partitions.all(p, p.contains("b") || p.endsWith("a"))`,
		`job.partitions.map(p, p + p).all(q, q.size() == 128)`,
		`job.partitions.filter(p, p.startsWith("a")).size() == 16`,
		`job.partitions.all(p, [1, 2, 3].exists(x, x == 3))`,
		`job.partitions.all(p, p in ["b", "c", "d", p])`,
		`(job.user + job.account).contains(job.qos + job.features)`,
		`job.user.matches("^(a|b)+$") && job.account.matches("^[a-z]*$") && job.qos.matches(".*a$")`,
		`[job.user, job.account, job.qos].all(x, x.matches("^a{1,64}$"))`,
		`job.partitions.exists_one(p, p == "b") ? job.batch : job.partitions.exists(p, p != "b")`,
		`string(job.nodes) + job.user != job.account && int("7") < job.nodes`,
		`{job.user: job.nodes}[job.account] > 0`,
	} {
		p, err := compilePredicate(e, expression)
		if err != nil {
			if !strings.Contains(err.Error(), "may cost too much") {
				t.Errorf("%s: %v", expression, err)
			}
			continue
		}
		compiled++
		counted, details, err := p.counted.Eval(&activation{g})
		if errors.As(err, new(interpreter.EvalCancelledError)) {
			t.Errorf("%s: %v (cost %d)", expression, err, *details.ActualCost())
		}
		plain, _, plainErr := p.plain.Eval(&activation{g})
		if (err == nil) != (plainErr == nil) || err == nil && counted.Equal(plain) != types.True {
			t.Errorf("%s: counted it gives %v, %v and otherwise %v, %v", expression, counted, err, plain, plainErr)
		}
	}
	if compiled < 6 {
		t.Errorf("only %d expressions were within the bound, so little was tested", compiled)
	}
	g.User += "a"
	if isOrdinary(g) {
		t.Error("a longer name is ordinary too")
	}
}
