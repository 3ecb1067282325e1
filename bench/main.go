package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// This process stands in for Service Bus, the Functions host, CycleCloud and
	// many agents: what it spends is taken from what is measured beside it.
	debug.SetGCPercent(400)
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

// section measures the figures of one promise.
type section struct {
	name  string
	about string
	run   func(context.Context, *bench) error
	// long sections are left out of the short form: they need a real Slurm or
	// minutes. asked are left out of both, unless --only names them.
	long, asked bool
}

var sections = []section{
	{name: "decide", about: "burst.Decide alone", run: measureDecide},
	{name: "emulator", about: "the Service Bus emulator alone", run: measureEmulator},
	{name: "start", about: "handler: process start to listening", run: measureStart},
	{name: "hook", about: "burst-hook: the whole process", run: measureHook},
	{name: "event", about: "event on the queue to nodes/create, 200 nodes", run: measureEvents},
	{name: "large", about: "the same, and heartbeats, with 10,000 nodes", run: measureLarge, long: true},
	{name: "snapshot", about: "burst-agent on real Slurm with 100,000 pending jobs", run: measureSnapshot, long: true},
	{name: "load", about: "200 clusters, one event a second each", run: measureLoad, long: true},
	{name: "single", about: "64 clusters on one instance, one event a second each", run: measureSingle, long: true},
	{name: "sessions", about: "200 clusters under other session settings", run: measureSessions, asked: true},
}

// bench is one run of the program.
type bench struct {
	root string // of the repository
	dir  string // scratch, on the disk that holds the repository
	out  io.Writer
	// effort scales how often things are repeated.
	effort effort
	// times is how often a subject does its work where it is measured: 1, and
	// more only in the test that the comparison notices it.
	times   int
	loadFor time.Duration
	// clusters is how many of them send in load and sessions.
	clusters int
	began    time.Time
	results  []measure
}

// effort says how many runs a figure gets, and how many samples a run.
type effort struct {
	runs    int
	samples int
}

var (
	full  = effort{runs: 5, samples: 100}
	brief = effort{runs: 3, samples: 25}
)

type options struct {
	short, update, keep bool
	only, profile       string
	loadFor             time.Duration
	clusters, runs      int
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.short, "short", false, "about half a minute; fails when a ratio is more than twice the baseline's, and writes no page")
	flags.BoolVar(&o.update, "update-baseline", false, "the short form, but write baseline.json instead of comparing with it")
	flags.BoolVar(&o.keep, "keep", false, "keep the scratch directory with the logs")
	flags.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile of this process, which holds emulator, host and simulators")
	flags.StringVar(&o.only, "only", "", "measure only these sections, comma separated; writes no page")
	flags.DurationVar(&o.loadFor, "load", 10*time.Minute, "how long many clusters send; less than promised for a first look")
	flags.IntVar(&o.clusters, "clusters", promisedClusters, "how many clusters send; fewer than promised for a machine that others use, too")
	flags.IntVar(&o.runs, "runs", full.runs, "how many runs a figure gets in the full form")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.short = o.short || o.update
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.update && o.only != "":
		return errors.New("a baseline needs every section: leave out --only")
	}
	chosen, err := o.sections()
	if err != nil {
		return err
	}
	b, err := newBench(out)
	if err != nil {
		return err
	}
	b.effort, b.loadFor, b.clusters = full, o.loadFor, max(1, o.clusters)
	b.effort.runs = max(1, o.runs)
	if o.short {
		b.effort = brief
	}
	if o.keep {
		b.say("scratch directory: %s", b.dir)
	} else {
		defer os.RemoveAll(b.dir)
	}
	measured := b.profiled(ctx, chosen, o.profile)
	fmt.Fprintf(out, "\n%s\n", table(b.results))
	switch {
	case ctx.Err() != nil, o.only != "":
		return measured
	case o.update && measured == nil:
		return writeBaseline(b.baselinePath(), b.results)
	case o.short:
		return errors.Join(measured, b.judge(ctx, chosen))
	}
	return errors.Join(measured, b.writePage(ctx, measured))
}

// sections gives those that the options ask for.
func (o options) sections() ([]section, error) {
	if o.only == "" {
		return slices.DeleteFunc(slices.Clone(sections), func(s section) bool { return s.asked || o.short && s.long }), nil
	}
	var chosen []section
	for name := range strings.SplitSeq(o.only, ",") {
		i := slices.IndexFunc(sections, func(s section) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no section %q", name)
		}
		chosen = append(chosen, sections[i])
	}
	return chosen, nil
}

// newBench finds the repository and makes a scratch directory in it, so that
// what is written meets the disk that the repository is on.
func newBench(out io.Writer) (*bench, error) {
	testing.Init() // the flags of testing.Benchmark
	root, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "infra", "queues.json")); err == nil {
			break
		}
		if root == filepath.Dir(root) {
			return nil, errors.New("find the repository: run bench inside it")
		}
		root = filepath.Dir(root)
	}
	if err := os.MkdirAll(filepath.Join(root, "build"), 0o755); err != nil {
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	// Short: Unix sockets are in it.
	dir, err := os.MkdirTemp(filepath.Join(root, "build"), "bench")
	if err != nil {
		return nil, fmt.Errorf("make scratch directory: %w", err)
	}
	return &bench{root: root, dir: dir, out: out, times: 1, began: time.Now()}, nil
}

// profiled is measure, with a CPU profile of this process if a path is given.
func (b *bench) profiled(ctx context.Context, chosen []section, path string) (err error) {
	if path == "" {
		return b.measure(ctx, chosen)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return b.measure(ctx, chosen)
}

// measure builds what ships and runs the sections.
func (b *bench) measure(ctx context.Context, chosen []section) error {
	b.say("building what ships")
	if err := b.build(ctx); err != nil {
		return err
	}
	return b.measureAll(ctx, chosen)
}

// measureAll runs the sections. One that cannot be measured does not keep the
// others from it.
func (b *bench) measureAll(ctx context.Context, chosen []section) error {
	var problems []error
	for _, s := range chosen {
		b.say("%s: %s", s.name, s.about)
		if err := s.run(ctx, b); err != nil {
			b.say("%s could not be measured: %v", s.name, err)
			problems = append(problems, fmt.Errorf("measure %s: %w", s.name, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(problems...)
}

// say reports progress.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.out, "%6.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// add keeps a measure and shows it at once.
func (b *bench) add(m measure) {
	b.results = append(b.results, m)
	b.say("  %s", m.line())
}

// scratch makes a new directory for one section.
func (b *bench) scratch(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	err := os.Mkdir(dir, 0o755)
	for again := 2; errors.Is(err, fs.ErrExist); again++ { // the section is measured once more
		dir = filepath.Join(b.dir, name+strconv.Itoa(again))
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return "", fmt.Errorf("make scratch directory: %w", err)
	}
	return dir, nil
}

func (b *bench) baselinePath() string { return filepath.Join(b.root, "bench", "baseline.json") }
