package slurmlab

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// capturedLog has lines as slurmctld 22.05.8 wrote them.
const capturedLog = `[2026-11-23T15:14:47.270] _slurm_rpc_submit_batch_job: JobId=6 InitPrio=4294901754 usec=767
[2026-11-23T15:14:47.271] _slurm_rpc_submit_batch_job: Invalid partition name specified
[2026-11-23T15:14:47.279] sched: _slurm_rpc_allocate_resources JobId=8 NodeList=(null) usec=261
[2026-11-23T15:14:47.280] sched: _slurm_rpc_allocate_resources JobId=9 NodeList=local-[1-2] usec=261
[2026-11-23T15:14:47.281] _slurm_rpc_submit_batch_het_job: JobId=16 usec=3608
[2026-11-23T15:14:47.375] sched/backfill: _start_job: Started JobId=7_1(9) in htc on htc-5
[2026-11-23T15:14:47.376] sched: Allocate JobId=2 NodeList=local-1 #CPUs=1 Partition=local
[2026-11-23T15:14:47.381] POWER: power_save: pid 22346 waking nodes hpc-1,htc-[5-6]
    a line that goes on without a time
[2026-11-23T15:14:49.289] update_node: node htc-6 reason set to: x
[2026-11-23T15:14:49.289] drain_nodes: node htc-6 state set to DRAIN
[2026-11-23T15:14:49.289] powering down node htc-6
[2026-11-23T15:14:50.289] powering down node htc-7
[2026-11-23T15:14:51.384] POWER: power_save: pid 22391 suspending nodes htc-6
[2026-11-23T15:14:52.299] powering up node htc-20
[2026-11-23T15:17:05.419] node htc-30 not resumed by ResumeTimeout(4) - marking down and power_save
[2026-11-23T15:17:05.420] requeue job JobId=10 due to failure of node htc-30
[2026-11-23T15:17:05.420] Killing JobId=11 on failed node htc-31
[2026-11-23T15:17:05.422] POWER: power_save: pid 23713 handle failed nodes htc-[30-31]
[2026-11-23T15:27:09.260] power down request repeating for node htc-32
`

// at gives a time of the captured day in the zone of this process.
func at(t *testing.T, clock string) time.Time {
	t.Helper()
	moment, err := time.ParseInLocation("2006-01-02T15:04:05", "2026-11-23T"+clock, time.Local)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

func TestControllerLogIsReadAsSlurmWritesIt(t *testing.T) {
	t.Parallel()
	got, err := ParseControllerLog(strings.NewReader(capturedLog))
	if err != nil {
		t.Fatal(err)
	}
	want := ControllerLog{
		Submitted: []Submission{
			{Time: at(t, "15:14:47.270"), JobID: 6, IsBatch: true},
			{Time: at(t, "15:14:47.279"), JobID: 8},
			{Time: at(t, "15:14:47.280"), JobID: 9},
			{Time: at(t, "15:14:47.281"), JobID: 16, IsBatch: true},
		},
		Started: []JobStart{
			{Time: at(t, "15:14:47.280"), JobID: "9", Nodes: "local-[1-2]"},
			{Time: at(t, "15:14:47.375"), JobID: "7_1(9)", Nodes: "htc-5"},
			{Time: at(t, "15:14:47.376"), JobID: "2", Nodes: "local-1"},
		},
		Resumes:     []ProgramCall{{Time: at(t, "15:14:47.381"), Hostlist: "hpc-1,htc-[5-6]", Nodes: []string{"hpc-1", "htc-5", "htc-6"}}},
		Suspends:    []ProgramCall{{Time: at(t, "15:14:51.384"), Hostlist: "htc-6", Nodes: []string{"htc-6"}}},
		ResumeFails: []ProgramCall{{Time: at(t, "15:17:05.422"), Hostlist: "htc-[30-31]", Nodes: []string{"htc-30", "htc-31"}}},
		PowerDowns: []PowerRequest{
			{Time: at(t, "15:14:49.289"), Node: "htc-6", Drained: true},
			{Time: at(t, "15:14:50.289"), Node: "htc-7"},
			{Time: at(t, "15:27:09.260"), Node: "htc-32", Repeated: true},
		},
		PowerUps:     []PowerRequest{{Time: at(t, "15:14:52.299"), Node: "htc-20"}},
		BootTimeouts: []NodeEvent{{Time: at(t, "15:17:05.419"), Node: "htc-30"}},
		Requeued:     []string{"10"},
		NodeFailed:   []string{"11"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLineOfTheLogThatCannotBeReadIsNamed(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"[2026-13-23T15:14:47.270] powering down node htc-6",
		"[2026-11-23T15:14:47.381] POWER: power_save: pid 1 waking nodes htc-[6-5]",
		"[2026-11-23T15:14:47.270] _slurm_rpc_submit_batch_job: JobId=99999999999999999999 InitPrio=1 usec=1",
	} {
		_, err := ParseControllerLog(strings.NewReader("a first line\n" + line + "\n"))
		if err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("line %q: error %v, want it to name line 2", line, err)
		}
	}
}

func TestJobCompletionIsReadAsSlurmWritesIt(t *testing.T) {
	t.Parallel()
	const tail = " ReservationName= Tres=cpu=1,mem=1000M,node=1,billing=1 Account= QOS= WcKey= Cluster=unknown SubmitTime=2026-11-23T15:14:47 EligibleTime=2026-11-23T15:14:47"
	tests := map[string]struct {
		line string
		want JobEnd
	}{
		"a job": {
			line: "JobId=8 UserId=root(0) GroupId=root(0) Name=sleep JobState=COMPLETED Partition=htc TimeLimit=525600 StartTime=2026-11-23T15:14:47 EndTime=2026-11-23T15:14:50 NodeList=htc-6 NodeCnt=1 ProcCnt=1 WorkDir=/tmp" + tail + " DerivedExitCode=0:0 ExitCode=0:0 ",
			want: JobEnd{JobID: 8, State: "COMPLETED", Partition: "htc", Nodes: "htc-6", Start: at(t, "15:14:47"), End: at(t, "15:14:50")},
		},
		"an array task": {
			line: "JobId=9 UserId=root(0) GroupId=root(0) Name=wrap JobState=FAILED Partition=htc TimeLimit=525600 StartTime=2026-11-23T15:15:04 EndTime=2026-11-23T15:15:04 NodeList=htc-[5-6] NodeCnt=2 ProcCnt=1 WorkDir=/tmp" + tail + " ArrayJobId=7 ArrayTaskId=1 DerivedExitCode=0:0 ExitCode=3:0 ",
			want: JobEnd{JobID: 9, ArrayJobID: 7, ArrayTaskID: 1, State: "FAILED", Partition: "htc", Nodes: "htc-[5-6]", Start: at(t, "15:15:04"), End: at(t, "15:15:04")},
		},
		"a name that looks like a state": {
			line: "JobId=3 UserId=root(0) GroupId=root(0) Name= JobState=COMPLETED Partition=forged  JobState=CANCELLED Partition=htc TimeLimit=1 StartTime=Unknown EndTime=2026-11-23T15:15:04 NodeList= NodeCnt=0 ProcCnt=1 WorkDir=/tmp" + tail + " DerivedExitCode=0:0 ExitCode=0:0 ",
			want: JobEnd{JobID: 3, State: "CANCELLED", Partition: "htc", End: at(t, "15:15:04")},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseJobCompletions(strings.NewReader(test.line + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]JobEnd{test.want}, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTextThatIsNoJobCompletionIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"garbage\n", "JobId=x JobState=FAILED\n", "\n"} {
		if _, err := ParseJobCompletions(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("text %q: error %v, want it to name line 1", text, err)
		}
	}
}

func TestHostlistsAreExpandedInTheirOrder(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"htc-1":                {"htc-1"},
		"htc-[1-3]":            {"htc-1", "htc-2", "htc-3"},
		"big-[08-10],a,b-[2]x": {"big-08", "big-09", "big-10", "a", "b-2x"},
		"n[1,5-6]":             {"n1", "n5", "n6"},
		"":                     nil,
	}
	for list, want := range tests {
		got, err := ExpandHostlist(list)
		if err != nil {
			t.Errorf("hostlist %q: %v", list, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("hostlist %q: -want +got:\n%s", list, diff)
		}
	}
}

func TestHostlistThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"a[1-2", "a[2-1]", "a[x]", "a[1-]", "a[]", "a[1][2]", "a[-1]", "a[1-999999999]", "a[1-99999,1-99999]"} {
		if names, err := ExpandHostlist(list); err == nil {
			t.Errorf("hostlist %q gave %d names", list, len(names))
		}
	}
}

func FuzzHostlist(f *testing.F) {
	for _, seed := range []string{"htc-[1-3]", "a[01-10,12],b", "a[1][2]", "[[", "],["} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		names, err := ExpandHostlist(list)
		if err == nil && len(names) > maxHosts {
			t.Errorf("%d names", len(names))
		}
	})
}

func TestReservedPortsAreNotReservedTwice(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 3 {
		r, err := reservePorts(portsInBlock + 5)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.release)
		for _, port := range r.ports {
			if seen[port] {
				t.Fatalf("port %d was given twice", port)
			}
			seen[port] = true
		}
	}
}

func TestReleasedPortsCanBeReservedAgain(t *testing.T) {
	t.Parallel()
	for range 300 { // more often than there are blocks
		r, err := reservePorts(1)
		if err != nil {
			t.Fatal(err)
		}
		r.release()
	}
}
