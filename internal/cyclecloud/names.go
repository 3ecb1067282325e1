package cyclecloud

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

type (
	// ClusterName is a cluster's name as typed in CycleCloud; it may hold
	// spaces and capitals. It is not Slurm's ClusterName.
	ClusterName string
	// NodeArrayName names a nodearray of a cluster; node records call it
	// Template.
	NodeArrayName string
	// NodeName is a node's name. CycleCloud uses a name again once its node is
	// gone, so nothing may be ended by name.
	NodeName string
	// NodeID is unique for ever: a new node under an old name has a new id.
	NodeID string
	// MachineType is an Azure VM size such as Standard_HB120rs_v3. Azure
	// compares these names without regard to case.
	MachineType string
	// RequestID is ours: sent with a request, it makes a repeat harmless.
	RequestID string
	// OperationID is theirs: the server's opaque name of an accepted request.
	OperationID string
)

// maxName bounds every name and id, sent or received, in bytes.
const maxName = 256

// checkName refuses what can't be part of a request: empty, longer than
// maxName, not UTF-8, or with characters that do not print. The words "." and
// ".." would change the path they are put into.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s is empty", what)
	case len(name) > maxName:
		return fmt.Errorf("%s is %d bytes long, the limit is %d", what, len(name), maxName)
	case !isPrintable(name):
		return fmt.Errorf("%s %q holds characters that do not print", what, name)
	case name == "." || name == "..":
		return fmt.Errorf("%s is %q, which is a path and not a name", what, name)
	}
	return nil
}

func isPrintable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// excerpt makes text of foreign origin fit for an error, a log or a table: one
// line, printable, at most limit bytes and then "…".
func excerpt(text string, limit int) string {
	// A rune takes at most utf8.UTFMax bytes, so the rest can't be needed.
	cut := len(text) > limit*utf8.UTFMax
	if cut {
		text = text[:limit*utf8.UTFMax]
	}
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if len(text) > limit {
		cut = true
		for limit > 0 && !utf8.RuneStart(text[limit]) {
			limit--
		}
		text = text[:limit]
	}
	if cut {
		text += "…"
	}
	return text
}
