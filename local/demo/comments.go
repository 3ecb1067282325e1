package demo

import (
	"context"
	"strings"

	"github.com/slurmburst/slurmburst/local/world"
)

// comment is what the owner of a job can read with squeue or scontrol.
type comment struct {
	job, text string
}

// code is the stable code of a comment of ours, which begins "slurmburst: code: ".
func (c comment) code() string {
	said, ours := strings.CutPrefix(c.text, "slurmburst: ")
	code, _, found := strings.Cut(said, ":")
	if !ours || !found {
		return ""
	}
	return code
}

// adminComments lists the comments of all jobs that Slurm still knows; tasks of
// an array that waits are one entry. Slurm 22.05 refuses AdminComment as the
// name of the field.
func adminComments(ctx context.Context, w *world.World) ([]comment, error) {
	text, err := w.Lab.Squeue(ctx, "--noheader", "--states=all", "--Format=JobArrayID:30,admin_comment:250")
	if err != nil {
		return nil, err
	}
	var found []comment
	for line := range strings.Lines(text) {
		job, said, _ := strings.Cut(strings.TrimSpace(line), " ")
		if said = strings.TrimSpace(said); said != "" && said != "(null)" && said != "N/A" {
			found = append(found, comment{job, said})
		}
	}
	return found, nil
}

// cloudPartitions names the cloud's partitions as sinfo wants them.
func cloudPartitions(w *world.World) string {
	var names []string
	for _, a := range w.Nodearrays {
		names = append(names, a.Name)
	}
	return strings.Join(names, ",")
}
