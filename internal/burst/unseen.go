package burst

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// maxUnseen bounds the jobs of which nothing is heard. Where most jobs of a long
// queue start on-prem after all, those that were missed first are forgotten.
const maxUnseen = 2000

// unseenJobs are released jobs that were missed, while a snapshot is taken in.
type unseenJobs struct {
	jobs  map[string]UnseenJob
	named map[string]bool // waiting again with the cloud in the list
}

func newUnseen(list []UnseenJob) unseenJobs {
	u := unseenJobs{jobs: make(map[string]UnseenJob, len(list)), named: map[string]bool{}}
	for _, j := range list {
		u.jobs[j.ID] = j
	}
	return u
}

// forgetUnnamed forgets the jobs that a snapshot does not name which names all
// that wait: they are gone.
func (u *unseenJobs) forgetUnnamed() {
	maps.DeleteFunc(u.jobs, func(id string, _ UnseenJob) bool { return !u.named[id] })
}

// list gives what has to be remembered.
func (u *unseenJobs) list() []UnseenJob {
	var list []UnseenJob
	for _, j := range u.jobs {
		list = append(list, j)
	}
	if len(list) > maxUnseen {
		slices.SortFunc(list, func(a, b UnseenJob) int { return cmp.Or(b.At.Compare(a.At), strings.Compare(a.ID, b.ID)) })
		list = list[:maxUnseen]
	}
	slices.SortFunc(list, func(a, b UnseenJob) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// maybeTakenBack reports whether a job that is missed may wait without the cloud
// in its list because its owner wished so.
func (j *CloudJob) maybeTakenBack() bool {
	return len(j.Home) > 0 && j.ListedIn != "" && j.StartedAt.IsZero() && (j.RevokedAt.IsZero() || !j.TakenBackAt.IsZero())
}

// seeAgain takes a job in again that was missed and waits: without the cloud in
// its list it was taken back in the meantime, and steer will find so. One that
// was submitted or requeued since is as any other.
func (a *advancing) seeAgain(id string, group *Group) {
	j, missed := a.unseen.jobs[id]
	if !missed {
		return
	}
	_, known := a.index[id]
	switch {
	case known, group.OldestSubmit.After(j.At):
		delete(a.unseen.jobs, id)
	case slices.Contains(group.Partitions, j.ListedIn):
		a.unseen.named[id] = true // its owner lists the cloud again
	default:
		delete(a.unseen.jobs, id)
		a.index[id] = len(a.memory.Jobs)
		a.known = append(a.known, jobWaiting)
		a.memory.Jobs = append(a.memory.Jobs, CloudJob{
			ID: id, Nodearray: j.Nodearray, User: group.User, Account: group.Account, Home: slices.Clone(group.Partitions),
			CommittedAt: j.At, TimeLimit: group.TimeLimit, SubmittedAt: group.OldestSubmit, Listed: true, ListedIn: j.ListedIn,
		}) // without nodes and money: it holds none
	}
}
