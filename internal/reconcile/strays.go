package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/cyclecloud"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// A stray is a VM under a name that the policy does not name, in one of its
// nodearrays or with a row from the time when it did: an admin took the name
// out while it was up, or somebody else uses the nodearray. Nothing is known about its jobs, so it is reported
// and never touched; the way to be rid of it is to name it again, or to
// terminate it in CycleCloud.

// reasonNotInPolicy is the reason code of strays.
const reasonNotInPolicy = "not_in_policy"

// maxStrays bounds the rows that one look may add.
const maxStrays = 1000

// stray notes a record of CycleCloud's that is none of the policy's nodes.
func (p *pass) stray(n cyclecloud.Node, asked time.Time) {
	ours := slices.ContainsFunc(p.config.Policy.Nodearrays, func(a burst.Nodearray) bool {
		return strings.EqualFold(string(a.Name), string(n.NodeArray))
	})
	old, stored := p.rows[string(n.Name)]
	if !ours && !stored || len(p.strays) == maxStrays {
		return
	}
	row := old
	row.Name, row.Nodearray = string(n.Name), string(n.NodeArray)
	row.NodeID, row.Supply, row.CycleCloudStatus = string(n.ID), supplyOf(n).String(), n.StatusText
	row.State, row.SlurmState, row.SlurmFlags = burst.SlurmUnknown.String(), "", ""
	row.ReasonCode, row.Reason = reasonNotInPolicy, "the policy does not name the node, so nobody scales it down"
	if !stored || old.ReasonCode != reasonNotInPolicy || old.NodeID != row.NodeID {
		row.FailedAt = asked
		p.failures = append(p.failures, ledger.Failure{
			At: asked, Node: row.Name, Nodearray: row.Nodearray, Source: "cyclecloud", What: "look for nodes", Code: reasonNotInPolicy,
			Detail: "CycleCloud has a node that the policy does not name: " + row.CycleCloudStatus,
		})
	}
	asStored(&row.FailedAt)
	if !sameNode(old, row) {
		row.SeenAt = asked
		p.strays[row.Name] = row
	}
}

// straysGone closes the rows of names that neither the policy nor CycleCloud
// knows any more.
func (p *pass) straysGone(list []cyclecloud.Node, asked time.Time) {
	listed := make(map[string]bool, len(list))
	for _, n := range list {
		listed[string(n.Name)] = true
	}
	for name, row := range p.rows {
		if _, ours := p.index[burst.NodeName(name)]; ours || listed[name] || row.Supply == burst.Absent.String() {
			continue
		}
		row.Supply, row.NodeID, row.CycleCloudStatus = burst.Absent.String(), "", ""
		row.State, row.SlurmState, row.SlurmFlags = burst.SlurmUnknown.String(), "", ""
		row.ReasonCode, row.Reason, row.SeenAt = reasonNotInPolicy, "the policy does not name the node, and CycleCloud no longer has it", asked
		row.CreatedAt, row.TerminatedAt, row.JoinedAt = time.Time{}, time.Time{}, time.Time{}
		p.strays[name] = row
	}
}
