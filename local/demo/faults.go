package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
	"github.com/slurmburst/slurmburst/local/world"
)

const (
	// minFaults is how many faults a chaos run makes, and minEach how many of each
	// kind at least.
	minFaults = 20
	minEach   = 2
)

// fault is something that goes wrong for a while.
type fault struct {
	name string
	// begin makes it go wrong, and end, if there is one, mends it.
	begin, end func(context.Context, *world.World) error
	// most is how long it lasts at most; 0 for what is over at once.
	most time.Duration
}

// step is a fault of a plan: how long it lasts, and the pause after it.
type step struct {
	fault
	kind         string
	lasts, pause time.Duration
}

// kind draws a fault of its kind: what exactly goes wrong is decided with the
// plan, not when it happens.
type kind struct {
	name string
	draw func(*rand.Rand) fault
}

// kinds are what a chaos run draws from. Azurite is paused or cut off and never
// killed: it would lose what it acknowledged.
func kinds(likeAzure bool) []kind {
	all := []kind{
		{"handler", killHandler},
		{"functions host", always(fault{name: "kill -9 the Functions host with its handlers", begin: func(ctx context.Context, w *world.World) error { return w.KillHost(ctx) }})},
		{"agent", always(fault{
			name: "kill -9 burst-agent", most: 5 * time.Second, begin: quiet((*world.World).KillAgent),
			end: func(ctx context.Context, w *world.World) error { return w.StartAgent(ctx) },
		})},
		{"Azurite paused", always(fault{
			name: "pause Azurite", most: 6 * time.Second,
			begin: func(_ context.Context, w *world.World) error { return w.Azurite.Pause() },
			end:   func(_ context.Context, w *world.World) error { return w.Azurite.Resume() },
		})},
		{"Azurite cut off", cut("Azurite", 6*time.Second, (*world.World).CutTables, (*world.World).RestoreTables)},
		{"CycleCloud cut off", cut("CycleCloud", 8*time.Second, (*world.World).CutCycleCloud, (*world.World).RestoreCycleCloud)},
		{"Service Bus cut off", cut("Service Bus", 8*time.Second, (*world.World).CutBus, (*world.World).RestoreBus)},
		{"CycleCloud misbehaves", misbehave},
	}
	if likeAzure {
		all = append(all, kind{"identity cut off", cut("the identity endpoint", 8*time.Second, (*world.World).CutIdentity, (*world.World).RestoreIdentity)})
	}
	return all
}

// plan draws the faults of a run from its seed: the same seed gives the same
// ones in the same order, and every kind comes up.
func plan(seed int64, likeAzure bool) []step {
	random := rand.New(rand.NewPCG(uint64(seed), 1))
	var drawn []kind
	for range minEach {
		drawn = append(drawn, kinds(likeAzure)...)
	}
	for all := kinds(likeAzure); len(drawn) < minFaults; {
		drawn = append(drawn, all[random.IntN(len(all))])
	}
	random.Shuffle(len(drawn), func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
	var steps []step
	for _, k := range drawn {
		s := step{fault: k.draw(random), kind: k.name}
		if s.most > 0 {
			s.lasts = between(random, s.most/4, s.most)
		}
		s.pause = between(random, 200*time.Millisecond, 2200*time.Millisecond)
		steps = append(steps, s)
	}
	return steps
}

// between draws a duration in whole milliseconds.
func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return (least + time.Duration(random.Int64N(int64(most-least)))).Truncate(time.Millisecond)
}

func always(f fault) func(*rand.Rand) fault { return func(*rand.Rand) fault { return f } }

func quiet(do func(*world.World)) func(context.Context, *world.World) error {
	return func(_ context.Context, w *world.World) error { do(w); return nil }
}

// cut takes a service off the network for a while.
func cut(what string, most time.Duration, off, on func(*world.World)) func(*rand.Rand) fault {
	return always(fault{name: "cut off " + what, most: most, begin: quiet(off), end: quiet(on)})
}

func killHandler(random *rand.Rand) fault {
	functions := []string{"queue_pressure", "scale_down", "reclaim_idle", "state"}
	function := functions[random.IntN(len(functions))]
	return fault{name: "kill -9 a handler of " + function, begin: func(ctx context.Context, w *world.World) error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		for { // it may be starting again after the fault before
			err := w.CurrentHost().KillHandler(function)
			if err == nil || sleep(ctx, 50*time.Millisecond) != nil {
				return err
			}
		}
	}}
}

func misbehave(random *rand.Rand) fault {
	outages := []cyclecloudsim.OutageKind{
		cyclecloudsim.Outage500, cyclecloudsim.Outage503, cyclecloudsim.OutageHTML, cyclecloudsim.OutageNothing, cyclecloudsim.OutageLost,
	}
	outage := cyclecloudsim.Outage{Kind: outages[random.IntN(len(outages))], Requests: 1 + random.IntN(3)}
	return fault{
		name: fmt.Sprintf("CycleCloud answers at most %d requests with %s", outage.Requests, outage.Kind), most: 5 * time.Second,
		begin: func(_ context.Context, w *world.World) error { return w.Sim.Outage(outage) },
		end:   quiet(func(w *world.World) { w.Sim.ClearOutages() }),
	}
}
