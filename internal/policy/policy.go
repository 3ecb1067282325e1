// Package policy answers one question: what does the site allow? It reads the
// policy file that the app, the agent and burstctl share, refuses whatever it
// does not fully understand or what contradicts itself, and hands the core a
// burst.Policy that is sound. Its defaults are those that docs/policy.md
// lists; it must never guess beyond them, and never read the environment:
// credentials are only named here.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// Document is one policy file: one Slurm cluster, the CycleCloud nodearrays
// that it may grow into, and what limits that. Defaults are filled in.
type Document struct {
	// Cluster is Slurm's ClusterName, lower case as Slurm stores it.
	Cluster    burst.ClusterName `json:"cluster"`
	CycleCloud CycleCloud        `json:"cyclecloud"`
	Mode       Mode              `json:"mode"`
	// MaxActAge is the age above which a snapshot may only be stored.
	MaxActAge time.Duration `json:"maxActAge"`
	// MaxNodes is the Limit over all nodearrays; 0 for none.
	MaxNodes int `json:"maxNodes,omitempty"`
	// TimeZone is the IANA name of the zone of schedules, days and months.
	TimeZone string `json:"timeZone"`
	// Currency is ISO 4217's code of all money; empty where it is not told.
	Currency string  `json:"currency,omitempty"`
	Breaker  Breaker `json:"breaker"`
	// Nodearrays in rank order, as written.
	Nodearrays []Nodearray `json:"nodearrays"`
	// Overflow rules in the order in which they are tried.
	Overflow []Overflow `json:"overflow,omitempty"`
	Budgets  []Budget   `json:"budgets,omitempty"`
	// Accounts and Users bound what one of them may have.
	Accounts []Share `json:"accounts,omitempty"`
	Users    []Share `json:"users,omitempty"`
	// File is the path that LoadPath read; empty after Parse. It is not part
	// of the Version, because app and agent keep their copies elsewhere.
	File string `json:"-"`

	zone *time.Location
}

// Mode says whether decisions are carried out.
type Mode string

// The modes of a policy.
const (
	ModeActive Mode = "active"
	ModeShadow Mode = "shadow"
)

// CycleCloud says where the CycleCloud server is and what proves that it is
// the right one.
type CycleCloud struct {
	// URL is the server's base, without a slash at the end. It is https, or
	// http on a loopback address.
	URL string `json:"url"`
	// Cluster is CycleCloud's own name of the cluster; it may hold capitals
	// and spaces, and differ from Slurm's.
	Cluster string `json:"cluster"`
	// Credential names the setting BURST_CREDENTIAL_<NAME>.
	Credential string `json:"credential"`
	// Pin is the SHA-256 of the server's certificate (DER) as 64 lower-case
	// hex digits; empty to trust a CA instead.
	Pin string `json:"pin,omitempty"`
	// CAFile holds PEM certificates to trust instead of the system's; empty
	// for the system's. See Document.CAPath.
	CAFile string `json:"caFile,omitempty"`
}

// Breaker is how long a nodearray that failed rests: First, and twice as long
// after each failure in a row, at most Max.
type Breaker struct {
	First time.Duration `json:"first"`
	Max   time.Duration `json:"max"`
}

// Nodearray is one CycleCloud nodearray and the Slurm nodes that it backs.
type Nodearray struct {
	Name      burst.NodearrayName `json:"name"`
	Partition string              `json:"partition"`
	// Nodes is the expanded hostlist, in its order.
	Nodes       []burst.NodeName `json:"nodes"`
	MachineType string           `json:"machineType"`
	// Spot says that the VMs are spot VMs; Price is what a node-hour costs.
	Spot  bool  `json:"spot"`
	Price Price `json:"price"`
	// CPUs, MemoryMiB and GPUs are what one node offers; 0 CPUs or MemoryMiB
	// for not told.
	CPUs      int      `json:"cpus,omitempty"`
	MemoryMiB int64    `json:"memoryMiB,omitempty"`
	GPUs      int      `json:"gpus,omitempty"`
	Features  []string `json:"features,omitempty"`
	// PlacementGroup is CycleCloud's placementGroupId; MaxPlacementGroup is how
	// many nodes fit into one group, 0 for no bound.
	PlacementGroup    string `json:"placementGroup,omitempty"`
	MaxPlacementGroup int    `json:"maxPlacementGroup,omitempty"`
	// MaxNodes is the Limit, 1 to len(Nodes).
	MaxNodes     int           `json:"maxNodes"`
	StepUp       Step          `json:"stepUp"`
	StepDown     Step          `json:"stepDown"`
	CooldownUp   time.Duration `json:"cooldownUp"`
	CooldownDown time.Duration `json:"cooldownDown"`
	IdleTimeout  time.Duration `json:"idleTimeout"`
	BootDeadline time.Duration `json:"bootDeadline"`
	// BootTime is how long a boot is expected to take.
	BootTime time.Duration `json:"bootTime"`
	// Schedule is when the nodearray takes new jobs; empty for always.
	Schedule []Opening `json:"schedule,omitempty"`
	Gate     Gate      `json:"gate"`

	window burst.Window
}

// Gate is an admin's switch on a nodearray.
type Gate string

// The positions of a gate. Slurm starts nothing new behind a closed one.
const (
	GateOpen   Gate = "open"
	GateClosed Gate = "closed"
)

// Price is what one node-hour costs; 0 for not told.
type Price struct {
	OnDemand burst.Money `json:"onDemand,omitempty"`
	Spot     burst.Money `json:"spot,omitempty"`
}

// Step is at most Nodes within Every; Nodes 0 for no bound.
type Step struct {
	Nodes int           `json:"nodes,omitempty"`
	Every time.Duration `json:"every,omitempty"`
}

// Opening is a span of time that comes again: it begins whenever the clock of
// the policy's TimeZone agrees with Cron, and lasts For.
type Opening struct {
	Cron string        `json:"cron"`
	For  time.Duration `json:"for"`
}

// Overflow lets jobs that wait in an on-prem partition use the cloud.
type Overflow struct {
	Partition  string                `json:"partition"`
	Nodearrays []burst.NodearrayName `json:"nodearrays"`
	// When is a CEL expression over the variable job; empty for every job.
	When    string  `json:"when,omitempty"`
	Waiting Waiting `json:"waiting"`
	// MaxJobCost keeps a job from where it would cost more; 0 for no bound.
	MaxJobCost burst.Money `json:"maxJobCost,omitempty"`

	when burst.Predicate
}

// Waiting is a waiting rule with its numbers.
type Waiting struct {
	Rule  burst.WaitingRule `json:"rule"`
	Wait  time.Duration     `json:"wait,omitempty"`
	Drain time.Duration     `json:"drain,omitempty"`
	Kappa float64           `json:"kappa,omitempty"`
}

// Budget bounds the money that is committed within a period; 0 is no bound.
type Budget struct {
	Scope         burst.Scope  `json:"scope"`
	Name          string       `json:"name,omitempty"`
	Period        burst.Period `json:"period"`
	Soft          burst.Money  `json:"soft,omitempty"`
	Medium        burst.Money  `json:"medium,omitempty"`
	MediumJobCost burst.Money  `json:"mediumJobCost,omitempty"`
	Hard          burst.Money  `json:"hard,omitempty"`
}

// Everyone names the share of all that no other share names.
const Everyone = "*"

// Share bounds the nodes of one account or user; MaxNodes 0 is no bound.
type Share struct {
	Name     string `json:"name"`
	MaxNodes int    `json:"maxNodes,omitempty"`
}

// Version identifies what the policy means: the first 12 hex digits of the
// SHA-256 of its canonical form. Comments, order of keys, the spelling of a
// hostlist and defaults that are written out do not change it.
func (d Document) Version() string {
	canonical, err := json.Marshal(d)
	if err != nil {
		panic("policy: a document of strings and numbers always encodes: " + err.Error())
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:6])
}

// CAPath is the CA file's path; a relative one is taken from the directory of
// the policy file. It is empty when the policy names none.
func (d Document) CAPath() string {
	file := d.CycleCloud.CAFile
	if file == "" || filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(filepath.Dir(d.File), file)
}
