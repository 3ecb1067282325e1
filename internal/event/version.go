package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// format is how messages of one type are read: the version that this build
// writes, n, and, where there is a way from it, the version before, n-1. The
// cloud is upgraded first and the agents after, so that either reads the other
// meanwhile. Nothing else is read, and nothing else is guessed at.
//
// Within a version, a reader ignores fields that it does not know, and a field
// that is missing has its zero value, which has to mean what was meant before
// the field was there. What fits neither rule is a new version.
type format struct {
	// name is the CloudEvents type without its version.
	name   string
	newest int
	// upgrade changes the data of version newest-1 into that of newest. It is
	// nil where the version before is not read, as for the first.
	upgrade func(data map[string]json.RawMessage) error
}

// The formats of this build: the one place to change for a new version. The
// version is the one in the type's name.
var (
	pressureFormat  = formatOf(TypeQueuePressure, nil)
	commandFormat   = formatOf(TypeSlurmCommand, nil)
	timerFormat     = formatOf(TypeScaleDownTimer, nil)
	nodeEventFormat = formatOf(TypeNodeEvent, nil)
	rejectedFormat  = formatOf(TypeRejected, nil)
)

func formatOf(kind string, upgrade func(map[string]json.RawMessage) error) format {
	name, version, ok := splitType(kind)
	if !ok {
		panic("event: " + kind + " has no version") // a constant of this package
	}
	return format{name: name, newest: version, upgrade: upgrade}
}

// splitType takes "slurmburst.queue_pressure.v1" apart.
func splitType(kind string) (name string, version int, ok bool) {
	at := strings.LastIndex(kind, ".v")
	if at < 0 {
		return "", 0, false
	}
	version, err := strconv.Atoi(kind[at+2:])
	return kind[:at], version, err == nil && version > 0 && strconv.Itoa(version) == kind[at+2:]
}

// accepted says which versions are read.
func (f format) accepted() string {
	if f.upgrade == nil {
		return fmt.Sprintf("version %d", f.newest)
	}
	return fmt.Sprintf("versions %d and %d", f.newest, f.newest-1)
}

// read reads the data of an event of this type into the newest version's shape.
func (f format) read(e envelope, into any) error {
	name, version, ok := splitType(e.Type)
	if !ok || name != f.name {
		return fault.Newf(fault.Invalid, "decode message: type is %.80q, want %s.v%d", e.Type, f.name, f.newest)
	}
	data := e.Data
	switch {
	case version == f.newest:
	case version == f.newest-1 && f.upgrade != nil:
		var fields map[string]json.RawMessage
		err := json.Unmarshal(data, &fields)
		switch {
		case err != nil:
		case fields == nil:
			err = errors.New("it has no data")
		default:
			err = f.upgrade(fields)
		}
		if err == nil {
			data, err = json.Marshal(fields)
		}
		if err != nil {
			return fault.New(fault.Invalid, fmt.Sprintf("decode %s: bring it to version %d", e.Type, f.newest), err)
		}
	default:
		return unknownVersion(f, e, version)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fault.Newf(fault.Invalid, "decode %s: %v", e.Type, err)
	}
	return nil
}

// VersionError says that a message is of a version that this build does not
// read. Its kind is fault.Invalid: the message can only be kept for a build that
// does, or refused.
type VersionError struct {
	// Type is the CloudEvents type of the message, Accepted says which versions
	// are read: "version 1".
	Type, Accepted string
	// ID, Cluster and Generation are those of the data. They keep their names
	// and meanings in every version, so that whoever cannot read a command can
	// answer it. They are empty where the data has none.
	ID, Cluster string
	Generation  int64
}

// Error names the version of the message and those that are read.
func (e *VersionError) Error() string {
	_, version, _ := splitType(e.Type)
	return fmt.Sprintf("%.80s is of version %d, and only %s can be read", e.Type, version, e.Accepted)
}

func unknownVersion(f format, e envelope, version int) error {
	v := &VersionError{Type: fmt.Sprintf("%s.v%d", f.name, version), Accepted: f.accepted()}
	var data struct {
		ID         string `json:"id"`
		Cluster    string `json:"cluster"`
		Generation int64  `json:"generation"`
	}
	// Another version may have another shape: then nothing is known of it.
	if json.Unmarshal(e.Data, &data) == nil && e.checkCluster(data.Cluster) == nil {
		v.ID, v.Cluster, v.Generation = data.ID, data.Cluster, data.Generation
	}
	return fault.New(fault.Invalid, "decode message", v)
}
