package ledger

import (
	"errors"
	"strconv"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Writer is the version of what this build writes into a commit partition. It
// grows when a build writes something that the one before would misread or
// destroy; a new column does not count, since Merge leaves it alone.
const Writer = 1

// ErrOldWriter is in the error of a process that must leave a cluster alone: a
// newer one has written what this one does not understand. Its kind is
// fault.Denied: nothing helps but an upgrade.
var ErrOldWriter = errors.New("this process is too old for the cluster")

// Admit refuses a writer below the cluster's lowest. Whoever loads a cluster
// asks before it reads on; Commit asks again.
func (c Cluster) Admit(writer int) error {
	if writer >= c.MinWriter {
		return nil
	}
	return fault.New(fault.Denied, "write cluster "+c.Cluster, oldWriter{writer, c.MinWriter})
}

// oldWriter is an ErrOldWriter that tells the versions.
type oldWriter struct{ is, wanted int }

func (e oldWriter) Error() string {
	return ErrOldWriter.Error() + ": it writes version " + strconv.Itoa(e.is) + ", the lowest that may write is " + strconv.Itoa(e.wanted)
}

func (e oldWriter) Unwrap() error { return ErrOldWriter }
