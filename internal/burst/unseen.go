package burst

import (
	"cmp"
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

func (u *unseenJobs) add(j UnseenJob) {
	u.jobs[j.ID], u.named[j.ID] = j, true // by this very snapshot
}

// keep gives what has to be remembered. Where the snapshot names all that wait,
// a job that it does not name is gone.
func (u *unseenJobs) keep(hides bool) []UnseenJob {
	var list []UnseenJob
	for id, j := range u.jobs {
		if hides || u.named[id] {
			list = append(list, j)
		}
	}
	if len(list) > maxUnseen {
		slices.SortFunc(list, func(a, b UnseenJob) int { return cmp.Or(b.At.Compare(a.At), strings.Compare(a.ID, b.ID)) })
		list = list[:maxUnseen]
	}
	slices.SortFunc(list, func(a, b UnseenJob) int { return strings.Compare(a.ID, b.ID) })
	return list
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
