package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slurmburst/slurmburst/internal/spool"
)

// measureHook runs burst-hook as slurmctld does, interleaved with the floor.
func measureHook(ctx context.Context, b *bench) (err error) {
	h, err := newHookRun(b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.agent.Close()) }()
	one, all, worst := hookCall{names: "htc-1"}, hookCall{names: "htc-[1-10000]"}, hookCall{names: scattered(10_000)}
	for _, call := range []*hookCall{&one, &all, &worst} {
		if call.resumeFile, err = h.resumeFile(call.names); err != nil {
			return err
		}
		// The first call tells how many bytes the floor has to write.
		if _, err := h.hook(*call, &call.bytes); err != nil {
			return err
		}
	}
	var hooks, floors, hooksAll, hooksWorst, floorsWorst series
	for range b.effort.runs {
		samples := map[*series][]float64{}
		for range b.effort.samples {
			if err := ctx.Err(); err != nil {
				return err
			}
			for _, step := range []struct {
				into *series
				do   func() (time.Duration, error)
			}{
				{&hooks, func() (time.Duration, error) { return h.hook(one, nil) }},
				{&floors, func() (time.Duration, error) { return h.floor(one.bytes) }},
				{&hooksAll, func() (time.Duration, error) { return h.hook(all, nil) }},
				{&hooksWorst, func() (time.Duration, error) { return h.hook(worst, nil) }},
				{&floorsWorst, func() (time.Duration, error) { return h.floor(worst.bytes) }},
			} {
				took, err := step.do()
				if err != nil {
					return err
				}
				samples[step.into] = append(samples[step.into], milliseconds(took))
			}
		}
		for into, values := range samples {
			*into = append(*into, percentile(values, 50))
		}
	}
	ratio := hooks.median() / floors.median()
	b.add(measure{
		key: "hook", what: "burst-hook, 1 name, whole process", value: hooks, unit: "ms", target: promise(ratio <= 1.5, "at most 1.5 times the floor"),
	}.over(floors, "a static Go program that writes, fsyncs, renames, fsyncs the directory"))
	names := func(key, what string, value series) measure {
		return measure{
			key: key, what: what, value: value, unit: "ms", target: promise(value.median()/hooks.median() <= 1.5, "at most 1.5 times 1 name"),
		}.over(hooks, "burst-hook with 1 name")
	}
	b.add(names("hook_names", "burst-hook, 10,000 names in a row", hooksAll))
	b.add(names("hook_scattered", fmt.Sprintf("burst-hook, every other of 20,000 names, which no range shortens (%s bytes in the spool)", number(float64(worst.bytes))), hooksWorst))
	b.add(measure{
		what: "the same, against the floor with as many bytes", value: hooksWorst, unit: "ms",
	}.over(floorsWorst, "the static Go program with as many bytes"))
	return nil
}

// scattered is a hostlist of n names that no range can shorten.
func scattered(n int) string {
	var text strings.Builder
	text.WriteString("htc-[1")
	for i := 1; i < n; i++ {
		text.WriteString("," + strconv.Itoa(2*i+1))
	}
	return text.String() + "]"
}

// hookCall is one call of a hook program by slurmctld.
type hookCall struct {
	names, resumeFile string
	bytes             int // of the file that it leaves
}

// hookRun is a head node without Slurm.
type hookRun struct {
	dir, spool, conf string
	resume, floorBin string
	agent            *spool.Listener // hears the pokes, as burst-agent does
}

func newHookRun(b *bench) (*hookRun, error) {
	dir, err := b.scratch("hook")
	if err != nil {
		return nil, err
	}
	h := &hookRun{dir: dir, spool: filepath.Join(dir, "spool"), conf: filepath.Join(dir, "slurm.conf"), resume: filepath.Join(dir, "burst-resume"), floorBin: b.bin("floor")}
	err = errors.Join(
		os.Mkdir(h.spool, 0o755), os.Mkdir(filepath.Join(dir, "floor"), 0o755), os.Symlink(b.bin("burst-hook"), h.resume),
		os.WriteFile(filepath.Join(dir, "burst-spool"), []byte(h.spool+"\n"), 0o644), os.WriteFile(h.conf, nil, 0o644),
	)
	if err != nil {
		return nil, fmt.Errorf("prepare head node: %w", err)
	}
	h.agent, err = spool.Listen(h.spool)
	return h, err
}

// resumeFile is SLURM_RESUME_FILE as Slurm 22.05 writes it.
func (h *hookRun) resumeFile(names string) (string, error) {
	path := filepath.Join(h.dir, fmt.Sprintf("resume%d.json", len(names)))
	text := fmt.Sprintf(`{"jobs":[{"extra":null,"features":null,"job_id":140814,"nodes_alloc":%q,"nodes_resume":%q,"oversubscribe":"OK","partition":"htc","reservation":null}],"all_nodes_resume":%q}`, names, names, names)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// hook runs burst-resume to its end, and removes what it left.
func (h *hookRun) hook(call hookCall, size *int) (time.Duration, error) {
	took, err := timed(h.resume, []string{"burst-resume", call.names}, []string{"SLURM_CONF=" + h.conf, "SLURM_RESUME_FILE=" + call.resumeFile})
	if err != nil {
		return 0, err
	}
	listing, err := spool.List(h.spool, 10)
	if err != nil || len(listing.Entries) != 1 || listing.Entries[0].Record.Hostlist != call.names {
		return 0, fmt.Errorf("the spool holds %d calls after one: %w", len(listing.Entries), err)
	}
	name := listing.Entries[0].Name
	if size != nil {
		info, err := os.Stat(filepath.Join(h.spool, name))
		if err != nil {
			return 0, err
		}
		*size = int(info.Size())
	}
	return took, spool.Remove(h.spool, name)
}

// floor runs the floor to its end, and removes what it left.
func (h *hookRun) floor(size int) (time.Duration, error) {
	dir := filepath.Join(h.dir, "floor")
	took, err := timed(h.floorBin, []string{"floor", "write", dir, strconv.Itoa(size)}, nil)
	if err != nil {
		return 0, err
	}
	return took, os.Remove(filepath.Join(dir, "floor"))
}

// timed runs a program, from before the fork until it is reaped.
func timed(path string, argv, env []string) (time.Duration, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	began := time.Now()
	process, err := os.StartProcess(path, argv, &os.ProcAttr{Env: env, Files: []*os.File{null, null, null}})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", argv[0], err)
	}
	state, err := process.Wait()
	took := time.Since(began)
	if err != nil || !state.Success() {
		return 0, fmt.Errorf("run %s: %v: %w", argv[0], state, err)
	}
	return took, nil
}

// measureStart times the handler from the fork until its port answers,
// interleaved with a program that only listens.
func measureStart(ctx context.Context, b *bench) error {
	dir, err := b.scratch("start")
	if err != nil {
		return err
	}
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, policyText("bench", "https://127.0.0.1:1", strings.Repeat("ab", 32), 200), 0o600); err != nil {
		return err
	}
	// Nothing listens where these point: the handler connects to nothing at its start.
	env := environment(appSettings("Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=k;SharedAccessKey=k;UseDevelopmentEmulator=true",
		"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:1/a;", policy))
	var handlers, floors series
	for range b.effort.runs {
		var handler, floor []float64
		for range max(5, b.effort.samples/5) {
			took, err := untilListening(ctx, filepath.Join(b.app(), "handler"), func(port string) ([]string, []string) {
				return []string{"handler"}, slices.Concat(env, []string{"FUNCTIONS_CUSTOMHANDLER_PORT=" + port, "FUNCTIONS_APP_ROOT_PATH=" + b.app()})
			})
			if err != nil {
				return err
			}
			handler = append(handler, milliseconds(took))
			if took, err = untilListening(ctx, b.bin("floor"), func(port string) ([]string, []string) { return []string{"floor", "listen", port}, nil }); err != nil {
				return err
			}
			floor = append(floor, milliseconds(took))
		}
		handlers, floors = append(handlers, percentile(handler, 50)), append(floors, percentile(floor, 50))
	}
	b.add(measure{
		key: "start", what: "handler: process start to listening", value: handlers, unit: "ms", target: below(handlers.median(), 50, "ms"),
	}.over(floors, "a static Go program that only listens"))
	return nil
}

// untilListening starts a program that is told its port and gives the time
// until the port accepts a connection.
func untilListening(ctx context.Context, path string, command func(port string) (argv, env []string)) (time.Duration, error) {
	l, err := listen(ctx)
	if err != nil {
		return 0, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	argv, env := command(port)
	began := time.Now()
	process, err := os.StartProcess(path, argv, &os.ProcAttr{Env: env, Files: []*os.File{null, null, os.Stderr}})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", argv[0], err)
	}
	defer func() {
		_ = process.Kill() // it may have ended by itself
		_, _ = process.Wait()
	}()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			took := time.Since(began)
			return took, conn.Close()
		}
		if time.Since(began) > 10*time.Second {
			return 0, fmt.Errorf("%s does not listen after 10 s: %w", argv[0], err)
		}
		time.Sleep(100 * time.Microsecond)
	}
}
