package cyclecloudsim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// refusal is a 409: the request was not accepted and nothing was done.
type refusal string

func (r refusal) Error() string { return string(r) }

// create carries out POST nodes/create; mu is held.
func (s *Sim) create(req creationRequest) (creationResult, error) {
	if err := s.checkRequestID("create", req.RequestID); err != nil {
		return creationResult{}, err
	}
	if err := s.checkStarted(); err != nil {
		return creationResult{}, err
	}
	if err := s.checkSets(req.Sets); err != nil {
		return creationResult{}, err
	}
	op := s.newOperation("create", req.RequestID)
	out := creationResult{OperationID: op.id}
	total := 0
	for _, set := range req.Sets {
		r := s.addSet(op, set)
		total += r.Added
		out.Sets = append(out.Sets, r)
	}
	if total == 0 && s.cfg.Quirks.AddedZero == Conflict {
		return creationResult{}, refusal("no nodes could be added: " + out.Sets[0].Message)
	}
	s.accept(op)
	return out, nil
}

func (s *Sim) checkStarted() error {
	if s.state != "Started" || s.target != "Started" {
		return refusal("cluster " + s.cfg.Cluster + " is not started")
	}
	return nil
}

// checkRequestID refuses an id that was accepted before. The id of a refused
// request is free again, which is what makes a 409 decidable for the client.
func (s *Sim) checkRequestID(action, id string) error {
	if len(id) > 256 {
		return refusal("requestId is longer than 256 characters")
	}
	if id != "" && s.byRequest[s.requestKey(action, id)] != nil {
		return refusal("requestId " + id + " was already used")
	}
	return nil
}

func (s *Sim) requestKey(action, id string) string {
	if s.cfg.Quirks.RequestIDs == Shared || action == "create" {
		return "create\x00" + id
	}
	return action + "\x00" + id
}

func (s *Sim) newOperation(action, requestID string) *operation {
	return &operation{id: s.newID(), requestID: requestID, action: action, start: s.clock.Now()}
}

func (s *Sim) accept(op *operation) {
	s.operations = append(s.operations, op)
	if op.requestID != "" {
		s.byRequest[s.requestKey(op.action, op.requestID)] = op
	}
}

// checkSets finds every mistake that makes the whole request invalid.
func (s *Sim) checkSets(sets []creationSet) error {
	if len(sets) == 0 {
		return refusal("sets: at least one set is required")
	}
	if len(sets) > 100 && s.cfg.Quirks.MaxSets == Hundred {
		return refusal(fmt.Sprintf("sets: %d sets are more than 100", len(sets)))
	}
	asked := map[string]bool{}
	for i, set := range sets {
		if err := s.checkSet(set, asked); err != nil {
			return refusal(fmt.Sprintf("sets[%d]: %v", i, err))
		}
	}
	return nil
}

func (s *Sim) checkSet(set creationSet, asked map[string]bool) error {
	a := s.array(set.NodeArray)
	switch {
	case a == nil:
		return fmt.Errorf("nodearray %q does not exist", set.NodeArray)
	case set.Count == nil:
		return fmt.Errorf("count is required")
	case *set.Count < 1 || *set.Count > 100_000:
		return fmt.Errorf("count %d is out of range", *set.Count)
	case s.pick(a, set.Definition.MachineType, *set.Count) == nil:
		return fmt.Errorf("nodearray %s has no machine type %q", a.Name, set.Definition.MachineType)
	case set.NameOffset != nil && *set.NameOffset < 0:
		return fmt.Errorf("nameOffset %d is negative", *set.NameOffset)
	case set.PlacementGroupID != "" && !nodeName.MatchString(set.PlacementGroupID):
		return fmt.Errorf("placementGroupId %q is unusable", set.PlacementGroupID)
	}
	format := set.NameFormat
	if format == "" {
		return nil
	}
	if verbs := strings.Count(format, "%"); verbs > 1 || verbs == 1 && !strings.Contains(format, "%d") {
		return fmt.Errorf("nameFormat %q may hold one %%d and no other %%", format)
	}
	if !nodeName.MatchString(strings.Replace(format, "%d", "1", 1)) {
		return fmt.Errorf("nameFormat %q makes no valid node name", format)
	}
	if strings.Contains(format, "%d") {
		return nil
	}
	if *set.Count > 1 {
		return fmt.Errorf("nameFormat %q without %%d works for count 1 only", format)
	}
	if s.cfg.Quirks.DuplicateName == Conflict && (s.named(format) != nil || asked[format]) {
		return fmt.Errorf("a node named %s already exists", format)
	}
	asked[format] = true
	return nil
}

func (s *Sim) named(name string) *node {
	for _, n := range s.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// addSet adds as many nodes of the set as the limits allow.
func (s *Sim) addSet(op *operation, set creationSet) setResult {
	a, want := s.array(set.NodeArray), *set.Count
	b := s.pick(a, set.Definition.MachineType, want)
	allowed, why := s.room(a, b, set.PlacementGroupID, want)
	switch s.take(a, FailRefuse, FailPartial) {
	case FailRefuse:
		allowed, why = 0, "The requested nodes could not be added"
	case FailPartial:
		allowed, why = min(allowed, want/2), "Only part of the requested nodes could be added"
	}
	names, clash := s.names(a, set, allowed)
	if clash != "" {
		why = clash
	}
	for _, name := range names {
		s.add(op, a, b, name, set)
	}
	if len(names) > 0 && s.lag > 0 {
		b.lagging = append(b.lagging, lagging{count: len(names), until: s.clock.Now().Add(s.lag)})
	}
	r := setResult{Added: len(names)}
	if r.Added < want {
		r.Message = fmt.Sprintf("%d of %d nodes added: %s", r.Added, want, why)
		s.journal.add(Entry{Event: Refused, NodeArray: a.Name, RequestID: op.requestID, Detail: r.Message})
	}
	return r
}

// room is how many of want nodes fit, and what the rest ran into.
func (s *Sim) room(a *array, b *bucket, group string, want int) (allowed int, why string) {
	l := s.measure(a, b)
	allowed, why = min(want, l.available), fmt.Sprintf("limit reached for %s in nodearray %s", b.MachineType, a.Name)
	if s.clock.Now().Before(b.throttled) {
		why = "capacity for " + b.MachineType + " is throttled after a failure"
	}
	if a.InvalidReason != "" {
		why = a.InvalidReason
	}
	if group == "" {
		return allowed, why
	}
	if room := s.groupRoom(a, group); room < allowed {
		return room, "placement group " + group + " is full"
	}
	return allowed, why
}

// names chooses the node names: the lowest free numbers, from nameOffset on.
func (s *Sim) names(a *array, set creationSet, count int) (names []string, clash string) {
	format := set.NameFormat
	if format == "" {
		format = a.Name + "-%d"
	}
	taken := map[string]bool{}
	for _, n := range s.nodes {
		taken[n.name] = true
	}
	if !strings.Contains(format, "%d") {
		if count > 0 && taken[format] {
			return nil, "a node named " + format + " already exists"
		}
		return []string{format}[:min(count, 1)], ""
	}
	index := 1
	if set.NameOffset != nil {
		index = *set.NameOffset
		if s.cfg.Quirks.OffsetStart == NextOffset {
			index++
		}
	}
	for ; len(names) < count; index++ {
		name := strings.Replace(format, "%d", strconv.Itoa(index), 1)
		switch {
		case !taken[name] && nodeName.MatchString(name):
			names = append(names, name)
		case !taken[name]:
			return names, "node name " + name + " is too long"
		case set.NameOffset != nil && s.cfg.Quirks.OffsetCollision == Stop:
			return names, "a node named " + name + " already exists"
		}
	}
	return names, ""
}

func (s *Sim) add(op *operation, a *array, b *bucket, name string, set creationSet) {
	n := &node{
		id: s.newID(), name: name, array: a, bucket: b, group: set.PlacementGroupID,
		requestID: op.requestID, operationID: op.id, created: s.clock.Now(),
		attributes: maps.Clone(set.NodeAttributes), deallocates: a.Deallocates,
	}
	n.keepAlive, _ = set.NodeAttributes["KeepAlive"].(bool)
	n.fixed, _ = set.NodeAttributes["Fixed"].(bool)
	if policy, ok := set.NodeAttributes["ShutdownPolicy"].(string); ok {
		n.deallocates = strings.EqualFold(policy, "deallocate")
	}
	if n.group != "" && !slices.Contains(a.groups, n.group) {
		a.groups = append(a.groups, n.group)
	}
	s.nodes = append(s.nodes, n)
	op.nodeIDs = append(op.nodeIDs, n.id)
	s.journal.add(n.entry(Created, b.MachineType))
	s.begin(n)
}

// scale carries out POST scale/{nodearray}: it grows to a total, once. A total
// that is already reached adds nothing and is no error.
func (s *Sim) scale(a *array, nodes, cores int) (creationResult, error) {
	if err := s.checkStarted(); err != nil {
		return creationResult{}, err
	}
	haveNodes, haveCores := 0, 0
	for _, n := range s.nodes {
		if n.array == a && n.active() {
			haveNodes++
			haveCores += n.bucket.Cores
		}
	}
	missing := nodes - haveNodes
	if cores > 0 {
		size := a.buckets[0].Cores
		missing = (cores - haveCores + size - 1) / size
	}
	op := s.newOperation("create", "")
	out := creationResult{OperationID: op.id, Sets: []setResult{{}}}
	if missing > 0 {
		out.Sets[0] = s.addSet(op, creationSet{NodeArray: a.Name, Count: &missing})
	}
	s.accept(op)
	return out, nil
}
