package agent

import (
	"iter"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/slurmburst/slurmburst/internal/event"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// bounded gives printable text of at most so many bytes: reasons, hostlists and
// errors come from people and end up in tables and on screens.
func bounded(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// boundedList cuts a list of names at a comma outside of brackets, so that it
// still reads as a list.
func boundedList(list string) string {
	if len(list) <= maxListBytes {
		return list
	}
	names, err := slurm.ParseHostlist(list)
	if err != nil {
		return list[:strings.LastIndexByte(list[:maxListBytes], ',')+1]
	}
	for len(list) > maxListBytes {
		names = names[:len(names)/2]
		list = slurm.FormatHostlist(names)
	}
	return list
}

// boundedJobs cuts a list of job ids at a comma.
func boundedJobs(list string) string {
	if len(list) <= maxJobListBytes {
		return list
	}
	return list[:max(strings.LastIndexByte(list[:maxJobListBytes], ','), 0)]
}

func decimal(n int) string { return strconv.Itoa(n) }

// jobRef reads a job id of a message: "117", or "117_4" for a task.
func jobRef(id event.JobID) (slurm.JobRef, error) {
	if err := id.Validate(); err != nil {
		return slurm.JobRef{}, err
	}
	first, task, isTask := strings.Cut(string(id), "_")
	number, err := strconv.ParseUint(first, 10, 32)
	if err != nil {
		return slurm.JobRef{}, err
	}
	ref := slurm.JobRef{Job: slurm.JobID(number), IsTask: isTask}
	if isTask {
		index, err := strconv.ParseUint(task, 10, 32)
		if err != nil {
			return slurm.JobRef{}, err
		}
		ref.Task = uint32(index)
	}
	return ref, nil
}

// refsOf gives the ids of a message by what Slurm calls the jobs: to look for a
// few among many jobs without writing the id of each.
func refsOf(ids iter.Seq[event.JobID]) map[slurm.JobRef]event.JobID {
	refs := map[slurm.JobRef]event.JobID{}
	for id := range ids {
		if ref, err := jobRef(id); err == nil {
			refs[ref] = id
		}
	}
	return refs
}

func jobID(ref slurm.JobRef) event.JobID { return event.JobID(ref.String()) }
