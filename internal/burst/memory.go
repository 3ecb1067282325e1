package burst

import (
	"slices"
	"time"
)

// Money is an amount in millionths of the currency's unit.
type Money int64

// Memory is what a decision has to know of earlier ones. It is one row of the
// commit partition and changes only in the commit of the decision that changed
// it. Its lists are sorted, so that equal memories look equal.
type Memory struct {
	// Seen is the newest snapshot whose jobs are taken in.
	Seen Position `json:"seen,omitzero"`
	// Jobs are those that were released, or that hold cloud nodes, by ID.
	Jobs []CloudJob `json:"jobs,omitempty"`
	// Unseen are released jobs of which a snapshot that does not name all jobs
	// no longer tells, by ID.
	Unseen []UnseenJob `json:"unseen,omitempty"`
	// Breakers are the failure memory, by Nodearray.
	Breakers []Breaker `json:"breakers,omitempty"`
	// Gated are the partitions that we closed, sorted.
	Gated []string `json:"gated,omitempty"`
	// Steps are the newest changes of each nodearray, by Nodearray.
	Steps []StepMemory `json:"steps,omitempty"`
	// Books are the settled money and waste, by period, account and nodearray.
	Books []Book `json:"books,omitempty"`
	// Meters are what each nodearray's nodes were doing, by Nodearray.
	Meters []Meter `json:"meters,omitempty"`
	// Warned are the soft limits that were told, by budget, and the partitions
	// that Slurm lacks.
	Warned []Warned `json:"warned,omitempty"`
	// Runs are how much of their limit jobs used, by account and user.
	Runs []RunRatio `json:"runs,omitempty"`
	// Noticed are the reasons that jobs were told, by Job.
	Noticed []Noticed `json:"noticed,omitempty"`
	// NoticesFrom and Notices count the notices of the running minute.
	NoticesFrom time.Time `json:"noticesFrom,omitzero"`
	Notices     int       `json:"notices,omitempty"`
}

// clone copies the memory with all its lists.
func (m Memory) clone() Memory {
	m.Jobs = slices.Clone(m.Jobs)
	words, arrays := 0, 0
	for i := range m.Jobs {
		words += len(m.Jobs[i].Home)
		arrays += len(m.Jobs[i].Tried)
	}
	// One backing list for all jobs, each with its own part of it.
	home, tried := make([]string, 0, words), make([]NodearrayName, 0, arrays)
	for i := range m.Jobs {
		j := &m.Jobs[i]
		j.Home, home = cloneOnto(home, j.Home)
		j.Tried, tried = cloneOnto(tried, j.Tried)
	}
	m.Unseen = slices.Clone(m.Unseen)
	m.Breakers = slices.Clone(m.Breakers)
	m.Steps = slices.Clone(m.Steps)
	m.Books = slices.Clone(m.Books)
	m.Meters = slices.Clone(m.Meters)
	m.Warned = slices.Clone(m.Warned)
	m.Runs = slices.Clone(m.Runs)
	m.Noticed = slices.Clone(m.Noticed)
	return m
}

// cloneOnto copies a list to the end of another one, and gives the copy and the
// longer list. To append to the copy does not touch what follows it.
func cloneOnto[T any](end, list []T) (clone, longer []T) {
	if list == nil {
		return nil, end
	}
	from := len(end)
	end = append(end, list...)
	return end[from:len(end):len(end)], end
}

// CloudJob is a job that was released to the cloud or holds nodes there.
type CloudJob struct {
	ID        string        `json:"id"`
	Nodearray NodearrayName `json:"nodearray"`
	User      string        `json:"user,omitempty"`
	Account   string        `json:"account,omitempty"`
	Nodes     int           `json:"nodes"`
	// Home are the on-prem partitions of a released job; empty for a job that
	// was submitted to the cloud.
	Home []string `json:"home,omitempty"`
	// Rate is the price of a node-hour, Committed what was set aside for the
	// time limit, counted in the periods of CommittedAt.
	Rate        Money         `json:"rate,omitempty"`
	Committed   Money         `json:"committed,omitempty"`
	CommittedAt time.Time     `json:"committedAt"`
	TimeLimit   time.Duration `json:"timeLimit,omitempty"`
	// SubmittedAt is the first that was seen: a requeue resets Slurm's.
	SubmittedAt time.Time `json:"submittedAt,omitzero"`
	// StartedAt is zero while the job waits or configures, RevokedAt while it
	// may start in the cloud.
	StartedAt time.Time `json:"startedAt,omitzero"`
	RevokedAt time.Time `json:"revokedAt,omitzero"`
	// Listed says that a snapshot showed the waiting job with the partition of its
	// nodearray: it is not among unnamed jobs that wait on-prem only.
	Listed bool `json:"listed,omitempty"`
	// ListedIn is that partition, where the snapshot is younger than the release:
	// only the job's owner or an admin can have taken it off the list since.
	ListedIn string `json:"listedIn,omitempty"`
	// TakenBackAt is when it was seen that they did; RevokedAt is set then too.
	// ArrayBack says that no other task of the job's array stayed listed.
	TakenBackAt time.Time `json:"takenBackAt,omitzero"`
	ArrayBack   bool      `json:"arrayBack,omitempty"`
	// Tried are the nodearrays that failed the job.
	Tried []NodearrayName `json:"tried,omitempty"`
	// MissingAt is the first snapshot that did not know the job.
	MissingAt Position `json:"missingAt,omitzero"`
	// Shadow marks a job that would have been released.
	Shadow bool `json:"shadow,omitempty"`
}

// UnseenJob is a released job that Slurm showed with the cloud in its list and
// that no snapshot names any more. It started on-prem, was cancelled, or waits
// unnamed since its owner took it back: only that last one is ever named again.
type UnseenJob struct {
	ID        string        `json:"id"`
	Nodearray NodearrayName `json:"nodearray"`
	// ListedIn is the partition that its list named, At when it was missed.
	ListedIn string    `json:"listedIn"`
	At       time.Time `json:"at"`
}

// Breaker is the failure memory of one nodearray and machine type. It is open
// until OpenUntil, then lets one job through, and closes when a node joins.
type Breaker struct {
	Nodearray   NodearrayName `json:"nodearray"`
	MachineType string        `json:"machineType"`
	// Failures counts those in a row; 0 for a mere rest.
	Failures  int       `json:"failures,omitempty"`
	FailedAt  time.Time `json:"failedAt,omitzero"`
	OpenUntil time.Time `json:"openUntil,omitzero"`
	Reason    Reason    `json:"reason,omitzero"`
}

// StepMemory counts what a nodearray changed in the running interval.
type StepMemory struct {
	Nodearray NodearrayName `json:"nodearray"`
	UpFrom    time.Time     `json:"upFrom,omitzero"`
	Up        int           `json:"up,omitempty"`
	DownFrom  time.Time     `json:"downFrom,omitzero"`
	Down      int           `json:"down,omitempty"`
	// CreatedAt and IdledAt are the newest create and power-down.
	CreatedAt time.Time `json:"createdAt,omitzero"`
	IdledAt   time.Time `json:"idledAt,omitzero"`
}

// Book is the money of one account in one nodearray within one period.
type Book struct {
	Period    Period        `json:"period"`
	From      time.Time     `json:"from"`
	Account   string        `json:"account,omitempty"`
	Nodearray NodearrayName `json:"nodearray"`
	// Settled is what ended jobs really ran; BootWaste and IdleWaste, which
	// belong to no account, is what nodes cost without a job.
	Settled     Money         `json:"settled,omitempty"`
	BootWaste   Money         `json:"bootWaste,omitempty"`
	IdleWaste   Money         `json:"idleWaste,omitempty"`
	NodeTime    time.Duration `json:"nodeTime,omitempty"`
	WastedTime  time.Duration `json:"wastedTime,omitempty"`
	JobsSettled int           `json:"jobsSettled,omitempty"`
}

// Meter is how many nodes of a nodearray were booting and idle since At, and
// what a node-hour cost then.
type Meter struct {
	Nodearray NodearrayName `json:"nodearray"`
	At        time.Time     `json:"at"`
	Rate      Money         `json:"rate,omitempty"`
	Booting   int           `json:"booting,omitempty"`
	Idle      int           `json:"idle,omitempty"`
}

// Warned is a soft limit that was passed, or a partition that Slurm lacks, and
// was told, once per period.
type Warned struct {
	Scope  Scope     `json:"scope"`
	Name   string    `json:"name,omitempty"`
	Period Period    `json:"period"`
	From   time.Time `json:"from"`
}

// RunRatio is how much of their limits jobs of an account and user used: a
// weighted mean, in which the newest jobs count most.
type RunRatio struct {
	Account string  `json:"account,omitempty"`
	User    string  `json:"user"`
	Ratio   float64 `json:"ratio"`
	Jobs    int     `json:"jobs"`
}

// Noticed is the reason code that a job's AdminComment tells.
type Noticed struct {
	Job  string `json:"job"`
	Code Code   `json:"code"`
}
