package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// A cluster follows the policy that it was packaged with until an admin applies
// another one. The cluster's row then names that version; its text is read once
// by each process.

// seedAuthor is who wrote a policy that came with the package.
const seedAuthor = "seed"

// reasonPolicyRefused is the code of a policy that is in force and cannot be
// followed.
const reasonPolicyRefused = "policy_refused"

// refusedFor is how long a text that could not be read is not read again.
const refusedFor = 10 * time.Minute

// followed is what this process knows of the policies of one cluster.
type followed struct {
	// policy is the last one that could be followed; its Version is empty
	// before the first.
	policy burst.Policy
	// refused is a version that could not be, why, and until when.
	refused, why string
	until        time.Time
}

// choosePolicy puts the policy in force in the place of the packaged one. One
// that cannot be followed leaves the one before it in force and is told.
func (p *pass) choosePolicy(ctx context.Context) error {
	wanted := p.part.Cluster.PolicyInForce
	if wanted == "" || wanted == p.config.Policy.Version || p.config.ParsePolicy == nil {
		return nil
	}
	known := p.policiesOf(p.name)
	switch {
	case known.policy.Version == wanted:
	case known.refused == wanted && p.Now().Before(known.until):
		p.refusePolicy(known)
	default:
		policy, err := p.readPolicy(ctx, wanted)
		if err != nil && !fault.Is(err, fault.Invalid) {
			return err
		}
		if err == nil {
			known = followed{policy: policy}
		} else if known, err = p.refuse(ctx, known, wanted, err); err != nil {
			return err
		}
		p.followPolicy(p.name, known)
	}
	if known.policy.Version != "" {
		p.config.Policy = known.policy
	}
	return nil
}

// readPolicy reads a stored version. An error is fault.Invalid where it is the
// policy's own.
func (p *pass) readPolicy(ctx context.Context, version string) (burst.Policy, error) {
	row, found, err := p.Ledger.FindPolicy(ctx, p.name, version)
	if err != nil {
		return burst.Policy{}, fmt.Errorf("read policy %s: %w", version, err)
	}
	if !found {
		return burst.Policy{}, fault.Newf(fault.Invalid, "policy %.40q is in force and not stored", version)
	}
	policy, err := p.config.ParsePolicy(row.Text)
	if err != nil {
		return burst.Policy{}, fault.New(fault.Invalid, "read policy "+version, err)
	}
	policy.Version = version // a newer release may call the same text otherwise
	return policy, nil
}

// refuse notes that a version cannot be followed, and finds the one to go on
// with: the one that this process follows, else the one of the last commit, else
// the packaged one.
func (p *pass) refuse(ctx context.Context, known followed, version string, why error) (followed, error) {
	known.refused, known.until = version, p.Now().Add(refusedFor)
	last := p.part.Cluster.PolicyVersion
	if known.policy.Version == "" && last != "" && last != version && last != p.config.Policy.Version {
		policy, err := p.readPolicy(ctx, last)
		if err != nil && !fault.Is(err, fault.Invalid) {
			return known, err
		}
		known.policy = policy
	}
	stays := p.config.Policy.Version
	if known.policy.Version != "" {
		stays = known.policy.Version
	}
	detail := fmt.Sprintf("policy %s cannot be followed, %s stays in force: %v", version, stays, why)
	known.why = brief(detail)
	// At once: this pass may have nothing else to write.
	err := p.Ledger.AppendFailures(ctx, p.name, []ledger.Failure{{
		At: p.Now(), Source: "app", What: "read policy", Code: reasonPolicyRefused, Detail: detail,
	}})
	if err != nil {
		return known, fmt.Errorf("record refused policy: %w", err)
	}
	p.Logger.Error("policy was refused", "cluster", p.name, "policy", version, "error", why.Error())
	p.refusePolicy(known)
	p.refused = true
	return known, nil
}

// refusePolicy makes every plan say so.
func (p *pass) refusePolicy(known followed) {
	p.refusal = burst.Hold{Reason: burst.Reason{Code: reasonPolicyRefused, Text: known.why}}
}

func (r *Reconciler) policiesOf(cluster string) followed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.policies[cluster]
}

func (r *Reconciler) followPolicy(cluster string, f followed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policies[cluster] = f
}

// seedPolicy stores the packaged policy when it comes into force, so that the
// version that decisions name can be read. A text that is stored already under
// this version stays: it means the same.
func (p *pass) seedPolicy(ctx context.Context) error {
	version := p.config.Policy.Version
	if p.config.PolicyText == "" || p.part.Cluster.PolicyInForce != "" || p.part.Cluster.PolicyVersion == version {
		return nil
	}
	seed := ledger.Policy{Version: version, Text: p.config.PolicyText, Author: seedAuthor, AppliedAt: p.Now()}
	stored, found, err := p.Ledger.FindPolicy(ctx, p.name, version)
	if err != nil {
		return fmt.Errorf("seed policy %s: %w", version, err)
	}
	if found {
		seed.Text, seed.Author = stored.Text, stored.Author
	}
	if err := p.Ledger.ApplyPolicy(ctx, p.name, seed); err != nil && !errors.Is(err, ledger.ErrConflict) {
		return fmt.Errorf("seed policy %s: %w", version, err)
	}
	return nil
}
