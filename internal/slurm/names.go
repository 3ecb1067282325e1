package slurm

import (
	"fmt"
	"strconv"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Names as Slurm uses them. They are separate types because a node, a
// partition and a cluster are mixed up easily, and CycleCloud has its own.
type (
	// ClusterName is ClusterName of slurm.conf.
	ClusterName string
	// NodeName is NodeName of slurm.conf: Slurm's name, which need not be
	// the host name.
	NodeName string
	// PartitionName is PartitionName of slurm.conf.
	PartitionName string
	// UserName is the login name of a job's owner.
	UserName string
	// AccountName is the account that a job is charged to. Without slurmdbd
	// users may write anything here, so it is bounded and made printable.
	AccountName string
	// QOSName is a quality of service.
	QOSName string
)

// JobID is Slurm's number of one job record. Tasks of an array that Slurm has
// not split off yet share the JobID of the array's record.
type JobID uint32

// String gives the number in decimal.
func (id JobID) String() string { return strconv.FormatUint(uint64(id), 10) }

// JobRef names what an update is meant for: a whole job (or whole array), or
// one task of an array.
type JobRef struct {
	// Job is the job's id, or for a task the id of its array.
	Job JobID
	// IsTask says that Task counts; task 0 is an ordinary task.
	IsTask bool
	// Task is the array index.
	Task uint32
}

// String gives the reference in scontrol's form: "7" or "7_3".
func (r JobRef) String() string {
	text := strconv.AppendUint(make([]byte, 0, len("4294967295_4294967295")), uint64(r.Job), 10)
	if r.IsTask {
		text = strconv.AppendUint(append(text, '_'), uint64(r.Task), 10)
	}
	return string(text)
}

const maxNameBytes = 255

// Validate says why the name cannot be a node's, or gives nil. Only names that
// pass are ever put on a command line, so none can be taken for an option, a
// hostlist bracket or a second key=value pair.
func (n NodeName) Validate() error { return validateName("node name", string(n)) }

// Validate says why the name cannot be a partition's, or gives nil.
func (p PartitionName) Validate() error { return validateName("partition name", string(p)) }

func validateName(what, name string) error {
	if name == "" {
		return fault.Newf(fault.Invalid, "%s is empty", what)
	}
	if len(name) > maxNameBytes {
		return fault.Newf(fault.Invalid, "%s of %d bytes is longer than %d", what, len(name), maxNameBytes)
	}
	for i := range len(name) {
		if !isNameByte(name[i]) || (i == 0 && !isAlphanumeric(name[i])) {
			return fault.Newf(fault.Invalid, "%s %s: byte %q at position %d is not allowed", what, quoteBounded(name), name[i], i+1)
		}
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isNameByte(c byte) bool {
	return isAlphanumeric(c) || c == '.' || c == '_' || c == '-'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// quoteBounded quotes at most the first 60 bytes, so that garbage cannot fill
// an error or a log line.
func quoteBounded(s string) string {
	const most = 60
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%q…", s[:most])
}
