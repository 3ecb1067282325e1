// Package policy answers one question: what does the site allow? It reads the
// policy file that the app, the agent and burstctl share, refuses whatever it
// does not fully understand, and hands the core a burst.Policy that is sound.
// It must never guess a value that the file does not give (but MaxActAge), and
// never read the environment: credentials are only named here.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"slices"
	"time"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// DefaultMaxActAge is the age above which a snapshot may only be stored, when
// the file does not say.
const DefaultMaxActAge = 90 * time.Second

// Document is one policy file: one Slurm cluster and the CycleCloud nodearrays
// that it may grow into.
type Document struct {
	// Cluster is Slurm's ClusterName, lower case as Slurm stores it.
	Cluster    burst.ClusterName `json:"cluster"`
	CycleCloud CycleCloud        `json:"cyclecloud"`
	// MaxActAge is the age above which a snapshot may only be stored.
	MaxActAge time.Duration `json:"maxActAge"`
	// Nodearrays in rank order, as written.
	Nodearrays []Nodearray `json:"nodearrays"`
	// File is the path that LoadPath read; empty after Parse. It is not part
	// of the Version, because app and agent keep their copies elsewhere.
	File string `json:"-"`
}

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

// Nodearray is one CycleCloud nodearray and the Slurm nodes that it backs.
type Nodearray struct {
	Name      burst.NodearrayName `json:"name"`
	Partition string              `json:"partition"`
	// Nodes is the expanded hostlist, in its order.
	Nodes          []burst.NodeName `json:"nodes"`
	MachineType    string           `json:"machineType"`
	PlacementGroup string           `json:"placementGroup,omitempty"`
	// MaxNodes is the Limit, 1 to len(Nodes).
	MaxNodes     int           `json:"maxNodes"`
	IdleTimeout  time.Duration `json:"idleTimeout"`
	BootDeadline time.Duration `json:"bootDeadline"`
}

// Version identifies what the policy means: the first 12 hex digits of the
// SHA-256 of its canonical form. Comments, order of keys and the spelling of a
// hostlist do not change it.
func (d Document) Version() string {
	canonical, err := json.Marshal(d)
	if err != nil {
		panic("policy: a document of strings and numbers always encodes: " + err.Error())
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:6])
}

// Burst gives the policy in the core's terms. The result shares nothing with d.
func (d Document) Burst() burst.Policy {
	p := burst.Policy{
		Version:   d.Version(),
		Cluster:   d.Cluster,
		MaxActAge: d.MaxActAge,
	}
	for _, a := range d.Nodearrays {
		p.Nodearrays = append(p.Nodearrays, burst.Nodearray{
			Name:           a.Name,
			Partition:      a.Partition,
			Nodes:          slices.Clone(a.Nodes),
			MachineType:    a.MachineType,
			PlacementGroup: a.PlacementGroup,
			MaxNodes:       a.MaxNodes,
			IdleTimeout:    a.IdleTimeout,
			BootDeadline:   a.BootDeadline,
		})
	}
	return p
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
