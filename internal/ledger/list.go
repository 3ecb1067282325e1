package ledger

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Bounds of one page of a listing, in rows.
const (
	MaxTop     = 1000
	DefaultTop = 100
)

// longListing bounds how many answers of the service one page may be made of:
// a filter that matches little makes many empty ones.
const longListing = 50

// Page says which part of a listing is wanted.
type Page struct {
	// Top is how many rows at most: DefaultTop where it is not positive, never
	// more than MaxTop.
	Top int
	// Token is what the page before returned; empty for the first.
	Token string
}

func (p Page) top() int {
	if p.Top <= 0 {
		return DefaultTop
	}
	return min(p.Top, MaxTop)
}

// place is what a token holds: where a listing goes on.
type place struct {
	Table table  `json:"t"`
	Day   string `json:"d,omitempty"`
	From  cursor `json:"c"`
}

func (p place) token() string {
	b, _ := json.Marshal(p) // strings only: it cannot fail
	return base64.RawURLEncoding.EncodeToString(b)
}

// start reads a token of a listing of t.
func start(t table, token string) (place, error) {
	if token == "" {
		return place{Table: t}, nil
	}
	var p place
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil || p.Table != t || len(token) > 4096 {
		return place{}, fault.Newf(fault.Invalid, "list %s: the token is not one of this listing", t)
	}
	return p, nil
}

// conditions collects the filters that are set.
type conditions []condition

func (c *conditions) text(column, value string) {
	if value != "" {
		*c = append(*c, condition{column, equal, value})
	}
}

func (c *conditions) cluster(name string) {
	if name != "" {
		*c = append(*c, condition{partitionKey, equal, escape(name)})
	}
}

func (c *conditions) since(column string, at time.Time) {
	if !at.IsZero() {
		*c = append(*c, condition{column, atLeast, at.UTC()})
	}
}

func (c *conditions) until(column string, at time.Time) {
	if !at.IsZero() {
		*c = append(*c, condition{column, below, at.UTC()})
	}
}

// list gives one page of rows and the token of the next, which is empty at the
// end.
func list[T any, R interface {
	*T
	row
}](ctx context.Context, s *Store, t table, where []condition, wanted Page) ([]T, string, error) {
	at, err := start(t, wanted.Token)
	if err != nil {
		return nil, "", err
	}
	rows, next, err := collect[T, R](ctx, s, t, query{where: where, from: at.From}, wanted.top())
	if err != nil || next.isEnd() {
		return rows, "", err
	}
	return rows, place{Table: t, From: next}.token(), nil
}

// collect reads up to top rows of one query, and where to go on.
func collect[T any, R interface {
	*T
	row
}](ctx context.Context, s *Store, t table, q query, top int) ([]T, cursor, error) {
	var rows []T
	for range longListing {
		q.top = top - len(rows)
		var got page
		err := s.heal(ctx, t, func() (err error) {
			got, err = s.tables.query(ctx, s.name(t), q)
			return err
		})
		if err != nil {
			return nil, cursor{}, classify(err, "list "+s.name(t))
		}
		for _, e := range got.rows {
			var value T
			if err := fill(R(&value), e); err != nil {
				return nil, cursor{}, classify(err, "list "+s.name(t))
			}
			rows = append(rows, value)
		}
		q.from = got.next
		if q.from.isEnd() || len(rows) >= top {
			break
		}
	}
	return rows, q.from, nil
}

// ClusterStatus is a cluster as listings show it.
type ClusterStatus struct {
	Cluster   Cluster
	Heartbeat Heartbeat
}

// ListClusters gives one page of the clusters that something was committed for.
func (s *Store) ListClusters(ctx context.Context, wanted Page) ([]ClusterStatus, string, error) {
	where := []condition{{rowKey, equal, rowCluster}}
	clusters, next, err := list[Cluster](ctx, s, tableClusters, where, wanted)
	if err != nil {
		return nil, "", err
	}
	listed := make([]ClusterStatus, len(clusters))
	for i, c := range clusters {
		listed[i].Cluster = c
		where := []condition{{partitionKey, equal, escape(c.Cluster)}, {rowKey, equal, rowHeartbeat}}
		beat := func(e entity) error { return fill(&listed[i].Heartbeat, e) }
		if _, err := s.rows(ctx, tableClusters, query{where: where}, beat); err != nil {
			return nil, "", classify(err, fmt.Sprintf("read heartbeat %s/%s", s.name(tableClusters), c.Cluster))
		}
	}
	return listed, next, nil
}

// Clusters gives every cluster that something was committed for.
func (s *Store) Clusters(ctx context.Context) ([]Cluster, error) {
	var clusters []Cluster
	where := []condition{{rowKey, equal, rowCluster}}
	_, err := s.rows(ctx, tableClusters, query{where: where}, func(e entity) error {
		var c Cluster
		err := fill(&c, e)
		clusters = append(clusters, c)
		return err
	})
	if err != nil {
		return nil, classify(err, "list "+s.name(tableClusters))
	}
	return clusters, nil
}

// NodeFilter selects nodes; an empty field selects all.
type NodeFilter struct{ Cluster, Nodearray, SlurmState, CycleCloudStatus, ReasonCode string }

// ListNodes gives one page of nodes.
func (s *Store) ListNodes(ctx context.Context, f NodeFilter, wanted Page) ([]Node, string, error) {
	var where conditions
	where.cluster(f.Cluster)
	where.text("Nodearray", f.Nodearray)
	where.text("SlurmState", f.SlurmState)
	where.text("CycleCloudStatus", f.CycleCloudStatus)
	where.text("ReasonCode", f.ReasonCode)
	return list[Node](ctx, s, tableNodes, where, wanted)
}

// NodearrayFilter selects nodearrays; an empty field selects all.
type NodearrayFilter struct{ Cluster, Partition string }

// ListNodearrays gives one page of nodearrays.
func (s *Store) ListNodearrays(ctx context.Context, f NodearrayFilter, wanted Page) ([]Nodearray, string, error) {
	var where conditions
	where.cluster(f.Cluster)
	where.text("Partition", f.Partition)
	return list[Nodearray](ctx, s, tableNodearrays, where, wanted)
}

// CommandFilter selects commands; an empty field selects all.
type CommandFilter struct {
	Cluster, Kind, Nodearray string
	State                    CommandState
}

// ListCommands gives one page of commands.
func (s *Store) ListCommands(ctx context.Context, f CommandFilter, wanted Page) ([]Command, string, error) {
	var where conditions
	where.cluster(f.Cluster)
	where.text("Kind", f.Kind)
	where.text("Nodearray", f.Nodearray)
	where.text("State", string(f.State))
	return list[Command](ctx, s, tableCommands, where, wanted)
}

// JobFilter selects jobs and groups; an empty field selects all.
type JobFilter struct{ Cluster, State, Partition, Nodearray, User, Account, ReasonCode string }

// ListJobs gives one page of jobs and groups.
func (s *Store) ListJobs(ctx context.Context, f JobFilter, wanted Page) ([]Job, string, error) {
	var where conditions
	where.cluster(f.Cluster)
	where.text("State", f.State)
	where.text("Partition", f.Partition)
	where.text("Nodearray", f.Nodearray)
	where.text("User", f.User)
	where.text("Account", f.Account)
	where.text("ReasonCode", f.ReasonCode)
	return list[Job](ctx, s, tableJobs, where, wanted)
}

// FailureFilter selects failures; an empty field selects all. Since is
// included, Until is not.
type FailureFilter struct {
	Cluster, Node, Nodearray, Source, Code string
	Since, Until                           time.Time
}

// ListFailures gives one page of failures, the newest of a cluster first.
func (s *Store) ListFailures(ctx context.Context, f FailureFilter, wanted Page) ([]Failure, string, error) {
	var where conditions
	where.cluster(f.Cluster)
	where.text("Node", f.Node)
	where.text("Nodearray", f.Nodearray)
	where.text("Source", f.Source)
	where.text("Code", f.Code)
	where.since("At", f.Since)
	where.until("At", f.Until)
	return list[Failure](ctx, s, tableFailures, where, wanted)
}

// PolicyFilter selects policies; an empty field selects all.
type PolicyFilter struct{ Cluster, Author string }

// ListPolicies gives one page of policies with their texts.
func (s *Store) ListPolicies(ctx context.Context, f PolicyFilter, wanted Page) ([]Policy, string, error) {
	var where conditions
	where.cluster(f.Cluster)
	where.text("Author", f.Author)
	return list[Policy](ctx, s, tablePolicies, where, wanted)
}

// DecisionFilter selects decisions of one cluster. Since is included, Until is
// not; without them the listing covers what is kept.
type DecisionFilter struct {
	Cluster, Trigger, PolicyVersion string
	Since, Until                    time.Time
}

// ListDecisions gives one page of decisions without their facts, newest first.
// The table has one partition for each day, so it reads them day by day.
func (s *Store) ListDecisions(ctx context.Context, f DecisionFilter, wanted Page) ([]Decision, string, error) {
	at, err := start(tableDecisions, wanted.Token)
	if err != nil {
		return nil, "", err
	}
	if f.Cluster == "" {
		return nil, "", fault.Newf(fault.Invalid, "list %s: a cluster has to be named", s.name(tableDecisions))
	}
	day, oldest, err := s.days(f, at)
	if err != nil {
		return nil, "", err
	}
	var rows []Decision
	for from := at.From; !day.Before(oldest); day, from = day.AddDate(0, 0, -1), (cursor{}) {
		q := query{where: f.onDay(day), from: from}
		got, next, err := collect[Decision](ctx, s, tableDecisions, q, wanted.top()-len(rows))
		if err != nil {
			return nil, "", err
		}
		rows = append(rows, got...)
		switch goOn := (place{Table: tableDecisions, Day: day.Format(time.DateOnly), From: next}); {
		case !next.isEnd():
			return rows, goOn.token(), nil
		case len(rows) >= wanted.top() && day.After(oldest):
			goOn.Day = day.AddDate(0, 0, -1).Format(time.DateOnly)
			return rows, goOn.token(), nil
		}
	}
	return rows, "", nil
}

// days gives the first day to read and the last, going backwards.
func (s *Store) days(f DecisionFilter, at place) (day, oldest time.Time, err error) {
	const whole = 24 * time.Hour
	newest := s.now().Add(whole) // clocks differ: tomorrow has been seen
	if !f.Until.IsZero() && f.Until.Before(newest) {
		newest = f.Until
	}
	oldest = s.now().AddDate(0, 0, -retention)
	if f.Since.After(oldest) {
		oldest = f.Since
	}
	day = newest.UTC().Truncate(whole)
	oldest = oldest.UTC().Truncate(whole)
	if at.Day == "" {
		return day, oldest, nil
	}
	goOn, err := time.Parse(time.DateOnly, at.Day)
	if err != nil || goOn.After(day) {
		return day, oldest, fault.Newf(fault.Invalid, "list %s: the token is not one of this listing", tableDecisions)
	}
	return goOn, oldest, nil
}

func (f DecisionFilter) onDay(day time.Time) []condition {
	where := conditions{{partitionKey, equal, dayKey(f.Cluster, day)}, {rowKey, below, kindFacts}}
	where.text("Trigger", f.Trigger)
	where.text("PolicyVersion", f.PolicyVersion)
	where.since("At", f.Since)
	where.until("At", f.Until)
	return where
}
