package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
	"github.com/slurmburst/slurmburst/local/azurite"
	"github.com/slurmburst/slurmburst/local/setup"
)

// world is one implementation of the ledger, empty.
type world struct {
	*ledger.Store
	// dropTables deletes every table behind the ledger's back.
	dropTables func(*testing.T)
	// perRow is how many rows a scenario about many rows should use.
	perRow int
	// long is how many bytes a scenario about what one row does not hold should
	// use: more than two rows.
	long int
}

// scenarios is the contract: what every implementation has to do.
var scenarios = []struct {
	name string
	run  func(*testing.T, world)
}{
	{"a cluster that nothing was committed for is not found and can be committed", firstCommit},
	{"a commit is read back whole and in order", commitReadBack},
	{"a writer that is too old commits nothing", oldWriters},
	{"when committers race exactly one wins and the others leave nothing", commitRace},
	{"when first commits race exactly one wins", firstCommitRace},
	{"90 intents and a snapshot of 2.5 MB fit one commit", largeCommit},
	{"a snapshot that shrinks leaves nothing of the one before", snapshotSizes},
	{"a commit that cannot be whole changes nothing", commitIsAtomic},
	{"a heartbeat changes neither the revision nor the lock", heartbeatAlone},
	{"an intent is claimed and settled by one owner only", conditionalSettle},
	{"an intent somebody changed is not deleted and one that is gone is no error", deleteIntents},
	{"a fact is stored once, read in order and dropped by a commit", factsOnce},
	{"a node row in conflict leaves the others of its batch written", nodeConflict},
	{"nodes are found by the revision that wrote them", nodesSince},
	{"nodes are found by name in the order asked for", nodesNamed},
	{"the history of changed nodes goes with its commit", changesWithCommit},
	{"a column that became empty is cleared by merge", clearColumns},
	{"hostile names survive as keys", hostileKeys},
	{"hostile text is made fit for people and nothing else is changed", hostileText},
	{"nodearrays keep counts and timers", nodearrays},
	{"commands are found by state", commandsByState},
	{"jobs and groups of the same name are two rows", jobsAndGroups},
	{"groups are read since a revision and deleted by version", groups},
	{"what is noted of a job leaves the rest of it", notedJobs},
	{"spend is written over and listed by month", spend},
	{"a listing is paged, filtered and bounded", paging},
	{"decisions come newest first across days and one comes with its facts", decisions},
	{"failures come newest first and a repeat adds nothing", failures},
	{"one policy is in force", policies},
	{"an enforced policy is stored and named by the cluster", enforced},
	{"clusters are listed with their heartbeats", clusterList},
	{"purge removes what is old and keeps what is open", purge},
	{"purge goes on where it stopped", purgeMuch},
	{"tables deleted under a running system come back", healing},
	{"a cancelled call writes nothing", cancelled},
}

func TestContractInMemory(t *testing.T) {
	for _, scenario := range scenarios {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			m := ledger.NewMemory()
			if err := m.CreateTables(t.Context()); err != nil {
				t.Fatal(err)
			}
			scenario.run(t, world{Store: m.Store, dropTables: func(*testing.T) { m.DropTables() }, perRow: 2300, long: ledger.MaxSnapshot})
		})
	}
}

func TestContractOnAzurite(t *testing.T) {
	t.Parallel()
	connection := startAzurite(t)
	for _, scenario := range scenarios {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			scenario.run(t, azuriteWorld(t, connection))
		})
	}
}

var prefixes atomic.Int64

// ownPrefix begins the names of tables that no other test has, nor the same
// test when it runs again.
func ownPrefix() string { return fmt.Sprintf("t%dx", prefixes.Add(1)) }

// azuriteWorld is a ledger on Azurite with tables of its own.
func azuriteWorld(t *testing.T, connection string) world {
	t.Helper()
	client, err := aztables.NewServiceClientFromConnectionString(connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	store, err := ledger.NewStore(client, ownPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CreateTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	drop := func(t *testing.T) {
		for _, name := range store.Tables() {
			if _, err := client.DeleteTable(context.Background(), name, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	return world{Store: store, dropTables: drop, perRow: 1150, long: 1_500_000}
}

// shared is the one Azurite of this package's tests.
var shared struct {
	once   sync.Once
	dir    string
	server *azurite.Server
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if err := shared.server.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		cancel()
	}
	if shared.dir != "" {
		if err := os.RemoveAll(shared.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// startAzurite gives the connection string of a running Azurite. A machine
// without Azurite fails: the contract is not proved there.
func startAzurite(t *testing.T) string {
	t.Helper()
	shared.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if shared.dir, shared.err = os.MkdirTemp("", "ledger-azurite-"); shared.err != nil {
			return
		}
		var build string
		if build, shared.err = setup.BuildDir("."); shared.err != nil {
			return
		}
		shared.server, shared.err = azurite.StartInMemory(ctx, build, shared.dir)
	})
	if shared.err != nil {
		t.Fatalf("%v\nThe ledger's contract has to hold on Azurite too. Install it with `make setup` and run the tests again.", shared.err)
	}
	return shared.server.ConnectionString()
}

// same compares values without the versions they carry.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	unseen := cmpopts.IgnoreUnexported(ledger.Cluster{}, ledger.Heartbeat{}, ledger.Budget{}, ledger.Changes{}, ledger.Intent{}, ledger.Fact{},
		ledger.Node{}, ledger.Nodearray{}, ledger.Command{}, ledger.Job{}, ledger.Decision{}, ledger.Failure{}, ledger.Policy{}, ledger.Spend{})
	isBytes := func(p cmp.Path) bool { return p.Last().Type() == reflect.TypeFor[[]byte]() }
	noBytes := func(p cmp.Path) bool { return !isBytes(p) }
	empty := cmp.Options{cmp.FilterPath(noBytes, cmpopts.EquateEmpty()), cmp.FilterPath(isBytes, cmp.Comparer(bytes.Equal))}
	if diff := cmp.Diff(want, got, unseen, empty); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func mustLoad(t *testing.T, w world, cluster string) ledger.Partition {
	t.Helper()
	p, err := w.Load(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustCommit(t *testing.T, w world, c ledger.Commit) ledger.Committed {
	t.Helper()
	done, err := w.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// mustConflict checks that err is a conflict and says where.
func mustConflict(t *testing.T, err error, named ...string) {
	t.Helper()
	if !errors.Is(err, ledger.ErrConflict) || fault.Of(err) != fault.Conflict {
		t.Fatalf("got %v, want a conflict", err)
	}
	for _, name := range named {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error %q does not name %s", err, name)
		}
	}
}

// noise is a body of n bytes that no two offsets share.
func noise(n, seed int) []byte {
	body := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range body {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		body[i] = byte(x)
	}
	return body
}

// moment is a time as the service keeps it.
func moment(minutes int) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC).Add(time.Duration(minutes) * time.Minute)
}
