package reconcile

import (
	"context"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// plan asks the core, and CycleCloud where the core wants to know more.
func (p *pass) plan(ctx context.Context) (time.Time, burst.Plan) {
	if p.trigger.sweep {
		p.look(ctx)
	}
	p.facts.JobCommands = p.jobCommands()
	for range 3 {
		now := p.Now()
		p.basis = p.facts
		plan := burst.Decide(now, p.config.Policy, p.facts)
		switch {
		case p.facts.CycleCloudFailed || (!plan.Look && !plan.Status):
			return now, plan
		case plan.Look:
			p.look(ctx)
		default:
			p.askStatus(ctx)
		}
	}
	now := p.Now()
	p.basis = p.facts
	return now, burst.Decide(now, p.config.Policy, p.facts)
}

// look reads CycleCloud's whole node list.
func (p *pass) look(ctx context.Context) {
	asked := p.Now()
	list, err := p.config.CycleCloud.Nodes(ctx, p.config.CycleCloudCluster)
	if err != nil {
		p.cycleCloudFailed(err)
		return
	}
	p.observe(list, asked)
}

// askStatus reads CycleCloud's limits.
func (p *pass) askStatus(ctx context.Context) {
	status, err := p.config.CycleCloud.Status(ctx, p.config.CycleCloudCluster, false)
	if err != nil {
		p.cycleCloudFailed(err)
		return
	}
	for i := range p.facts.Nodearrays {
		a := &p.facts.Nodearrays[i]
		a.Available = availability(status, p.config.Policy, a.Name)
	}
}

func (p *pass) cycleCloudFailed(err error) {
	p.facts.CycleCloudFailed = true
	p.Logger.Warn("cyclecloud did not answer", "cluster", p.name, "error", err.Error(), "kind", fault.Of(err).String())
	p.failures = append(p.failures, ledger.Failure{
		At: p.Now(), Source: "cyclecloud", What: "ask for nodes", Code: fault.Of(err).String(), Detail: err.Error(),
	})
}
