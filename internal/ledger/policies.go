package ledger

import (
	"context"
	"errors"
	"fmt"
)

// FindPolicy gives one version of a cluster's policy, if it is stored.
func (s *Store) FindPolicy(ctx context.Context, cluster, version string) (p Policy, found bool, err error) {
	rows, err := all[Policy](ctx, s, tablePolicies, cluster, condition{rowKey, equal, escape(version)})
	if err != nil || len(rows) == 0 {
		return Policy{}, false, err
	}
	return rows[0], true, nil
}

// enforceTries is how often EnforcePolicy begins again when somebody else moved
// the cluster.
const enforceTries = 5

// EnforcePolicy applies a policy as ApplyPolicy does, and then tells the app in
// a commit of the cluster to follow it instead of the file that it was packaged
// with. The next snapshot is decided on with it. It may be repeated, and has to
// be after an error: the version may be stored and not followed.
func (s *Store) EnforcePolicy(ctx context.Context, cluster string, p Policy) error {
	if err := s.ApplyPolicy(ctx, cluster, p); err != nil {
		return err
	}
	for try := 1; ; try++ {
		part, err := s.Load(ctx, cluster)
		if err != nil {
			return err
		}
		if part.Cluster.PolicyInForce == p.Version {
			return nil
		}
		part.Cluster.PolicyInForce, part.Cluster.NextDue = p.Version, s.now()
		_, err = s.Commit(ctx, Commit{Cluster: part.Cluster})
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrConflict) || try == enforceTries {
			return fmt.Errorf("enforce policy %s of %s: %w", p.Version, cluster, err)
		}
	}
}
