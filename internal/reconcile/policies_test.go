package reconcile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/internal/reconcile"
)

// packaged lets the site's policy come with a text, and reads texts that are
// numbers: the limit of the nodearray.
func (s *site) packaged(text string) {
	s.text = text
	s.parse = func(text string) (burst.Policy, error) {
		p := s.policy
		p.Nodearrays = append([]burst.Nodearray(nil), p.Nodearrays...)
		if _, err := fmt.Sscan(text, &p.Nodearrays[0].MaxNodes); err != nil {
			return burst.Policy{}, errors.New("line 1: not a number")
		}
		p.Version = "parsed"
		return p, nil
	}
	s.restart()
}

func (s *site) apply(version, text string) {
	s.t.Helper()
	if err := s.ledger.EnforcePolicy(s.t.Context(), clusterName, ledger.Policy{Version: version, Text: text, Author: "eva", AppliedAt: s.now}); err != nil {
		s.t.Fatal(err)
	}
}

// followedVersion is the version that the newest commit names.
func (s *site) followedVersion() string {
	s.t.Helper()
	p, err := s.ledger.Load(s.t.Context(), clusterName)
	if err != nil {
		s.t.Fatal(err)
	}
	return p.Cluster.PolicyVersion
}

func TestThePackagedPolicyIsStoredByTheFirstCommit(t *testing.T) {
	s := newSite(t)
	s.packaged("3")
	s.report()
	p, found, err := s.ledger.CurrentPolicy(t.Context(), clusterName)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	s.want("stored policy", fmt.Sprint(p.Version, p.Text, p.Author), "v13seed")
	s.policy.Version = "v1b"
	s.packaged("4 # deployed anew, nobody applied anything")
	s.after(time.Second)
	s.report()
	s.want("followed once another one is packaged", s.followedVersion(), "v1b")
}

func TestAnAppliedPolicyIsFollowedByTheNextSnapshot(t *testing.T) {
	s := newSite(t)
	s.packaged("3")
	s.report()
	s.answer()
	s.in("htc-4", "IDLE", "DRAIN", "POWERED_DOWN")
	s.report()
	s.outbox.commands = nil
	s.apply("v2", "1")
	s.after(10 * time.Second)
	s.want("outcome", s.report().Outcome, reconcile.OutcomeDecided)
	s.want("followed", s.followedVersion(), "v2")
	s.want("fenced for the lower limit", s.kinds(), "[fence_nodes htc-[2-3]]")
	s.restart() // another process reads it anew
	s.apply("v1", s.text)
	s.after(10 * time.Second)
	s.report()
	s.want("followed after the rollback", s.followedVersion(), "v1")
}

func TestAPolicyThatCannotBeReadLeavesTheOneBeforeInForce(t *testing.T) {
	s := newSite(t)
	s.packaged("3")
	s.report()
	s.apply("v2", "2")
	s.after(10 * time.Second)
	s.report()
	s.apply("v3", "nonsense")
	for _, fresh := range []bool{false, true} {
		if fresh {
			s.restart()
		}
		for range 3 {
			s.after(10 * time.Second)
			s.report()
			s.want("followed", s.followedVersion(), "v2")
		}
	}
	s.want("failures, one for each process", s.failed("policy_refused"), 2)
	rows, _, err := s.ledger.ListDecisions(t.Context(), ledger.DecisionFilter{Cluster: clusterName}, ledger.Page{Top: 1})
	if err != nil || len(rows) != 1 {
		t.Fatal(len(rows), err)
	}
	if got := rows[0]; got.PolicyVersion != "v2" || got.Reasons == "" || !strings.Contains(got.Holds, "policy v3 cannot be followed, v2 stays in force") {
		t.Errorf("the newest decision is %+v", got)
	}
}
