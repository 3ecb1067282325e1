package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// retention is how far back a listing of decisions looks where the caller does
// not say, in days. It is longer than what Purge is meant to leave.
const retention = 35

func (d *Decision) key() string { return newestFirst(d.At, d.ID) }

// factsKey names the n'th row of a decision's facts, counted from zero. It
// sorts after every decision, so that a listing does not read them.
func factsKey(decision string, n int) string {
	return fmt.Sprintf("%s%s|%02d", kindFacts, decision, n+1)
}

// AppendDecision stores a decision with its facts in one transaction. A repeat
// with the same ID and time changes nothing.
func (s *Store) AppendDecision(ctx context.Context, cluster string, d Decision) error {
	operation := fmt.Sprintf("append to %s/%s decision %s", s.name(tableDecisions), cluster, d.ID)
	switch {
	case d.ID == "" || d.At.IsZero():
		return fault.Newf(fault.Bug, "%s: it needs an ID and a time", operation)
	case len(d.Facts) > MaxFacts:
		return classify(tooLarge("facts of %d bytes, at most %d fit", len(d.Facts), MaxFacts), operation)
	}
	d.Cluster, d.factsSize, d.version = cluster, int64(len(d.Facts)), version{}
	w := write{pk: dayKey(cluster, d.At)}
	err := w.add(insert, d.key(), &d)
	rest := d.Facts
	for n := 0; len(rest) > 0; n++ {
		share := part{body: rest[:min(len(rest), partBytes)]}
		rest = rest[len(share.body):]
		err = errors.Join(err, w.add(insert, factsKey(d.key(), n), &share))
	}
	if err == nil {
		err = checkTransaction(w.ops)
	}
	if err == nil {
		_, err = s.submit(ctx, tableDecisions, w.ops)
	}
	var refused *refusal
	if errors.As(err, &refused) && refused.code == codeEntityExists {
		return nil
	}
	return classify(err, operation)
}

// FindDecision gives one decision with its facts. found is false if there is
// none of this ID in the days that are kept.
func (s *Store) FindDecision(ctx context.Context, cluster, id string) (d Decision, found bool, err error) {
	operation := fmt.Sprintf("find in %s/%s decision %s", s.name(tableDecisions), cluster, id)
	for ago := range retention {
		day := dayKey(cluster, s.now().AddDate(0, 0, 1-ago))
		where := []condition{{partitionKey, equal, day}, {rowKey, below, kindFacts}, {"ID", equal, clean(id)}}
		_, err := s.rows(ctx, tableDecisions, query{where: where}, func(e entity) error {
			found = true
			return fill(&d, e)
		})
		if err != nil {
			return Decision{}, false, classify(err, operation)
		}
		if !found {
			continue
		}
		if d.Facts, err = s.facts(ctx, day, d); err != nil {
			return Decision{}, false, classify(err, operation)
		}
		return d, true, nil
	}
	return Decision{}, false, nil
}

// facts reads the rows that hold a decision's facts.
func (s *Store) facts(ctx context.Context, day string, d Decision) ([]byte, error) {
	if d.factsSize == 0 {
		return nil, nil
	}
	where := []condition{
		{partitionKey, equal, day},
		{rowKey, atLeast, factsKey(d.key(), 0)},
		{rowKey, below, factsKey(d.key(), 98)},
	}
	var body []byte
	_, err := s.rows(ctx, tableDecisions, query{where: where}, func(e entity) error {
		var share part
		err := fill(&share, e)
		body = append(body, share.body...)
		return err
	})
	if err == nil && int64(len(body)) != d.factsSize {
		err = fault.Newf(fault.Invalid, "its facts have %d bytes where %d were stored", len(body), d.factsSize)
	}
	return body, err
}

// AppendFailures stores failures. A repeat changes nothing; failures that differ
// only in their words are different ones.
func (s *Store) AppendFailures(ctx context.Context, cluster string, failures []Failure) error {
	operation := fmt.Sprintf("append to %s/%s", s.name(tableFailures), cluster)
	w := write{pk: escape(cluster)}
	for _, failure := range failures {
		if failure.At.IsZero() {
			return fault.Newf(fault.Bug, "%s: a failure of %s has no time", operation, failure.Node)
		}
		failure.Cluster, failure.version = cluster, version{}
		rk := failure.key()
		if w.keys[rk] {
			continue
		}
		if err := w.add(upsert, rk, &failure); err != nil {
			return classify(err, operation)
		}
	}
	_, _, err := s.submitEach(ctx, tableFailures, w.ops)
	return classify(err, operation)
}

// key tells failures apart that happened to the same node, or to none, in the
// same moment: an agent reports several with one snapshot.
func (f *Failure) key() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{f.Source, f.Nodearray, f.What, f.Detail, f.RequestID}, "\x00")))
	return newestFirst(f.At, f.Node) + "|" + escape(f.Code) + "|" + hex.EncodeToString(sum[:4])
}

// ApplyPolicy stores a policy and makes it the one in force, in one
// transaction. Applying a version again puts it in force again; its text must
// not have changed. ErrConflict means that somebody else changed one of the
// rows meanwhile.
func (s *Store) ApplyPolicy(ctx context.Context, cluster string, p Policy) error {
	operation := fmt.Sprintf("apply policy %s/%s version %s", s.name(tablePolicies), cluster, p.Version)
	stored, err := all[Policy](ctx, s, tablePolicies, cluster)
	if err != nil {
		return classify(err, operation)
	}
	p.Cluster, p.Current, p.version = cluster, true, version{}
	w := write{pk: escape(cluster)}
	how := insert
	for i := range stored {
		old := &stored[i]
		switch {
		case old.Version == p.Version && old.Text != p.Text:
			return fault.Newf(fault.Invalid, "%s: this version is stored with another text", operation)
		case old.Version == p.Version:
			how, p.version = merge, old.version
		case old.Current:
			old.Current = false
			err = errors.Join(err, w.add(merge, escape(old.Version), old))
		}
	}
	err = errors.Join(err, w.add(how, escape(p.Version), &p))
	if err == nil {
		err = checkTransaction(w.ops)
	}
	if err == nil {
		_, err = s.submit(ctx, tablePolicies, w.ops)
	}
	return classify(err, operation)
}

// CurrentPolicy gives the policy in force, if one was ever applied: the last
// one, should two have been applied at the same moment.
func (s *Store) CurrentPolicy(ctx context.Context, cluster string) (p Policy, found bool, err error) {
	current, err := all[Policy](ctx, s, tablePolicies, cluster, condition{"Current", equal, true})
	if err != nil || len(current) == 0 {
		return Policy{}, false, err
	}
	last := slices.MaxFunc(current, func(a, b Policy) int { return a.AppliedAt.Compare(b.AppliedAt) })
	return last, true, nil
}

func (p *Policy) place(cluster string) (pk, rk string) {
	p.Cluster = cluster
	return escape(cluster), escape(p.Version)
}
func (p *Policy) title() string { return p.Version }
