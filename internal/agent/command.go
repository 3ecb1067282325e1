package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/logging"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

const (
	// slurmPatience is how long a command waits for a slurmctld that does not
	// answer. The cloud sends it again if it still wants it then.
	slurmPatience = 2 * time.Minute
	// readBackFor and readBackEvery bound the wait for a command to show.
	readBackFor   = 3 * time.Second
	readBackEvery = 100 * time.Millisecond
	// maxErrorBytes bounds the error text of a result.
	maxErrorBytes  = 300
	maxListBytes   = 4000
	maxCommandJobs = 1000
	// maxJobListBytes takes the ids of maxCommandJobs.
	maxJobListBytes = 20_000
)

// errNotYet postpones a command whose targets are about to become ready.
var errNotYet = errors.New("not yet")

// obey carries out the commands that were received and reports whether any was.
// A message is settled only after its result is stored; what could not be
// settled stays in the backlog.
func (t *term) obey(ctx context.Context) (acted bool, err error) {
	if err := t.verify(ctx); err != nil {
		return false, err
	}
	t.crash(pointObeying)
	var postponed []bus.Received
	defer func() { t.backlog = append(postponed, t.backlog...) }()
	for len(t.backlog) > 0 && ctx.Err() == nil {
		message := t.backlog[0]
		err := t.carryOutMessage(ctx, message)
		if errors.Is(err, errNotYet) {
			t.crash(pointPostponed)
			t.backlog, postponed = t.backlog[1:], append(postponed, message)
			continue
		}
		if err == nil {
			err = t.store(ctx)
		}
		if err != nil {
			return acted, err
		}
		t.backlog, acted = t.backlog[1:], true
		if err := t.session.Complete(ctx, message); err != nil {
			return acted, fmt.Errorf("%w: %w", errUnsettled, err)
		}
		t.crash(pointSettled)
	}
	return acted, ctx.Err()
}

// errUnsettled ends the charge. After its connection broke, the client may fail
// to settle what it received before, again and again, each time for as long as
// it may, and new commands wait behind. A session that is accepted anew gets the
// messages again, and they are answered by what is stored.
var errUnsettled = errors.New("a command could not be settled")

// store writes the charge into the session state, if it has changed.
func (t *term) store(ctx context.Context) error {
	if !t.dirty {
		return nil
	}
	if err := t.settleDoubt(ctx); err != nil {
		return err
	}
	state, err := t.charge.encode(t.Clock.Now())
	if err != nil {
		return err
	}
	if err := t.session.SetState(ctx, state); err != nil {
		return err
	}
	t.dirty = false
	t.crash(pointStored)
	return nil
}

func (t *term) carryOutMessage(ctx context.Context, message bus.Received) error {
	encoding, _ := message.Properties[event.EncodingProperty].(string)
	command, err := event.DecodeSlurmCommand(message.Body, encoding)
	if t.refuseVersion(err) {
		return nil
	}
	if err == nil && command.Cluster != t.Cluster {
		err = fault.Newf(fault.Invalid, "command is for cluster %.80q", command.Cluster)
	}
	if err != nil {
		t.problems.add(codeUnreadable, "message "+message.ID+": "+err.Error(), t.Clock.Now())
		t.Logger.Warn("command was not readable", logging.MessageID, message.ID, logging.Error, err)
		return nil
	}
	if len(command.Known) > 0 {
		t.charge.know(command.Known)
		t.dirty = true
	}
	if t.charge.find(command.ID) {
		t.crash(pointRecognised)
		return nil
	}
	t.crash(pointBegun)
	result, err := t.carryOut(ctx, command)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	t.crash(pointReadBack)
	result.ID, result.Generation = command.ID, command.Generation
	result.Error = bounded(result.Error, maxErrorBytes)
	bound := boundedList
	if len(command.Jobs) > 0 {
		bound = boundedJobs
	}
	result.Stale, result.Failed = bound(result.Stale), bound(result.Failed)
	t.keep(result)
	t.crash(pointRemembered)
	t.Logger.Info("carried out command", logging.CommandID, command.ID, logging.Kind, string(command.Kind),
		logging.Nodes, bounded(command.Nodes, maxErrorBytes), logging.Jobs, bounded(joinJobs(command.Jobs), maxErrorBytes), "result", string(result.State), "stale", result.Stale, "failed", result.Failed, logging.Error, result.Error)
	return nil
}

func refused(format string, args ...any) event.CommandResult {
	return event.CommandResult{State: event.ResultRefused, Error: fmt.Sprintf(format, args...)}
}

func failed(err error) event.CommandResult {
	return event.CommandResult{State: event.ResultFailed, Error: err.Error()}
}

// carryOut does what a command asks, as far as its targets still are what the
// cloud took them for. The only errors are errNotYet and errLapsed.
func (t *term) carryOut(ctx context.Context, c event.SlurmCommand) (event.CommandResult, error) {
	switch c.Kind {
	case event.BeginNow:
		return t.carryOutOnJobs(ctx, c, t.beginNow())
	case event.ReleaseJobs, event.RevokeJobs:
		rule, err := t.moveJobs(c)
		if err != nil {
			return refused("%v", err), nil
		}
		return t.carryOutOnJobs(ctx, c, rule)
	case event.NoticeJobs:
		return t.noticeJobs(ctx, c)
	case event.GatePartition:
		return t.gatePartition(ctx, c)
	default:
	}
	rule, known := nodeRules[c.Kind]
	if !known {
		return refused("command %.40q is not known", c.Kind), nil
	}
	return t.carryOutOnNodes(ctx, c, rule)
}

// lookGoodFor is how long after a look at the targets has begun a command may
// rest on it: longer than two questions to Slurm may take.
const lookGoodFor = 30 * time.Second

// mayAct is asked last before a command changes Slurm. Slurm has no compare and
// set, so an agent that was stopped between look and act must neither act on
// what it saw before nor beside its successor.
func (t *term) mayAct(lookBegan time.Time) error {
	t.crash(pointConfirmed)
	if !t.holds() {
		return errLapsed
	}
	if t.Clock.Now().Sub(lookBegan) > lookGoodFor {
		return errNotYet // it is looked at again
	}
	return nil
}

func (t *term) carryOutOnNodes(ctx context.Context, c event.SlurmCommand, rule nodeRule) (event.CommandResult, error) {
	names, result := t.targets(c)
	if len(names) == 0 {
		return result, nil
	}
	if rule.check != nil {
		if err := rule.check(c, names); err != nil {
			return refused("%v", err), nil
		}
	}
	t.remember(names, c.Generation)
	lookBegan := t.Clock.Now()
	acting, err := t.confirm(ctx, c, rule, names)
	if err != nil {
		return failed(err), nil
	}
	stale := without(names, acting)
	result.Stale = joinLists(result.Stale, slurm.FormatHostlist(stale))
	if len(acting) == 0 {
		result.State = event.ResultStale
		return result, nil
	}
	if err := t.mayAct(lookBegan); err != nil {
		return result, err
	}
	outcome, err := rule.act(ctx, t, c, acting)
	t.crash(pointActed)
	if err != nil && !fault.Is(err, fault.Transient) {
		result.State, result.Failed, result.Error = event.ResultFailed, slurm.FormatHostlist(acting), err.Error()
		return result, nil
	}
	wrong, err := t.readBack(ctx, c, rule, acting)
	result.State = event.ResultOK
	if err != nil || len(wrong) > 0 {
		result.State, result.Failed, result.Error = event.ResultFailed, slurm.FormatHostlist(wrong), outcome.Stderr
		if err != nil {
			result.Error = err.Error()
		}
	}
	return result, nil
}

// targets gives the nodes that a command may touch. Without any, the result
// says why: refused for a name outside the allow-list, superseded by newer
// commands.
func (t *term) targets(c event.SlurmCommand) ([]slurm.NodeName, event.CommandResult) {
	names, err := slurm.ParseHostlist(c.Nodes)
	if err != nil {
		return nil, refused("%v", err)
	}
	if len(names) == 0 {
		return nil, refused("%s names no nodes", c.Kind)
	}
	var newer []slurm.NodeName
	for _, name := range names {
		if _, ours := t.owner[name]; !ours {
			return nil, refused("node %s is not in the policy of cluster %s", name, t.Cluster)
		}
		if t.charge.nodes[name] > c.Generation {
			newer = append(newer, name)
		}
	}
	result := event.CommandResult{Stale: slurm.FormatHostlist(newer)}
	rest := without(names, newer)
	if len(rest) == 0 {
		result.State = event.ResultSuperseded
	}
	return rest, result
}

// confirm re-reads the nodes and gives those that a command still fits. For the
// abort of a boot it looks at the jobs first and at the nodes last, so that
// little can change before the act.
func (t *term) confirm(ctx context.Context, c event.SlurmCommand, rule nodeRule, names []slurm.NodeName) ([]slurm.NodeName, error) {
	var onNode map[slurm.NodeName][]*slurm.Job
	if rule.sparesJobs || c.Expect.RequeueableBatchOnly {
		var jobs []slurm.Job
		err := t.insist(ctx, func() (err error) {
			jobs, _, err = t.Slurm.Jobs(ctx, slurm.JobQuery{States: activeStates})
			return err
		})
		if err != nil {
			return nil, err
		}
		onNode = t.jobsByNode(jobs)
	}
	nodes, err := t.readNodes(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(names), func(name slurm.NodeName) bool {
		n, known := nodes[name]
		fits := known && isCloud(n.State) && rule.fits(n, c) && expects(c.Expect, n) && allRequeueable(onNode[name])
		return !fits
	}), nil
}

func allRequeueable(jobs []*slurm.Job) bool {
	return !slices.ContainsFunc(jobs, func(job *slurm.Job) bool { return !job.IsBatch || !job.Requeue })
}

// expects reports whether the state that the cloud decided on still holds.
func expects(e event.Expect, n *slurm.Node) bool {
	if len(e.States) > 0 && !slices.Contains(e.States, string(n.State.Base)) {
		return false
	}
	for _, flag := range e.Flags {
		if !n.State.Has(slurm.NodeFlag(flag)) {
			return false
		}
	}
	for _, flag := range e.NotFlags {
		if n.State.Has(slurm.NodeFlag(flag)) {
			return false
		}
	}
	return strings.HasPrefix(n.Reason, e.Reason)
}

// readNodes reads the node table, waiting for a slurmctld that is away.
func (t *term) readNodes(ctx context.Context) (map[slurm.NodeName]*slurm.Node, error) {
	var nodes []slurm.Node
	err := t.insist(ctx, func() (err error) {
		nodes, _, err = t.Slurm.Nodes(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	byName := make(map[slurm.NodeName]*slurm.Node, len(nodes))
	for i := range nodes {
		byName[nodes[i].Name] = &nodes[i]
	}
	return byName, nil
}

// insist repeats a question to Slurm while it fails for a passing reason, for
// at most slurmPatience.
func (t *term) insist(ctx context.Context, ask func() error) error {
	began := t.Clock.Now()
	for pause := firstRetry; ; pause = min(2*pause, longestRetry) {
		err := ask()
		t.conditions.report("reading Slurm", wrapRead(err))
		if err == nil || ctx.Err() != nil || !fault.Is(err, fault.Transient) || t.Clock.Now().Sub(began) > slurmPatience {
			return err
		}
		t.pause(ctx, pause)
	}
}

// remember notes the generation of the newest command for the nodes, whether or
// not it fits them: after a crash it may have been carried out already, and what
// is older must still not follow it.
func (t *term) remember(names []slurm.NodeName, generation int64) {
	for _, name := range names {
		t.charge.nodes[name] = max(t.charge.nodes[name], generation)
	}
}

// readBack waits a moment for the command to show and gives the nodes on which
// it does not.
func (t *term) readBack(ctx context.Context, c event.SlurmCommand, rule nodeRule, acting []slurm.NodeName) ([]slurm.NodeName, error) {
	for began := t.Clock.Now(); ; {
		nodes, err := t.readNodes(ctx)
		if err != nil {
			return acting, err
		}
		wrong := slices.DeleteFunc(slices.Clone(acting), func(name slurm.NodeName) bool {
			n, known := nodes[name]
			return known && rule.shows(n, c)
		})
		if rule.confirm != nil && len(wrong) == 0 {
			if wrong, err = rule.confirm(ctx, t, c, acting); err != nil {
				return acting, err
			}
		}
		if len(wrong) == 0 || ctx.Err() != nil || t.Clock.Now().Sub(began) > readBackFor {
			return wrong, nil
		}
		t.pause(ctx, readBackEvery)
	}
}

func without[T comparable](all, some []T) []T {
	drop := make(map[T]bool, len(some))
	for _, s := range some {
		drop[s] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return drop[x] })
}

func joinLists(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "," + b
}
