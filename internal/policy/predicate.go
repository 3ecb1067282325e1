package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/slurmburst/slurmburst/internal/burst"
)

const (
	maxExpression = 2_000 // bytes
	maxExprNodes  = 1_000 // after macros are expanded
	maxExprDepth  = 32
	maxRegexSteps = 500
	// maxCost bounds a judgement in CEL's own units, each about a memory access:
	// by estimate when the file is read, by count whenever a job is judged.
	maxCost = 1_000
	// What is estimated for a text and for a list of texts that a job brings.
	textSize, listSize = 64, 16
)

// predicate is one compiled expression. It is safe for concurrent use.
type predicate struct {
	// counted stops at maxCost. plain does not count, which makes it twice as
	// fast: it judges jobs for which the estimate made at load holds.
	counted, plain cel.Program
}

// Judge implements burst.Predicate. An expression that cannot be answered, for
// example because it divides by zero, is as good as one that never ends.
func (p *predicate) Judge(g *burst.Group) burst.Answer {
	program := p.counted
	if isOrdinary(g) {
		program = p.plain
	}
	out, _, err := program.Eval(&activation{g})
	if err != nil {
		return burst.Overrun
	}
	if yes, ok := out.(types.Bool); ok && bool(yes) {
		return burst.Yes
	}
	return burst.No
}

// isOrdinary reports whether no text or list is longer than was estimated.
func isOrdinary(g *burst.Group) bool {
	if len(g.User) > textSize || len(g.Account) > textSize || len(g.QOS) > textSize || len(g.Features) > textSize || len(g.Partitions) > listSize {
		return false
	}
	for _, name := range g.Partitions {
		if len(name) > textSize {
			return false
		}
	}
	return true
}

// activation gives a program its one variable.
type activation struct {
	job *burst.Group
}

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	if name == "job" {
		return a.job, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }

// jobField is one field of the variable job.
type jobField struct {
	name  string
	kind  *types.Type
	about string
	get   func(g *burst.Group) any
}

var textList = types.NewListType(types.StringType)

// jobFields is what an expression may know of a job.
var jobFields = []jobField{
	{"user", types.StringType, "who submitted it", func(g *burst.Group) any { return g.User }},
	{"account", types.StringType, "the account that it is charged to", func(g *burst.Group) any { return g.Account }},
	{"qos", types.StringType, "its quality of service", func(g *burst.Group) any { return g.QOS }},
	{"partitions", textList, "the partitions that it waits in", func(g *burst.Group) any { return g.Partitions }},
	{"nodes", types.IntType, "how many nodes it needs, as Slurm estimates", func(g *burst.Group) any { return int64(g.Nodes) }},
	{"cpus", types.IntType, "CPUs on all its nodes", func(g *burst.Group) any { return int64(g.CPUs) }},
	{"memoryMiB", types.IntType, "memory on all its nodes, in MiB", func(g *burst.Group) any { return g.MemoryMiB }},
	{"gpus", types.IntType, "GPUs on all its nodes", func(g *burst.Group) any { return int64(g.GPUs) }},
	{"timeLimit", types.DurationType, `its time limit, such as duration("2h"); duration("0s") for UNLIMITED`, func(g *burst.Group) any { return g.TimeLimit }},
	{"features", types.StringType, "the features that it asks for, as it was submitted", func(g *burst.Group) any { return g.Features }},
	{"nodeList", types.BoolType, "it asks for nodes by name", func(g *burst.Group) any { return g.NodeList }},
	{"batch", types.BoolType, "it is a batch job", func(g *burst.Group) any { return g.Batch }},
	{"requeue", types.BoolType, "it may be requeued", func(g *burst.Group) any { return g.Requeue }},
	{"restarted", types.BoolType, "it has started before", func(g *burst.Group) any { return g.Restarted }},
	{"priority", types.IntType, "its priority in Slurm", func(g *burst.Group) any { return g.Priority }},
}

const jobType = "slurmburst.Job"

// jobProvider tells CEL of the type of the variable job. It reads the fields
// of a burst.Group in place; nothing is copied or reflected upon.
type jobProvider struct {
	*types.Registry
	fields map[string]*types.FieldType
}

func newJobProvider() (*jobProvider, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, fmt.Errorf("make the registry of types: %w", err)
	}
	p := &jobProvider{registry, map[string]*types.FieldType{}}
	for _, f := range jobFields {
		p.fields[f.name] = &types.FieldType{
			Type:  f.kind,
			IsSet: func(any) bool { return true },
			GetFrom: func(target any) (any, error) {
				g, ok := target.(*burst.Group)
				if !ok {
					return nil, fmt.Errorf("%T is not a job", target)
				}
				return f.get(g), nil
			},
		}
	}
	return p, nil
}

// FindStructType implements types.Provider.
func (p *jobProvider) FindStructType(name string) (*types.Type, bool) {
	if name == jobType {
		return types.NewTypeTypeWithParam(types.NewObjectType(jobType)), true
	}
	return nil, false
}

// FindStructFieldNames implements types.Provider.
func (p *jobProvider) FindStructFieldNames(name string) ([]string, bool) {
	if name != jobType {
		return nil, false
	}
	names := make([]string, len(jobFields))
	for i, f := range jobFields {
		names[i] = f.name
	}
	return names, true
}

// FindStructFieldType implements types.Provider.
func (p *jobProvider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if name != jobType {
		return nil, false
	}
	f, found := p.fields[field]
	return f, found
}

// NewValue implements types.Provider. An expression cannot make a job.
func (p *jobProvider) NewValue(name string, _ map[string]ref.Val) ref.Val {
	return types.NewErr("%s cannot be made", name)
}

// outside are the functions of CEL that an expression has no use for: what
// tells times of day, and what hides the type of a value from the check.
var outside = []string{
	"timestamp", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear",
	"getHours", "getMinutes", "getSeconds", "getMilliseconds", "dyn", "type", "bytes",
}

func newEnvironment() (*cel.Env, error) {
	provider, err := newJobProvider()
	if err != nil {
		return nil, err
	}
	var excluded []*env.Function
	for _, name := range outside {
		excluded = append(excluded, &env.Function{Name: name})
	}
	e, err := cel.NewCustomEnv(
		cel.CustomTypeProvider(provider), cel.CustomTypeAdapter(provider),
		cel.StdLib(cel.StdLibSubset(&env.LibrarySubset{ExcludeFunctions: excluded})),
		cel.Variable("job", cel.ObjectType(jobType)),
		cel.ParserExpressionSizeLimit(maxExpression), cel.ParserRecursionLimit(maxExprDepth),
		cel.ExpressionNodeLimit(maxExprNodes), cel.RegexProgramSizeLimit(maxRegexSteps),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateHomogeneousAggregateLiterals()),
	)
	if err != nil {
		return nil, fmt.Errorf("make the environment of rules: %w", err)
	}
	return e, nil
}

// compilePredicate makes a predicate of an expression, or says in one line
// what is wrong with it.
func compilePredicate(e *cel.Env, text string) (*predicate, error) {
	if len(text) > maxExpression {
		return nil, fmt.Errorf("it is too long (got %d bytes, want at most %d)", len(text), maxExpression)
	}
	checked, issues := e.Compile(text)
	if errs := issues.Errors(); len(errs) > 0 {
		first := errs[0]
		message, _, _ := strings.Cut(first.Message, "\n")
		return nil, fmt.Errorf("at %d:%d: %s", first.Location.Line(), first.Location.Column()+1, show(message))
	}
	if checked.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("it gives %s, not true or false", checked.OutputType())
	}
	if err := checkUse(checked.NativeRep().Expr()); err != nil {
		return nil, err
	}
	estimate, err := e.EstimateCost(checked, sizes{})
	if err != nil {
		return nil, fmt.Errorf("its cost cannot be estimated: %w", err)
	}
	if estimate.Max > maxCost {
		return nil, fmt.Errorf("it may cost too much (up to %d steps, want at most %d)", estimate.Max, maxCost)
	}
	plain, err := e.Program(checked, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("it cannot be planned: %w", err)
	}
	counted, err := e.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, fmt.Errorf("it cannot be planned: %w", err)
	}
	return &predicate{counted: counted, plain: plain}, nil
}

// checkUse wants the variable job only where one of its fields is read, and no
// other object: a whole job has no value in CEL.
func checkUse(root ast.Expr) error {
	uses, reads, makes := 0, 0, 0
	isJob := func(e ast.Expr) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == "job" }
	ast.PreOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		if isJob(e) {
			uses++
		}
		if e.Kind() == ast.SelectKind && isJob(e.AsSelect().Operand()) {
			reads++
		}
		if e.Kind() == ast.StructKind {
			makes++
		}
	}))
	if makes > 0 {
		return errors.New("it makes an object")
	}
	if uses != reads {
		return errors.New("it uses job without a field (want, for example, job.nodes)")
	}
	return nil
}

// sizes estimates how long the texts and lists of a job are.
type sizes struct{}

// EstimateSize implements cost.Estimator.
func (sizes) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	path := element.Path()
	switch {
	case len(path) == 0 || path[0] != "job":
		return nil
	case slices.Equal(path[1:], []string{"partitions"}):
		return &cost.SizeEstimate{Max: listSize}
	case element.Type().Kind() == types.StringKind:
		return &cost.SizeEstimate{Max: textSize}
	}
	return nil
}

// EstimateCallCost implements cost.Estimator.
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
