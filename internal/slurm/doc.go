// Package slurm speaks Slurm's words: it answers what slurmctld says about
// nodes, jobs, partitions and its own configuration, and carries out the few
// updates that this product is allowed to make.
//
// It reads the text output of squeue, sinfo, scontrol and sdiag, never JSON:
// at 100,000 jobs JSON costs 25 seconds on 22.05 and its shape changes between
// releases. Every field is one that 22.05.8 and 26.05.3 both accept; a test
// holds the lists against the captures of both versions under testdata. Job
// names and comments, which users write freely, are never asked for.
//
// It must never run a shell, never start a command without a deadline, never
// judge an update by scontrol's exit code (the caller reads back), and never
// decide anything: what a state means for the cloud is for others to say.
package slurm
