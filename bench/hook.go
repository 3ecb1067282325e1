package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
	var hooks, floors, hooksAll, hooksWorst, floorsWorst costs
	for range b.effort.runs {
		samples := map[*costs][]cost{}
		for range b.effort.samples {
			if err := ctx.Err(); err != nil {
				return err
			}
			for _, step := range []struct {
				into *costs
				do   func() (cost, error)
			}{
				{&hooks, func() (cost, error) { return repeated(b.times, func() (cost, error) { return h.hook(one, nil) }) }},
				{&floors, func() (cost, error) { return h.floor(one.bytes) }},
				{&hooksAll, func() (cost, error) { return h.hook(all, nil) }},
				{&hooksWorst, func() (cost, error) { return h.hook(worst, nil) }},
				{&floorsWorst, func() (cost, error) { return h.floor(worst.bytes) }},
			} {
				took, err := step.do()
				if err != nil {
					return err
				}
				samples[step.into] = append(samples[step.into], took)
			}
		}
		for into, values := range samples {
			into.add(values)
		}
	}
	h.report(b, hooks, floors, hooksAll, hooksWorst, floorsWorst, worst.bytes)
	return nil
}

func (h *hookRun) report(b *bench, hooks, floors, all, worst, floorsWorst costs, bytes int) {
	const floor = "a static Go program that writes, fsyncs, renames, fsyncs the directory"
	ratio := hooks.wall.median() / floors.wall.median()
	b.add(measure{
		key: "hook", what: "burst-hook, 1 name, whole process", value: hooks.wall, unit: "ms", target: promise(ratio <= 1.5, "at most 1.5 times the floor"),
	}.over(floors.wall, floor))
	names := func(key, what string, value series) measure {
		return measure{
			key: key, what: what, value: value, unit: "ms", target: promise(value.median()/hooks.wall.median() <= 1.5, "at most 1.5 times 1 name"),
		}.over(hooks.wall, "burst-hook with 1 name")
	}
	b.add(names("hook_names", "burst-hook, 10,000 names in a row", all.wall))
	b.add(names("hook_scattered", fmt.Sprintf("burst-hook, every other of 20,000 names, which no range shortens (%s bytes in the spool)", number(float64(bytes))), worst.wall))
	b.add(measure{what: "the same, against the floor with as many bytes", value: worst.wall, unit: "ms"}.
		over(floorsWorst.wall, "the static Go program with as many bytes"))
	b.add(measure{key: "hook_cpu", what: "burst-hook, 1 name: CPU", value: hooks.cpu, unit: "ms"}.over(floors.cpu, floor))
	b.add(measure{key: "hook_scattered_cpu", what: "burst-hook, every other of 20,000 names: CPU", value: worst.cpu, unit: "ms"}.over(hooks.cpu, "burst-hook with 1 name"))
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
func (h *hookRun) hook(call hookCall, size *int) (cost, error) {
	took, err := timed(h.resume, []string{"burst-resume", call.names}, []string{"SLURM_CONF=" + h.conf, "SLURM_RESUME_FILE=" + call.resumeFile})
	if err != nil {
		return cost{}, err
	}
	listing, err := spool.List(h.spool, 10)
	if err != nil || len(listing.Entries) != 1 || listing.Entries[0].Record.Hostlist != call.names {
		return cost{}, fmt.Errorf("the spool holds %d calls after one: %w", len(listing.Entries), err)
	}
	name := listing.Entries[0].Name
	if size != nil {
		info, err := os.Stat(filepath.Join(h.spool, name))
		if err != nil {
			return cost{}, err
		}
		*size = int(info.Size())
	}
	return took, spool.Remove(h.spool, name)
}

// floor runs the floor to its end, and removes what it left.
func (h *hookRun) floor(size int) (cost, error) {
	dir := filepath.Join(h.dir, "floor")
	took, err := timed(h.floorBin, []string{"floor", "write", dir, strconv.Itoa(size)}, nil)
	if err != nil {
		return cost{}, err
	}
	return took, os.Remove(filepath.Join(dir, "floor"))
}
