package burst

import (
	"cmp"
	"slices"
	"time"
)

// maxCloudJobs bounds the records that hold no money: those of jobs that were
// revoked or, in shadow mode, never released. Others are never dropped.
const maxCloudJobs = 20_000

// advance gives what the memory becomes with the facts. What a snapshot says
// about jobs is taken in once; the meters run with every call.
func advance(now time.Time, p Policy, f Facts) Memory {
	m := f.Memory.clone()
	c := newCalendar(now, p.Zone)
	a := &advancing{now: now, policy: p, facts: &f, memory: &m, books: keepBooks(c, m.Books)}
	if f.Snapshot.After(m.Seen) {
		a.takeIn()
		m.Runs = learnRuns(m.Runs, f.Finished)
		m.Seen = f.Snapshot.Position
	}
	m.Meters = readMeters(now, p, f, m.Meters, a.books)
	m.Books = a.books.close()
	m.Warned = slices.DeleteFunc(m.Warned, func(w Warned) bool { return !w.From.Equal(c.present[w.Period.index()]) })
	return m
}

// advancing takes one snapshot into the memory.
type advancing struct {
	now    time.Time
	policy Policy
	facts  *Facts
	memory *Memory
	books  *bookkeeper

	arrays map[NodearrayName]*Nodearray
	index  map[string]int // of memory.Jobs
	unseen unseenJobs
	// known tells what the snapshot says of each job.
	known []sighting
}

// sighting is what the snapshot says of a job.
type sighting int

const (
	jobUnseen sighting = iota
	jobWaiting
	jobRunning
	jobGone // settled: the record is to be dropped
)

func (a *advancing) takeIn() {
	a.arrays = make(map[NodearrayName]*Nodearray, len(a.policy.Nodearrays))
	for i := range a.policy.Nodearrays {
		a.arrays[a.policy.Nodearrays[i].Name] = &a.policy.Nodearrays[i]
	}
	jobs := a.memory.Jobs
	a.known = make([]sighting, len(jobs), len(jobs)+len(a.facts.Running))
	a.index = make(map[string]int, len(jobs)+len(a.facts.Running))
	for i := range jobs {
		a.index[jobs[i].ID] = i
		if jobs[i].Shadow && !a.policy.Shadow {
			a.known[i] = jobGone // now it may be released in earnest
		}
	}
	for i := range a.facts.Ended {
		a.end(&a.facts.Ended[i])
	}
	for i := range a.facts.Running {
		a.run(&a.facts.Running[i])
	}
	a.unseen = newUnseen(a.memory.Unseen)
	hidden := a.lookAtGroups()
	for i := range a.known {
		if a.known[i] == jobUnseen {
			a.miss(i, hidden)
		}
	}
	if !a.facts.Cut && len(hidden.any) == 0 {
		a.unseen.forgetUnnamed()
	}
	a.memory.Unseen = a.unseen.list()
	a.keepJobs()
}

// price is that of a node-hour in a nodearray, and whether the policy knows it.
func (a *advancing) price(name NodearrayName) (Money, bool) {
	if array, known := a.arrays[name]; known {
		return array.Price, true
	}
	return 0, false
}

// renew commits a job's whole time limit from now on, at the present price.
func (a *advancing) renew(j *CloudJob) {
	if rate, known := a.price(j.Nodearray); known {
		j.Rate = rate
	}
	j.Committed = commitment(j.Rate, j.Nodes, j.TimeLimit)
	j.CommittedAt = a.now.UTC()
}

// settle books a run of the job that ended at the given moment.
func (a *advancing) settle(j *CloudJob, end time.Time) {
	if !j.StartedAt.IsZero() {
		a.books.settle(j, end.Sub(j.StartedAt))
	}
	j.StartedAt = time.Time{}
}

// endUnseen is when a run ended of which that is not known: now, but no later
// than its time limit allowed.
func (a *advancing) endUnseen(j *CloudJob) time.Time {
	if limit := j.StartedAt.Add(j.TimeLimit); j.TimeLimit > 0 && limit.Before(a.now) {
		return limit
	}
	return a.now
}

func (a *advancing) end(e *EndedJob) {
	i, known := a.index[e.ID]
	if !known || a.known[i] == jobGone {
		return
	}
	j := &a.memory.Jobs[i]
	end := e.EndedAt
	if end.IsZero() || end.After(a.now) {
		end = a.endUnseen(j)
	}
	a.settle(j, end)
	if e.Requeued {
		a.wait(i)
		return
	}
	a.known[i] = jobGone
}

// wait notes that a job waits again, with all its time before it.
func (a *advancing) wait(i int) {
	j := &a.memory.Jobs[i]
	j.StartedAt, j.MissingAt = time.Time{}, Position{}
	if j.RevokedAt.IsZero() {
		a.renew(j)
	}
	a.known[i] = jobWaiting
}

// run notes that a job holds cloud nodes.
func (a *advancing) run(r *RunningJob) {
	i, known := a.index[r.ID]
	if !known {
		a.adopt(r)
		return
	}
	j := &a.memory.Jobs[i]
	fresh := j.Shadow || !j.RevokedAt.IsZero() || a.known[i] == jobGone
	if a.rerun(j, r) {
		end := a.endUnseen(j)
		if !r.StartedAt.IsZero() && r.StartedAt.Before(end) {
			end = r.StartedAt
		}
		a.settle(j, end)
		fresh = true
	}
	if r.Nodearray != j.Nodearray {
		j.Nodearray = r.Nodearray
		if rate, priced := a.price(r.Nodearray); priced {
			j.Rate = rate
		}
	}
	if r.Nodes > 0 {
		j.Nodes = r.Nodes
	}
	j.TimeLimit = r.TimeLimit
	j.Committed = commitment(j.Rate, j.Nodes, j.TimeLimit)
	if !j.TakenBackAt.IsZero() { // its owner listed the cloud again, and nobody released it
		j.TakenBackAt, j.ArrayBack, j.Home, j.Listed, j.ListedIn = time.Time{}, false, nil, false, ""
	}
	if fresh { // a new run, or one that nobody let in: revoked, or mere shadow
		j.Shadow, j.RevokedAt = false, time.Time{}
		a.renew(j)
	}
	if !r.Configuring && j.StartedAt.IsZero() {
		j.StartedAt = a.started(r)
	}
	j.MissingAt = Position{}
	a.known[i] = jobRunning
}

// rerun reports whether the job began anew since it was last seen: it was
// requeued in between, which no snapshot told.
func (a *advancing) rerun(j *CloudJob, r *RunningJob) bool {
	return !j.StartedAt.IsZero() && (r.Configuring || r.StartedAt.After(j.StartedAt.Add(clockGrain)))
}

func (a *advancing) started(r *RunningJob) time.Time {
	if r.StartedAt.IsZero() || r.StartedAt.After(a.now) {
		return a.now.UTC()
	}
	return r.StartedAt.UTC()
}

// adopt takes in a job that was submitted to the cloud, or was forgotten.
func (a *advancing) adopt(r *RunningJob) {
	j := CloudJob{ID: r.ID, Nodearray: r.Nodearray, User: r.User, Account: r.Account, Nodes: max(0, r.Nodes), TimeLimit: r.TimeLimit}
	a.renew(&j)
	if !r.Configuring {
		j.StartedAt = a.started(r)
	}
	a.index[j.ID] = len(a.memory.Jobs)
	a.memory.Jobs = append(a.memory.Jobs, j)
	a.known = append(a.known, jobRunning)
}

// hiding are partitions with waiting jobs that the snapshot does not name:
// whether it misses any job, and any that waits again.
type hiding struct{ any, again map[string]bool }

// lookAtGroups notes which jobs wait, and where others may.
func (a *advancing) lookAtGroups() hiding {
	hidden := hiding{any: map[string]bool{}, again: map[string]bool{}}
	// Groups name up to 100,000 jobs, of which few are known: look among few.
	sought, arrays := map[string]int{}, map[string][]int{}
	for i, seen := range a.known {
		if seen != jobUnseen && seen != jobWaiting { // one that was requeued waits, and its list has to be read
			continue
		}
		j := &a.memory.Jobs[i]
		sought[j.ID] = i
		if j.ArrayBack {
			arrays[wholeArray(j.ID)] = append(arrays[wholeArray(j.ID)], i)
		}
	}
	for g := range a.facts.Groups {
		group := &a.facts.Groups[g]
		for _, id := range group.Jobs {
			a.seeAgain(id, group)
			if i, known := sought[id]; known {
				delete(sought, id) // named twice, it counts where it is named first
				a.seeWaiting(i, group)
			}
			if len(arrays) == 0 {
				continue
			}
			for _, i := range arrays[wholeArray(id)] { // it stands for all tasks that wait
				a.memory.Jobs[i].MissingAt, a.known[i] = Position{}, jobWaiting
			}
		}
		if group.Count <= len(group.Jobs) {
			continue
		}
		for _, name := range group.Partitions {
			hidden.any[name] = true
			if group.Restarted {
				hidden.again[name] = true
			}
		}
	}
	return hidden
}

// seeWaiting notes that a job waits with the group.
func (a *advancing) seeWaiting(i int, group *Group) {
	j := &a.memory.Jobs[i]
	if !j.StartedAt.IsZero() {
		a.settle(j, a.endUnseen(j))
		a.wait(i)
	}
	j.MissingAt = Position{}
	a.known[i] = jobWaiting
	if !j.TakenBackAt.IsZero() && !slices.Equal(j.Home, group.Partitions) {
		j.Home = slices.Clone(group.Partitions) // among whose jobs it may be unnamed
	}
	array, there := a.arrays[j.Nodearray]
	if !there || !j.RevokedAt.IsZero() || !slices.Contains(group.Partitions, array.Partition) {
		return
	}
	j.Listed = true
	released := j.CommittedAt
	if i < len(a.facts.Memory.Jobs) { // a requeue renews that time and releases nothing
		released = a.facts.Memory.Jobs[i].CommittedAt
	}
	if !j.Shadow && a.facts.Snapshot.AsOf.After(released) {
		j.ListedIn = array.Partition
	}
}

// miss notes that the snapshot does not know a job. It may have been cancelled,
// have started on-prem, or its end was not told. One snapshot proves nothing:
// it may be older than what is known of the job.
func (a *advancing) miss(i int, hidden hiding) {
	j := &a.memory.Jobs[i]
	hiding := hidden.any
	if !j.StartedAt.IsZero() {
		hiding = hidden.again
	}
	maybe := a.facts.Cut
	if !j.Listed || !j.RevokedAt.IsZero() {
		// Most jobs of a long queue are not named, so a released one that started
		// on-prem or was cancelled would hold its money as long as the queue lasts.
		maybe = maybe || slices.ContainsFunc(j.Home, func(name string) bool { return hiding[name] })
	}
	if array, known := a.arrays[j.Nodearray]; known {
		maybe = maybe || hiding[array.Partition]
	} else {
		maybe = maybe || len(hiding) > 0 // it left the policy: any partition may be its
	}
	switch {
	case maybe:
	case j.Shadow:
		a.known[i] = jobGone
	case j.MissingAt == Position{}:
		j.MissingAt = a.facts.Snapshot.Position
	case a.facts.Snapshot.After(j.MissingAt):
		if j.maybeTakenBack() {
			a.unseen.jobs[j.ID] = UnseenJob{ID: j.ID, Nodearray: j.Nodearray, ListedIn: j.ListedIn, At: a.now.UTC()}
		}
		a.settle(j, a.endUnseen(j))
		a.known[i] = jobGone
	}
}

// keepJobs drops the records of jobs that are gone and sorts the others.
func (a *advancing) keepJobs() {
	jobs := a.memory.Jobs
	if slices.Contains(a.known, jobGone) {
		kept := jobs[:0]
		for i := range jobs {
			if a.known[i] != jobGone {
				kept = append(kept, jobs[i])
			}
		}
		clear(jobs[len(kept):])
		jobs = kept
	}
	if surplus := len(jobs) - maxCloudJobs; surplus > 0 {
		jobs = slices.DeleteFunc(jobs, func(j CloudJob) bool {
			drop := surplus > 0 && (j.Shadow || !j.RevokedAt.IsZero())
			if drop {
				surplus--
			}
			return drop
		})
	}
	slices.SortFunc(jobs, func(a, b CloudJob) int { return cmp.Compare(a.ID, b.ID) })
	a.memory.Jobs = jobs
}
