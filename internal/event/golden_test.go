package event

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// noon is the time of every golden message.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// wholePressure has every field of a snapshot set.
func wholePressure() QueuePressure {
	return QueuePressure{
		Cluster: "onprem", Epoch: 3, Sequence: 41, TakenAt: noon, AgeAtSendMS: 120, Cause: CauseResume,
		AgentHost: "head1", AgentVersion: "v1.2.3", SlurmVersion: "22.05.8",
		PendingJobs: 7, Truncated: true, RunningCut: true,
		Pending: []PendingGroup{{
			Partitions: []string{"local", "htc"}, User: "ada", Account: "physics", QOS: "normal", StateReason: "Resources",
			Description: "(Resources)", Nodes: 2, CPUs: 8, MemoryMiB: 4000, GPUs: 1, TimeLimitSeconds: 3600, Features: "cloud&htc",
			NodeList: true, Batch: true, Requeue: true, Restarted: true, BeginTime: noon.Add(2 * time.Minute),
			Count: 7, OldestSubmit: noon.Add(-time.Hour), NewestSubmit: noon.Add(-time.Minute), HighestPriority: 4_294_901_757,
			ExpectedStart: noon.Add(20 * time.Minute), Jobs: JobIDs{"117", "118", "120_4", "120_5", "90"},
		}},
		Running: []RunningJob{{
			ID: "120_3", User: "ada", Account: "physics", QOS: "normal", Partition: "htc", State: "RUNNING", Nodes: "htc-[1-2]", NodeCount: 2,
			Start: noon.Add(-time.Minute), TimeLimitSeconds: 600, Batch: true, Requeue: true,
		}},
		Ended:    []EndedJob{{ID: "115", State: "COMPLETED", Nodes: "htc-3", End: noon.Add(-time.Second)}},
		Finished: []FinishedRuns{{User: "ada", Account: "physics", Jobs: 3, RunSeconds: 1800, LimitSeconds: 10_800}},
		CloudNodes: []CloudNodes{{
			Nodearray: "htc", Defined: 9, Usable: 7, PoweredDown: 4, Undefined: "htc-10",
			Groups: []NodeGroup{
				{State: "ALLOCATED", Nodes: "htc-[1-2]", Since: noon.Add(-time.Minute)},
				{State: "IDLE", Flags: []string{"DRAIN", "POWERED_DOWN"}, Nodes: "htc-5", Since: noon.Add(-time.Hour), Reason: FenceReason},
				{State: "ALLOCATED", Flags: []string{"NOT_RESPONDING", "POWERING_UP"}, Nodes: "htc-4", Since: noon.Add(-5 * time.Second)},
			},
			PoweringUp: []PoweringUpNode{{Node: "htc-4", ResumeID: "1795441764000000000-4711-1", Jobs: []BootJob{{ID: "121", Batch: true, Requeue: true}}}},
		}},
		Local: []LocalPartition{{Name: "local", Nodes: 4, IdleNodes: 1, DownNodes: 1, Cores: 16, IdleCores: 5, DownCores: 4, CloudNodes: 2}},
		Partitions: []Partition{{
			Name: "htc", State: "UP", MaxTimeSeconds: 86400, MaxNodes: 4, AllowAccounts: "physics", AllowQOS: "normal", AllowGroups: "burst",
			QOS: "part_htc", PriorityTier: 1, SuspendTimeSeconds: 900,
		}},
		CommandResults: []CommandResult{{ID: "onprem/12/01", Generation: 12, State: ResultFailed, Stale: "htc-7", Failed: "htc-8", Error: "Invalid node state specified"}},
		Problems:       []Problem{{Code: "unknown_node", Detail: "resume call named nodes that the policy does not: gpu-1", At: noon}},
	}
}

func wholeCommand() SlurmCommand {
	return SlurmCommand{
		ID: "onprem/12/01", Cluster: "onprem", Kind: AbortBoot, Generation: 12, Attempt: 2, Nodes: "htc-[4-5]", Jobs: JobIDs{"121", "120_7"},
		Partition: "htc", Partitions: []string{"local", "htc"}, Value: "10.0.0.4", Reason: "slurmburst: boot deadline",
		Expect: Expect{
			States: []string{"ALLOCATED"}, Flags: []string{"POWERING_UP"}, NotFlags: []string{"COMPLETING"}, Reason: FenceReason,
			RequeueableBatchOnly: true, Pending: true,
		},
		ExpiresAt: noon.Add(5 * time.Minute), Known: []string{"onprem/11/01"},
	}
}

func wholeTimer() ScaleDownTimer {
	return ScaleDownTimer{Cluster: "onprem", Nodearray: "htc", Purpose: IdleDeadline, Generation: 9, Due: noon.Add(time.Minute)}
}

func wholeNodeEvent() NodeEvent {
	return NodeEvent{
		ID: "6d5e", Subject: "/sites/s/clusters/hpc-burst/nodes/htc-4", Kind: "NodeCreated", CycleCloudCluster: "hpc-burst", Node: "htc-4",
		NodeID: "0a1b", Status: "Failed", Reason: "System", ErrorCode: "SkuNotAvailable", Message: "no capacity",
		ResourceID: "/subscriptions/x/y", SubscriptionID: "x", At: noon,
	}
}

func wholeRejected() Rejected {
	return Reject("queue-pressure", "onprem/3/41", "onprem", 4, noon.Add(-time.Minute), map[string]any{"content-encoding": "gzip"}, []byte("not gzip"), "gzip: invalid header")
}

// golden are all types of messages, each with every field set.
var golden = map[string]func() (Message, error){
	"queue_pressure":   func() (Message, error) { return wholePressure().Encode() },
	"slurm_command":    func() (Message, error) { return wholeCommand().Encode(noon) },
	"scale_down_timer": func() (Message, error) { return wholeTimer().Encode(noon) },
	"node_event":       func() (Message, error) { return wholeNodeEvent().Encode() },
	"rejected":         func() (Message, error) { return wholeRejected().Encode(noon) },
}

// Readers of the version before take these bytes: a change here is a change of
// the contract.
func TestMessagesLookAsTheyAlwaysDid(t *testing.T) {
	for name, encode := range golden {
		t.Run(name, func(t *testing.T) {
			m, err := encode()
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			header, err := json.Marshal(map[string]any{"id": m.ID, "session": m.SessionID, "encoding": m.Encoding, "ttl": m.TTL.String()})
			if err != nil {
				t.Fatal(err)
			}
			got.Write(append(header, '\n'))
			if err := json.Indent(&got, m.Body, "", "  "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s differs (-want +got):\n%s", path, diff)
			}
		})
	}
}

// A field that the golden files leave out could change unseen.
func TestGoldenMessagesHaveEveryFieldSet(t *testing.T) {
	for name, value := range map[string]any{
		"queue_pressure": wholePressure(), "slurm_command": wholeCommand(), "scale_down_timer": wholeTimer(),
		"node_event": wholeNodeEvent(), "rejected": wholeRejected(),
	} {
		for _, path := range unset(value, name) {
			t.Errorf("%s is not set in the golden message", path)
		}
	}
}
