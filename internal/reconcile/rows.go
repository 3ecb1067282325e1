package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// overlap is how many revisions before the remembered one are looked at again. A
// pass writes its rows after its commit, so that one of an earlier revision may
// have been written a little later.
const overlap = 50

// maxNamed is how many rows are read by key; for more, one query is cheaper.
// Beside 10,000 rows in Azurite, reading by key took 3 ms for one row, 7 ms for
// 3, 88 ms for 40 and 551 ms for 400; the query that finds 40 took 48 ms, and
// the whole table 5.8 s. So they meet at about 20. Azure's tables answer more
// keys at once and search more slowly, which is why it is not fewer.
const maxNamed = 30

// refresh brings the remembered rows of the nodes up to the revision that was
// loaded. Where something is remembered, only rows that were written since are
// read: every commit of another process would else cost a whole table of nodes,
// and a process that reads for long would never come to its own commit.
func (p *pass) refresh(ctx context.Context, c cached) error {
	exact := c.revision != 0 && c.revision == p.part.Cluster.Revision
	var read []ledger.Node
	var err error
	switch {
	case exact:
	case c.nodesOf == 0 || c.nodesOf > p.part.Cluster.Revision:
		c.nodes = nil
		if read, err = p.Ledger.Nodes(ctx, p.name); err != nil {
			return fmt.Errorf("load nodes: %w", err)
		}
	default:
		if read, err = p.written(ctx, c); err != nil {
			return err
		}
	}
	p.rows = make(map[string]ledger.Node, len(c.nodes)+len(read))
	for _, some := range [][]ledger.Node{c.nodes, read} {
		for _, n := range some {
			p.rows[n.Name] = n
		}
	}
	if !exact {
		p.remember(p.name, cached{
			ledgerID: p.part.Cluster.LedgerID, nodesOf: p.part.Cluster.Revision, nodes: slices.Collect(maps.Values(p.rows)), holds: c.holds,
		})
	}
	return nil
}

// written reads the rows that were written since the remembered ones. The
// commits announce their names; without that, or where they are many, the
// service searches its table of nodes for them.
func (p *pass) written(ctx context.Context, c cached) ([]ledger.Node, error) {
	since := c.nodesOf - overlap
	if named, known := p.part.Changes.After(since, p.part.Cluster.Revision); known {
		maps.DeleteFunc(named, func(name string, _ int64) bool { return !isNode(name) })
		for _, row := range c.nodes {
			// Its row has come. One that has not may be on its way still.
			if at, ok := named[row.Name]; ok && at <= c.nodesOf && row.Revision >= at {
				delete(named, row.Name)
			}
		}
		if len(named) <= maxNamed {
			rows, err := p.Ledger.NodesNamed(ctx, p.name, slices.Sorted(maps.Keys(named)))
			if err != nil {
				return nil, fmt.Errorf("load nodes changed since revision %d: %w", since, err)
			}
			return rows, nil
		}
	}
	rows, err := p.Ledger.NodesSince(ctx, p.name, since)
	if err != nil {
		return nil, fmt.Errorf("load nodes since revision %d: %w", since, err)
	}
	return rows, nil
}

// announce lists what may be written after the commit to come: the rows of
// nodes that say something else than the facts will, and of those that an effect
// is about, and the rows of groups and of commands.
func (p *pass) announce(plan burst.Plan, intents []ledger.Intent) []string {
	p.announced = map[string]bool{}
	for _, row := range p.changed(p.facts.After(p.Now(), withoutEffects(plan)).Nodes, reasonsByNode(plan)) {
		p.announced[row.Name] = true
	}
	for _, some := range [][]ledger.Intent{p.part.Intents, p.settled, intents} {
		for _, i := range some {
			for _, t := range i.Targets {
				p.announced[t.Node] = true
			}
		}
	}
	return slices.Concat(slices.Sorted(maps.Keys(p.announced)), p.regroup.names(), p.commandNames(intents))
}

// withoutEffects is what of a plan is true as soon as it is committed.
func withoutEffects(plan burst.Plan) burst.Plan {
	return burst.Plan{Failures: plan.Failures, Closings: plan.Closings}
}

// changed gives the rows that differ from what the ledger is known to hold.
func (p *pass) changed(nodes []burst.Node, reasons map[burst.NodeName]burst.Reason) []ledger.Node {
	var rows []ledger.Node
	for i := range nodes {
		n := &nodes[i]
		old, stored := p.rows[string(n.Name)]
		off := n.Slurm == burst.PoweredDown || n.Slurm == burst.Fenced
		if !stored && off && (n.Supply == burst.Absent || n.Supply == burst.SupplyUnknown) {
			continue
		}
		row := p.row(old, n, reasons[n.Name])
		if sameNode(old, row) {
			continue
		}
		row.SeenAt = n.SeenAt
		rows = append(rows, row)
	}
	for _, row := range p.strays {
		rows = append(rows, row)
	}
	return rows
}

func (p *pass) projectNodes(ctx context.Context, now time.Time, reasons map[burst.NodeName]burst.Reason) error {
	rows := slices.DeleteFunc(p.changed(p.facts.Nodes, reasons), func(row ledger.Node) bool {
		// A second look without a commit may change what is said of a node,
		// never what is known of it: that waits for the next commit, so that
		// nobody misses the row.
		return !p.announced[row.Name]
	})
	p.strays = map[string]ledger.Node{}
	if len(rows) == 0 {
		return nil
	}
	for i := range rows {
		rows[i].UpdatedAt, rows[i].Revision = now, p.part.Cluster.Revision
	}
	written, lost, err := p.Ledger.PutNodes(ctx, p.name, rows)
	if err != nil {
		return fmt.Errorf("project nodes: %w", err)
	}
	for _, row := range written {
		p.rows[row.Name] = row
	}
	p.conflicted = p.conflicted || len(lost) > 0
	return nil
}
