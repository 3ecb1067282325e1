package cyclecloudsim

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"regexp"
	"time"
)

// Range is a span of time from which a delay is drawn with the seeded
// generator. Max below Min means exactly Min.
type Range struct {
	Min, Max time.Duration
}

// Size is one VM size that a nodearray may use: a bucket, in CycleCloud's
// words.
type Size struct {
	// MachineType is the Azure name of the VM size.
	MachineType string
	// Cores is the number of vCPUs of one VM, also charged to the quota.
	Cores int
	// MaxCount is the ceiling of this size alone; 0 means the nodearray's.
	MaxCount int
	// Family names the quota family; empty means the machine type itself.
	Family string
}

// NodeArray describes one nodearray of the cluster.
type NodeArray struct {
	// Name is the nodearray's name, the Template of its nodes.
	Name string
	// MachineType is the first (usually the only) VM size.
	MachineType string
	// MaxCount is the nodearray's ceiling in nodes, over all sizes.
	MaxCount int
	// Cores is the number of vCPUs of one VM of MachineType.
	Cores int
	// Family names the quota family of MachineType; empty means the type itself.
	Family string
	// MoreSizes are further buckets, tried in this order by a request that
	// names no machine type.
	MoreSizes []Size
	// MemoryGB is reported as virtualMachine.memory and as the node's Memory.
	// It is in GB, not GiB, and not what Slurm will measure.
	MemoryGB float64
	// PlacementGroups exist from the start; others appear at first use.
	PlacementGroups []string
	// MaxPlacementGroupSize limits one placement group; 0 means 100
	// (Azure.MaxScalesetSize of the Slurm template).
	MaxPlacementGroupSize int
	// Spot makes the nodes interruptible. Their family quota is reported as
	// 0, as the real server does; only the regional numbers limit them.
	Spot bool
	// PricePerHour is the retail price of one node in US dollars, used by the
	// usage answer.
	PricePerHour float64
	// PriceFree leaves the cost out of the usage answer, as for a VM size
	// that has no retail price.
	PriceFree bool
	// Deallocates makes nodes/shutdown deallocate (ShutdownPolicy) instead of
	// terminating, which is the default.
	Deallocates bool
	// InvalidReason, when set, makes the buckets invalid: existing nodes stay,
	// no new ones are added (NotActivated, DisabledMachineType).
	InvalidReason string
	// Configuration is reported in the nodearray record and on every node,
	// and holds the slurm and autoscale sections of a template.
	Configuration map[string]any
}

// Config says which cluster to play and how. The zero value of every field
// but Cluster and NodeArrays has a working meaning.
type Config struct {
	// Cluster is the CycleCloud cluster's name exactly as typed.
	Cluster string
	// User and Password are the only credentials accepted (HTTP Basic).
	User, Password string
	// NodeArrays are the cluster's nodearrays, in the order of the answers.
	NodeArrays []NodeArray
	// ClusterMaxCount is the cluster's ceiling in nodes; 0 means none.
	ClusterMaxCount int
	// FamilyQuota limits cores per family; a family without entry is limited
	// by RegionalQuota only.
	FamilyQuota map[string]int
	// RegionalQuota limits cores over all families; 0 means 10,000.
	RegionalQuota int
	// Region is reported on nodes and nodearrays; empty means westeurope.
	Region string
	// Subnet gives the private addresses; the zero value means 127.64.0.0/16,
	// so that a real daemon that listens on all addresses is reachable there.
	Subnet netip.Prefix
	// ContextPath prefixes every URL (webServerContextPath), without a final
	// slash.
	ContextPath string

	// AcquireDelay is the time from create to the VM's start (Acquiring).
	AcquireDelay Range
	// BootDelay is the time from the VM's start until its software starts
	// (Preparing).
	BootDelay Range
	// ReadyLag is the time from the start of the software until the server
	// shows the node as Ready.
	ReadyLag Range
	// TerminateDelay is the time from a terminate until the VM is gone and
	// the node leaves the list. Deallocating takes as long.
	TerminateDelay Range
	// VanishLag is the time the server needs to notice a VM that was evicted
	// or deleted behind its back.
	VanishLag Range
	// AvailableLag is how long availableCount ignores a create.
	AvailableLag time.Duration
	// ThrottleCapacity is how long availableCount is 0 after a capacity
	// failure; 0 switches throttling off. The product's default is 5 minutes.
	ThrottleCapacity time.Duration

	// Seed feeds every random choice; 0 picks one, which is logged.
	Seed int64
	// Quirks pins the answers that the documentation leaves open.
	Quirks Quirks
	// Launcher starts the VMs; nil means VMs without a process.
	Launcher Launcher
	// Journal receives one JSON line per fact; nil keeps them in memory only.
	Journal io.Writer
	// Logger receives start-up facts and the simulator's own troubles; nil
	// means silence.
	Logger *slog.Logger
	// Clock is the time the simulation lives in; nil means the wall clock.
	Clock Clock
}

// Clock is the time source of a simulation. AfterFunc calls f once, d from
// now, on a goroutine that holds none of the caller's locks.
type Clock interface {
	Now() time.Time
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

func (wallClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// nodeName is what a node may be called: it becomes a host name, a log file
// and an argument of the VM's program.
var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func (c *Config) check() error {
	var errs []error
	if c.Cluster == "" {
		errs = append(errs, errors.New("cluster name is empty"))
	}
	if len(c.NodeArrays) == 0 {
		errs = append(errs, errors.New("no nodearrays"))
	}
	seen := map[string]bool{}
	for _, a := range c.NodeArrays {
		if !nodeName.MatchString(a.Name) || seen[a.Name] {
			errs = append(errs, fmt.Errorf("nodearray name %q is unusable or used twice", a.Name))
		}
		seen[a.Name] = true
		if a.MaxCount < 0 {
			errs = append(errs, fmt.Errorf("nodearray %s: MaxCount %d is negative", a.Name, a.MaxCount))
		}
		for _, z := range a.sizes() {
			if z.MachineType == "" || z.Cores < 1 {
				errs = append(errs, fmt.Errorf("nodearray %s: size %q with %d cores", a.Name, z.MachineType, z.Cores))
			}
		}
	}
	if c.Subnet.IsValid() && (!c.Subnet.Addr().Is4() || c.Subnet.Bits() > 24) {
		errs = append(errs, fmt.Errorf("subnet %s is not an IPv4 network of at least a /24", c.Subnet))
	}
	return errors.Join(errs...)
}

func (c *Config) fillIn() {
	if c.RegionalQuota == 0 {
		c.RegionalQuota = 10_000
	}
	if c.Region == "" {
		c.Region = "westeurope"
	}
	if !c.Subnet.IsValid() {
		c.Subnet = netip.MustParsePrefix("127.64.0.0/16")
	}
	if c.Seed == 0 {
		c.Seed = time.Now().UnixNano()
	}
	if c.Launcher == nil {
		c.Launcher = paperLauncher{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = wallClock{}
	}
}

func (a NodeArray) sizes() []Size {
	first := Size{MachineType: a.MachineType, Cores: a.Cores, Family: a.Family}
	return append([]Size{first}, a.MoreSizes...)
}
