package slurm_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/slurm"
)

// recorder answers scontrol with the exits given, the last one for ever, and
// keeps what was asked.
type recorder struct {
	exits []slurm.Exit
	calls [][]string
}

func (r *recorder) client() *slurm.Client {
	return &slurm.Client{Runner: runnerFunc(func(cmd slurm.Command) (string, slurm.Exit, error) {
		r.calls = append(r.calls, append([]string{cmd.Path}, cmd.Args...))
		exit := slurm.Exit{}
		if len(r.exits) > 0 {
			exit = r.exits[min(len(r.calls), len(r.exits))-1]
		}
		return "", exit, nil
	})}
}

func TestUpdatesBecomeOneCall(t *testing.T) {
	type outcome = slurm.Outcome
	tests := []struct {
		name string
		do   func(context.Context, *slurm.Client) (outcome, error)
		want []string
	}{
		{"nodes are named by one hostlist", func(ctx context.Context, c *slurm.Client) (outcome, error) {
			return c.UpdateNodes(ctx, []slurm.NodeName{"htc-3", "htc-1", "hpc-7", "htc-2"}, slurm.PowerDownASAP, "")
		}, []string{"NodeName=hpc-7,htc-[1-3]", "State=POWER_DOWN_ASAP"}},
		{"a drain carries its reason", func(ctx context.Context, c *slurm.Client) (outcome, error) {
			return c.UpdateNodes(ctx, []slurm.NodeName{"htc-1"}, slurm.Drain, "burst: quota of 5 vCPU, 'État' x=y")
		}, []string{"NodeName=htc-1", "State=DRAIN", "Reason=burst: quota of 5 vCPU, 'État' x=y"}},
		{"a job and a task take partitions and a mark together", func(ctx context.Context, c *slurm.Client) (outcome, error) {
			return c.UpdateJobs(ctx, []slurm.JobRef{{Job: 7}, {Job: 9, IsTask: true, Task: 0}}, slurm.JobUpdate{
				Partitions: []slurm.PartitionName{"local", "htc"}, AdminComment: "released",
			})
		}, []string{"JobId=7,9_0", "Partition=local,htc", "AdminComment=released"}},
		{"a requeued job starts now", func(ctx context.Context, c *slurm.Client) (outcome, error) {
			return c.UpdateJobs(ctx, []slurm.JobRef{{Job: 7}}, slurm.JobUpdate{StartNow: true})
		}, []string{"JobId=7", "StartTime=now"}},
		{"a partition goes down", func(ctx context.Context, c *slurm.Client) (outcome, error) {
			return c.UpdatePartition(ctx, "htc", slurm.PartitionDown)
		}, []string{"PartitionName=htc", "State=DOWN"}},
		{"a node gets an address", func(ctx context.Context, c *slurm.Client) (outcome, error) {
			return c.SetNodeAddr(ctx, "htc-1", "fd00::17")
		}, []string{"NodeName=htc-1", "NodeAddr=fd00::17"}},
		{"nodes are kept from being suspended", func(ctx context.Context, c *slurm.Client) (outcome, error) {
			return c.ExcludeFromSuspend(ctx, []slurm.NodeName{"htc-1", "htc-2"}, slurm.KeepFromSuspend)
		}, []string{"SuspendExcNodes+=htc-[1-2]"}},
		{"nodes may be suspended again", func(ctx context.Context, c *slurm.Client) (outcome, error) {
			return c.ExcludeFromSuspend(ctx, []slurm.NodeName{"htc-1"}, slurm.AllowSuspend)
		}, []string{"SuspendExcNodes-=htc-1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{}
			got, err := tt.do(t.Context(), r.client())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]string{append([]string{"scontrol", "update"}, tt.want...)}, r.calls); diff != "" {
				t.Errorf("calls differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(slurm.Outcome{Calls: 1}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadUpdatesRunNothing(t *testing.T) {
	nodes := []slurm.NodeName{"htc-1"}
	jobs := []slurm.JobRef{{Job: 1}}
	tests := []struct {
		name string
		do   func(context.Context, *slurm.Client) (slurm.Outcome, error)
	}{
		{"no nodes", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateNodes(ctx, nil, slurm.PowerUp, "")
		}},
		{"a name that is an option", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateNodes(ctx, []slurm.NodeName{"htc-1", "--help"}, slurm.PowerUp, "")
		}},
		{"a name that is a hostlist", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateNodes(ctx, []slurm.NodeName{"htc-[1-100]"}, slurm.PowerUp, "")
		}},
		{"a name with a second key", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateNodes(ctx, []slurm.NodeName{"htc-1 State=DOWN"}, slurm.PowerUp, "")
		}},
		{"Slurm's word for every node is a name like others, an unknown action is not", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateNodes(ctx, nodes, "DOWN", "")
		}},
		{"a drain without a reason", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateNodes(ctx, nodes, slurm.Drain, "")
		}},
		{"a reason with a newline", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateNodes(ctx, nodes, slurm.Drain, "a\nb")
		}},
		{"a reason too long", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateNodes(ctx, nodes, slurm.Drain, strings.Repeat("x", 201))
		}},
		{"no jobs", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateJobs(ctx, nil, slurm.JobUpdate{StartNow: true})
		}},
		{"job 0", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateJobs(ctx, []slurm.JobRef{{}}, slurm.JobUpdate{StartNow: true})
		}},
		{"a change of nothing", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateJobs(ctx, jobs, slurm.JobUpdate{})
		}},
		{"a bad partition in a list", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateJobs(ctx, jobs, slurm.JobUpdate{Partitions: []slurm.PartitionName{"local", "a,b"}})
		}},
		{"a comment with a separator", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdateJobs(ctx, jobs, slurm.JobUpdate{AdminComment: "a\x1fb"})
		}},
		{"a partition to be drained", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdatePartition(ctx, "htc", slurm.PartitionDrain)
		}},
		{"a partition without a name", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.UpdatePartition(ctx, "", slurm.PartitionUp)
		}},
		{"an address with a second key", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.SetNodeAddr(ctx, "htc-1", "a State=DOWN")
		}},
		{"an address with a zone", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.SetNodeAddr(ctx, "htc-1", "fe80::1%a b")
		}},
		{"an unknown exclusion", func(ctx context.Context, c *slurm.Client) (slurm.Outcome, error) {
			return c.ExcludeFromSuspend(ctx, nodes, "=")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{}
			if _, err := tt.do(t.Context(), r.client()); fault.Of(err) != fault.Invalid {
				t.Errorf("got %v", err)
			}
			if len(r.calls) != 0 {
				t.Errorf("ran %v", r.calls)
			}
		})
	}
}

func TestUpdatesAreRepeatedWhileUnavailable(t *testing.T) {
	busy := slurm.Exit{Code: 1, Stderr: "Resource temporarily unavailable for job 11\n"}
	change := slurm.JobUpdate{Partitions: []slurm.PartitionName{"local", "htc"}}
	tests := []struct {
		name  string
		exits []slurm.Exit
		want  slurm.Outcome
	}{
		{"success at the fourth try", []slurm.Exit{busy, busy, busy, {}}, slurm.Outcome{Calls: 4}},
		{"another refusal ends the repeats", []slurm.Exit{busy, {Code: 1, Stderr: "Job is no longer pending execution for job 3\n"}}, slurm.Outcome{Calls: 2, ExitCode: 1, Stderr: "Job is no longer pending execution for job 3"}},
		{"it gives up after 30 repeats and says why", []slurm.Exit{busy}, slurm.Outcome{Calls: 31, ExitCode: 1, Stderr: "Resource temporarily unavailable for job 11"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{exits: tt.exits}
			got, err := r.client().UpdateJobs(t.Context(), []slurm.JobRef{{Job: 11}}, change)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("outcome differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOnlyTheJobsThatFailedAreRepeated(t *testing.T) {
	const busy = "Resource temporarily unavailable for job "
	tests := []struct {
		name, stderr, want string
	}{
		{"one of three", busy + "2\n", "JobId=2"},
		{"two of three", busy + "3\n" + busy + "1\n", "JobId=1,3"},
		{"a job under another name", busy + "77\n", "JobId=1,2,3"},
		{"one known, one under another name", busy + "1\n" + busy + "77\n", "JobId=1,2,3"},
		{"no name at all", "Resource temporarily unavailable\n", "JobId=1,2,3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{exits: []slurm.Exit{{Code: 1, Stderr: tt.stderr}, {}}}
			jobs := []slurm.JobRef{{Job: 1}, {Job: 2}, {Job: 3}}
			if _, err := r.client().UpdateJobs(t.Context(), jobs, slurm.JobUpdate{Partitions: []slurm.PartitionName{"htc"}}); err != nil {
				t.Fatal(err)
			}
			want := [][]string{
				{"scontrol", "update", "JobId=1,2,3", "Partition=htc"},
				{"scontrol", "update", tt.want, "Partition=htc"},
			}
			if diff := cmp.Diff(want, r.calls); diff != "" {
				t.Errorf("calls differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheExitCodeOfAnUpdateIsOnlyInformation(t *testing.T) {
	tests := []struct {
		name string
		exit slurm.Exit
		kind fault.Kind
		isOK bool
	}{
		{"22.05 exits with 1 though it released the job", slurm.Exit{Code: 1, Stderr: "Requested partition configuration not available now for job 5"}, 0, true},
		{"resume of a healthy node", slurm.Exit{Code: 1, Stderr: "slurm_update error: Invalid node state specified"}, 0, true},
		{"no controller", slurm.Exit{Code: 1, Stderr: "slurm_update error: Unable to contact slurm controller (connect failure)"}, fault.Transient, false},
		{"no permission", slurm.Exit{Code: 1, Stderr: "slurm_update error: Access/permission denied"}, fault.Denied, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{exits: []slurm.Exit{tt.exit}}
			got, err := r.client().UpdateNodes(t.Context(), []slurm.NodeName{"htc-1"}, slurm.Resume, "")
			if (err == nil) != tt.isOK || (err != nil && fault.Of(err) != tt.kind) {
				t.Errorf("got %v", err)
			}
			if want := (slurm.Outcome{Calls: 1, ExitCode: 1, Stderr: tt.exit.Stderr}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestLongListsAreSplitBelowTheLimitOfAnArgument(t *testing.T) {
	var nodes []slurm.NodeName
	for i := range 30_000 {
		nodes = append(nodes, slurm.NodeName(fmt.Sprintf("n%05dx", i)))
	}
	r := &recorder{}
	if _, err := r.client().UpdateNodes(t.Context(), nodes, slurm.PowerUp, ""); err != nil {
		t.Fatal(err)
	}
	var got []slurm.NodeName
	for _, call := range r.calls {
		list := strings.TrimPrefix(call[2], "NodeName=")
		if len(list) > 128<<10-100 {
			t.Errorf("argument of %d bytes", len(list))
		}
		names, err := slurm.ParseHostlist(list)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, names...)
	}
	if diff := cmp.Diff(nodes, got); diff != "" {
		t.Error("names were lost or doubled")
	}
	r = &recorder{}
	jobs := make([]slurm.JobRef, 1200)
	for i := range jobs {
		jobs[i].Job = slurm.JobID(i + 1)
	}
	if out, err := r.client().UpdateJobs(t.Context(), jobs, slurm.JobUpdate{StartNow: true}); err != nil || out.Calls != 3 {
		t.Errorf("outcome %+v, error %v", out, err)
	}
}
