package slurm

import (
	"fmt"
	"slices"
	"strings"
)

// batches cuts the jobs into lists of one scontrol call each, at most
// maxJobsPerRun jobs. The tasks of an array stay together, as far as a command
// line takes them: naming all tasks that wait changes their one record, naming
// some of them splits each off into a record of its own (read in the source of
// 22.05.8, measured).
func batches(jobs []JobRef) [][]JobRef {
	var out [][]JobRef
	var batch []JobRef
	for _, group := range byArray(jobs) {
		if len(batch) > 0 && len(batch)+len(group) > maxJobsPerRun {
			out, batch = append(out, batch), nil
		}
		if len(group) > maxJobsPerRun {
			out = append(out, splitTasks(group)...)
			continue
		}
		batch = append(batch, group...)
	}
	if len(batch) > 0 {
		out = append(out, batch)
	}
	return out
}

// byArray gathers the tasks of each array, sorted and without repetitions; a
// job is a group of its own. Groups stay in the order of their first job.
func byArray(jobs []JobRef) [][]JobRef {
	var groups [][]JobRef
	index := map[JobID]int{}
	for _, job := range jobs {
		at, known := index[job.Job]
		if !job.IsTask || !known {
			if job.IsTask {
				index[job.Job] = len(groups)
			}
			groups = append(groups, []JobRef{job})
			continue
		}
		groups[at] = append(groups[at], job)
	}
	for i := range groups {
		slices.SortFunc(groups[i], func(a, b JobRef) int { return int(int64(a.Task) - int64(b.Task)) })
		groups[i] = slices.Compact(groups[i])
	}
	return groups
}

// splitTasks halves the tasks of one array until each list fits into one
// argument.
func splitTasks(tasks []JobRef) [][]JobRef {
	if len(jobList(tasks)) <= maxListBytes {
		return [][]JobRef{tasks}
	}
	half := len(tasks) / 2 // one task is a few bytes: there are many
	return append(splitTasks(tasks[:half]), splitTasks(tasks[half:])...)
}

// jobList writes jobs as scontrol takes them: "7,9_[0-3,5]".
func jobList(jobs []JobRef) string {
	var words []string
	for _, group := range byArray(jobs) {
		if len(group) == 1 {
			words = append(words, group[0].String())
			continue
		}
		words = append(words, fmt.Sprintf("%s_[%s]", group[0].Job, taskRanges(group)))
	}
	return strings.Join(words, ",")
}

// taskRanges writes sorted tasks of one array as "0-3,5".
func taskRanges(tasks []JobRef) string {
	var out strings.Builder
	for i := 0; i < len(tasks); {
		last := i
		for last+1 < len(tasks) && tasks[last+1].Task == tasks[last].Task+1 {
			last++
		}
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprint(&out, tasks[i].Task)
		if last > i {
			fmt.Fprintf(&out, "-%d", tasks[last].Task)
		}
		i = last + 1
	}
	return out.String()
}
