package cyclecloudsim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Answer is one way in which a real server may settle a point that its
// documentation leaves open. The empty Answer lets the seed choose.
type Answer string

// The answers. Which of them fit which quirk is said at the quirk's field.
const (
	Accepted   Answer = "accepted"    // 202 (or 200), the reason in the body
	Conflict   Answer = "conflict"    // 409
	OK         Answer = "ok"          // status OK for the node, nothing done
	Error      Answer = "error"       // status Error for the node, with a text
	JSON       Answer = "json"        // an error body that is JSON
	HTML       Answer = "html"        // an error body that is an HTML page
	Text       Answer = "text"        // an error body that is one plain line
	Empty      Answer = "empty"       // no body, or an empty string
	Mixed      Answer = "mixed"       // drawn anew for every answer
	Absolute   Answer = "absolute"    // a whole URL
	Relative   Answer = "relative"    // a path
	Present    Answer = "present"     // the field is there
	Omitted    Answer = "omitted"     // the field is not there
	Null       Answer = "null"        // the field is JSON null
	Shared     Answer = "shared"      // one name space
	Separate   Answer = "separate"    // a name space for each kind
	NotFound   Answer = "not-found"   // 404
	EmptyList  Answer = "empty-list"  // 200 with an empty list
	Skip       Answer = "skip"        // taken names are passed over
	Stop       Answer = "stop"        // a taken name ends the numbering
	FromOffset Answer = "from-offset" // the first index is nameOffset
	NextOffset Answer = "next-offset" // the first index is nameOffset + 1
	Capacity   Answer = "capacity"    // counts as a capacity failure
	Stays      Answer = "stays"       // the node stays in the list as Failed
	Short      Answer = "short"       // a number within the scale set
	GUID       Answer = "guid"        // an opaque identifier
	ARM        Answer = "arm"         // a resource path
	Hundred    Answer = "hundred"     // at most 100
	Unlimited  Answer = "unlimited"   // no limit
)

// Quirks holds one field for every point of the REST API that could not be
// confirmed. An empty field is chosen by the seed when the simulator starts
// and then stays, as a real server is consistent with itself.
type Quirks struct {
	// AddedZero is the answer to a create that adds nothing: Accepted with
	// added 0 and a message, or Conflict.
	AddedZero Answer
	// DuplicateName is the answer to a create whose nameFormat is taken:
	// Conflict for the whole request, or Accepted with a message.
	DuplicateName Answer
	// TerminateAgain is the per-node answer to terminating a node that is
	// already terminating: OK or Error.
	TerminateAgain Answer
	// StartRunning is the per-node answer to starting a node that is up: OK
	// or Error.
	StartRunning Answer
	// ErrorBody is the form of every error body: JSON, HTML, Text, Empty or
	// Mixed. Text and JSON hold the reason.
	ErrorBody Answer
	// Location is the form of the Location header of a 202: Absolute,
	// Relative or Omitted.
	Location Answer
	// TargetState says whether node records hold TargetState: Present, or
	// Mixed, where one record in four lacks it.
	TargetState Answer
	// EmptyFields is the form of Hostname, PrivateIp and InstanceId before
	// the VM exists: Empty, Omitted or Null.
	EmptyFields Answer
	// RequestIDs says whether a requestId used for a create collides with the
	// same one used for another action: Shared or Separate.
	RequestIDs Answer
	// UnknownOperation is the answer of GET /operations/?request_id= to an id
	// the server never saw: NotFound or EmptyList.
	UnknownOperation Answer
	// OffsetStart is the first index that nameOffset gives: FromOffset or
	// NextOffset.
	OffsetStart Answer
	// OffsetCollision says what a taken numbered name does when nameOffset is
	// given: Skip or Stop.
	OffsetCollision Answer
	// SKUNotAvailable says how a VM size without supply fails: Capacity
	// (8.9.0 and later) or Stays (before).
	SKUNotAvailable Answer
	// InstanceID is the form of InstanceId: Short, GUID or ARM.
	InstanceID Answer
	// OptionalCounts says whether a bucket holds the family and regional
	// numbers and spotPlacementScore: Present or Omitted. Spot nodearrays
	// always hold them, because their regional numbers are the only limit.
	OptionalCounts Answer
	// MaxSets limits the sets of one create: Unlimited or Hundred (409).
	MaxSets Answer
	// Unauthorized is the body of a 401: HTML, JSON or Empty.
	Unauthorized Answer
	// UnknownCluster is the answer to a status call for a cluster that is not
	// there: NotFound or Conflict.
	UnknownCluster Answer
}

type quirk struct {
	name    string
	field   func(*Quirks) *Answer
	answers []Answer
}

// quirkTable is the index of all open points; README.md has the same rows.
var quirkTable = []quirk{
	{"added-zero", func(q *Quirks) *Answer { return &q.AddedZero }, []Answer{Accepted, Conflict}},
	{"duplicate-name", func(q *Quirks) *Answer { return &q.DuplicateName }, []Answer{Accepted, Conflict}},
	{"terminate-again", func(q *Quirks) *Answer { return &q.TerminateAgain }, []Answer{OK, Error}},
	{"start-running", func(q *Quirks) *Answer { return &q.StartRunning }, []Answer{OK, Error}},
	{"error-body", func(q *Quirks) *Answer { return &q.ErrorBody }, []Answer{JSON, HTML, Text, Empty, Mixed}},
	{"location", func(q *Quirks) *Answer { return &q.Location }, []Answer{Absolute, Relative, Omitted}},
	{"target-state", func(q *Quirks) *Answer { return &q.TargetState }, []Answer{Present, Mixed}},
	{"empty-fields", func(q *Quirks) *Answer { return &q.EmptyFields }, []Answer{Empty, Omitted, Null}},
	{"request-ids", func(q *Quirks) *Answer { return &q.RequestIDs }, []Answer{Shared, Separate}},
	{"unknown-operation", func(q *Quirks) *Answer { return &q.UnknownOperation }, []Answer{NotFound, EmptyList}},
	{"offset-start", func(q *Quirks) *Answer { return &q.OffsetStart }, []Answer{FromOffset, NextOffset}},
	{"offset-collision", func(q *Quirks) *Answer { return &q.OffsetCollision }, []Answer{Skip, Stop}},
	{"sku-not-available", func(q *Quirks) *Answer { return &q.SKUNotAvailable }, []Answer{Capacity, Stays}},
	{"instance-id", func(q *Quirks) *Answer { return &q.InstanceID }, []Answer{Short, GUID, ARM}},
	{"optional-counts", func(q *Quirks) *Answer { return &q.OptionalCounts }, []Answer{Present, Omitted}},
	{"max-sets", func(q *Quirks) *Answer { return &q.MaxSets }, []Answer{Unlimited, Hundred}},
	{"unauthorized", func(q *Quirks) *Answer { return &q.Unauthorized }, []Answer{HTML, JSON, Empty}},
	{"unknown-cluster", func(q *Quirks) *Answer { return &q.UnknownCluster }, []Answer{NotFound, Conflict}},
}

// resolve fills in every empty quirk. It draws for pinned ones too, so that
// pinning one quirk does not change what the seed chooses for the others.
func (q *Quirks) resolve(rng *rand.Rand) error {
	for _, t := range quirkTable {
		drawn := t.answers[rng.IntN(len(t.answers))]
		switch a := t.field(q); {
		case *a == "":
			*a = drawn
		case !slices.Contains(t.answers, *a):
			return fmt.Errorf("quirk %s: %q is not one of %v", t.name, *a, t.answers)
		}
	}
	return nil
}

// Set pins one quirk by its command-line name, as listed in README.md.
func (q *Quirks) Set(name string, answer Answer) error {
	for _, t := range quirkTable {
		if t.name != name {
			continue
		}
		if !slices.Contains(t.answers, answer) {
			return fmt.Errorf("quirk %s: %q is not one of %v", name, answer, t.answers)
		}
		*t.field(q) = answer
		return nil
	}
	return fmt.Errorf("quirk %q is unknown", name)
}

// String lists all quirks as name=answer, separated by spaces, in the form
// that Set takes.
func (q Quirks) String() string {
	parts := make([]string, 0, len(quirkTable))
	for _, t := range quirkTable {
		parts = append(parts, t.name+"="+string(*t.field(&q)))
	}
	return strings.Join(parts, " ")
}
