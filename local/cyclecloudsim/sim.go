package cyclecloudsim

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Sim is one CycleCloud server with one cluster.
type Sim struct {
	cfg     Config
	clock   Clock
	journal *journal
	ctx     context.Context
	cancel  context.CancelFunc
	// inflight counts calls into the Launcher and VMs, which are made without
	// mu. It grows only under mu and only while closed is false.
	inflight sync.WaitGroup

	mu         sync.Mutex
	rng        *rand.Rand
	ids        io.Reader
	state      string
	target     string
	arrays     []*array
	nodes      []*node
	machines   map[string]*machine
	addresses  map[netip.Addr]bool
	bills      []*bill
	operations []*operation
	byRequest  map[string]*operation
	fails      map[string][]FailKind
	neverReady []string
	outages    []*Outage
	lag        time.Duration
	instances  int
	closed     bool
	servers    []*http.Server
	cert       *tls.Certificate
}

// array is a nodearray with its buckets and the placement groups in use.
type array struct {
	NodeArray
	buckets []*bucket
	groups  []string
}

// bucket is one VM size of one nodearray.
type bucket struct {
	Size
	id          string
	lastFailure time.Time
	throttled   time.Time
	lagging     []lagging
}

// lagging is a create that availableCount does not show yet.
type lagging struct {
	count int
	until time.Time
}

// machine is one VM that exists. node is nil when the VM outlived its record.
type machine struct {
	vm     VM
	spec   VMSpec
	since  time.Time
	node   *node
	family string
	cores  int
	bill   *bill
}

// operation is one accepted request. It is kept for ever.
type operation struct {
	id, requestID, action string
	start                 time.Time
	nodeIDs               []string
}

// New builds a cluster that is started and empty. It fails when the
// configuration has no meaning, naming every mistake.
func New(cfg Config) (*Sim, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("check simulator configuration: %w", err)
	}
	cfg.fillIn()
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(cfg.Seed))
	rng := rand.New(rand.NewChaCha8(seed))
	if err := cfg.Quirks.resolve(rng); err != nil {
		return nil, fmt.Errorf("check simulator configuration: %w", err)
	}
	seed[31] = 1
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sim{
		cfg: cfg, clock: cfg.Clock, ctx: ctx, cancel: cancel,
		journal: &journal{clock: cfg.Clock, out: cfg.Journal, log: cfg.Logger},
		rng:     rng, ids: rand.NewChaCha8(seed),
		state: "Started", target: "Started",
		machines: map[string]*machine{}, addresses: map[netip.Addr]bool{},
		byRequest: map[string]*operation{}, fails: map[string][]FailKind{},
		lag: cfg.AvailableLag,
	}
	for _, a := range cfg.NodeArrays {
		s.arrays = append(s.arrays, newArray(cfg.Cluster, a))
	}
	cert, err := newCertificate(cfg.Clock.Now())
	if err != nil {
		cancel()
		return nil, err
	}
	s.cert = cert
	cfg.Logger.Info("simulator started", "cluster", cfg.Cluster, "seed", cfg.Seed, "quirks", cfg.Quirks.String())
	s.journal.add(Entry{Event: Started, Detail: fmt.Sprintf("seed=%d %s", cfg.Seed, cfg.Quirks)})
	return s, nil
}

func newArray(cluster string, a NodeArray) *array {
	if a.MaxPlacementGroupSize == 0 {
		a.MaxPlacementGroupSize = 100
	}
	out := &array{NodeArray: a, groups: slices.Clone(a.PlacementGroups)}
	for _, z := range a.sizes() {
		if z.MaxCount == 0 || z.MaxCount > a.MaxCount {
			z.MaxCount = a.MaxCount
		}
		if z.Family == "" {
			z.Family = z.MachineType
		}
		id := uuid.NewSHA1(uuid.NameSpaceURL, []byte(cluster+"\x00"+a.Name+"\x00"+z.MachineType))
		out.buckets = append(out.buckets, &bucket{Size: z, id: id.String()})
	}
	return out
}

// Seed is the seed in use, also when the configuration left it to chance.
func (s *Sim) Seed() int64 { return s.cfg.Seed }

// Quirks are the answers in use, none of them empty.
func (s *Sim) Quirks() Quirks { return s.cfg.Quirks }

// Journal returns a copy of every entry so far, oldest first.
func (s *Sim) Journal() []Entry { return s.journal.all() }

// Close stops the servers, ends every pending change and kills every VM. It
// returns when no process of any VM is left, or says which VM resisted.
func (s *Sim) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.cancel()
	for _, n := range s.nodes {
		n.cancelTimer()
	}
	servers := s.servers
	s.mu.Unlock()

	var errs []error
	for _, srv := range servers {
		errs = append(errs, srv.Close())
	}
	s.inflight.Wait()

	return errors.Join(append(errs, s.stopAll()...)...)
}

// stopAll stops every VM at once. A VM that resists stays on the books.
func (s *Sim) stopAll() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.Collect(maps.Values(s.machines))
	errs := make([]error, len(left))
	var wg sync.WaitGroup
	for i, m := range left {
		wg.Go(func() { errs[i] = m.vm.Stop() })
	}
	wg.Wait()
	for i, m := range left {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("stop VM of node %s: %w", m.spec.Name, errs[i])
			continue
		}
		s.forget(m)
	}
	return errs
}

// unlocked runs f without mu, for calls that may take long. Close waits for it.
func (s *Sim) unlocked(f func()) {
	s.inflight.Add(1)
	s.mu.Unlock()
	f()
	s.mu.Lock()
	s.inflight.Done()
}

func (s *Sim) array(name string) *array {
	for _, a := range s.arrays {
		if a.Name == name {
			return a
		}
	}
	return nil
}

func (s *Sim) newID() string {
	id, err := uuid.NewRandomFromReader(s.ids)
	if err != nil {
		panic(fmt.Sprintf("read seeded generator: %v", err)) // ChaCha8 has no error
	}
	return id.String()
}

func (s *Sim) draw(r Range) time.Duration {
	if r.Max <= r.Min {
		return r.Min
	}
	return r.Min + time.Duration(s.rng.Int64N(int64(r.Max-r.Min)+1))
}

// newInstanceID gives the VM its name in Azure, in the form of the quirk.
func (s *Sim) newInstanceID(a *array) string {
	s.instances++
	switch s.cfg.Quirks.InstanceID {
	case Short:
		return fmt.Sprintf("%s_%d", a.Name, s.instances)
	case ARM:
		return fmt.Sprintf("/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/%s/providers/"+
			"Microsoft.Compute/virtualMachineScaleSets/%s/virtualMachines/%d", s.cfg.Cluster, a.Name, s.instances)
	default:
		return s.newID()
	}
}

// newAddress takes the lowest free address, so that addresses are reused as a
// real subnet does.
func (s *Sim) newAddress() (netip.Addr, error) {
	addr := s.cfg.Subnet.Masked().Addr()
	for range 3 { // Azure keeps the first addresses of a subnet
		addr = addr.Next()
	}
	for addr = addr.Next(); s.cfg.Subnet.Contains(addr); addr = addr.Next() {
		if !s.addresses[addr] {
			s.addresses[addr] = true
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("subnet %s is full", s.cfg.Subnet)
}
