package reconcile

import "github.com/slurmburst/slurmburst/internal/ledger"

// RememberedCommands are the rows of commands that a process goes by, and the
// revision that they are as of.
func (r *Reconciler) RememberedCommands(cluster string) (map[string]ledger.Command, int64) {
	k := r.commandsOf(cluster)
	return k.rows, k.revision
}
