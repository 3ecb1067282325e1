package slurm

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// versions are the ends of the range of Slurm releases that must be read.
var versions = []string{"22.05.8", "26.05.3"}

func capture(t testing.TB, version, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", version, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// compareGolden compares lines with a golden file, or rewrites it.
func compareGolden(t *testing.T, version, name string, lines []string) {
	t.Helper()
	path := filepath.Join("testdata", version, name+".golden")
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

// capturedColumns gives, for the fields of a captured output, the column that
// reads each; a field that the product does not ask for is passed over.
func capturedColumns[T any](known []column[T], fields []string) []column[T] {
	var columns []column[T]
	for _, field := range fields {
		c := column[T]{name: field}
		for _, k := range known {
			if strings.EqualFold(k.name, field) {
				c = k
			}
		}
		columns = append(columns, c)
	}
	return columns
}

// longFields reads the names out of an -O format such as "JobID:80\x1f,…".
func longFields(format []byte) []string {
	var fields []string
	for field := range strings.SplitSeq(strings.TrimSpace(string(format)), ",") {
		name, _, _ := strings.Cut(field, ":")
		fields = append(fields, name)
	}
	// The captures close every field, the last one too: an empty field follows.
	return append(fields, "")
}

// shortFields translates an -o format such as "%i\x1f%P…" into -O names.
func shortFields(t *testing.T, format []byte) []string {
	names := map[string]string{
		"F": "ArrayJobID", "K": "ArrayTaskID", "A": "JobID", "P": "Partition", "T": "State", "r": "Reason",
		"R": "ReasonList", "D": "NumNodes", "C": "NumCPUs", "V": "SubmitTime", "S": "StartTime", "e": "EndTime",
		"l": "TimeLimit", "a": "Account", "u": "UserName", "q": "QOS", "Q": "PriorityLong", "f": "Feature",
		"b": "tres-per-node", "m": "MinMemory", "n": "ReqNodes", "N": "NodeList",
	}
	var fields []string
	for field := range strings.SplitSeq(strings.TrimSpace(string(format)), `\x1f`) {
		letter, found := strings.CutPrefix(field, "%")
		if !found {
			t.Fatalf("format %q", field)
		}
		fields = append(fields, names[letter])
	}
	return fields
}

func jobLine(j *Job) string {
	comment := ""
	if j.AdminComment != "" {
		comment = fmt.Sprintf(" comment=%q", j.AdminComment)
	}
	return fmt.Sprintf("%s id=%d %s parts=%v user=%s account=%q qos=%q reason=%q desc=%q nodes=%d cpus=%d tasks=%d mem=%d/%d gpus=%d "+
		"limit=%v features=%q named=%v batch=%v requeue=%v restarts=%d submit=%s eligible=%s start=%s end=%s prio=%d on=%s%s",
		j.Ref(), j.ID, j.State, j.Partitions, j.User, j.Account, j.QOS, j.Reason, j.Description, j.NodeCount, j.CPUs, j.Tasks,
		j.MinMemoryMB, j.TotalMemoryMB, j.GPUs, j.TimeLimit, j.Features, j.RequiresNodes, j.IsBatch, j.Requeue, j.Restarts,
		clock(j.Submitted), clock(j.Eligible), clock(j.Started), clock(j.Ended), j.Priority, FormatHostlist(j.Nodes), comment)
}

func clock(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Format("02T15:04:05")
}

func capturedJobs(t testing.TB, fields []string, data []byte) ([]Job, int) {
	t.Helper()
	jobs, dropped, err := parseJobs(bytes.NewReader(data), newTableParser(capturedColumns(JobQuery{AdminComment: true}.columns().columns, fields)), "\n")
	if err != nil {
		t.Fatal(err)
	}
	return jobs, dropped
}

func TestJobsOfBothVersionsAreRead(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			long, dropped := capturedJobs(t, longFields(capture(t, version, "squeue-O.format.txt")), capture(t, version, "squeue-O-r-PD.txt"))
			if dropped != 0 || len(long) != 64 {
				t.Errorf("-O gave %d jobs and %d dropped, want 64 and 0", len(long), dropped)
			}
			compareGolden(t, version, "squeue-O-r-PD", lines(long, jobLine))

			short, dropped := capturedJobs(t, shortFields(t, capture(t, version, "squeue-o.format.txt")), capture(t, version, "squeue-o-r-all.txt"))
			if dropped != 0 || len(short) != 76 {
				t.Errorf("-o gave %d jobs and %d dropped, want 76 and 0", len(short), dropped)
			}
			compareGolden(t, version, "squeue-o-r-all", lines(short, jobLine))
			states := map[JobState]int{}
			for i := range short {
				states[short[i].State]++
			}
			if states[JobPending] != 64 || states[JobRunning]+states[JobConfiguring] != 12 {
				t.Errorf("states %v, want 64 pending and 12 on nodes, as sdiag says", states)
			}
		})
	}
}

func lines[T any](items []T, line func(*T) string) []string {
	var out []string
	for i := range items {
		out = append(out, line(&items[i]))
	}
	return out
}

func TestJobsReadInTheProductsOwnFormat(t *testing.T) {
	data := capture(t, "22.05.8", "squeue-product.txt")
	jobs, dropped, err := parseJobs(bytes.NewReader(data), newTableParser(jobColumns), "\x1eEND\n")
	if err != nil {
		t.Fatal(err)
	}
	if dropped != 1 { // the job whose account holds a separator
		t.Errorf("%d dropped, want 1", dropped)
	}
	compareGolden(t, "22.05.8", "squeue-product", lines(jobs, jobLine))
}

func TestTextOfUsersForgesNoJob(t *testing.T) {
	formats := map[string][]string{
		"hostile-squeue-o.txt": {"JobID", "Partition", "Name", "Comment", "end"},
		"hostile-squeue-O.txt": {"JobID", "Partition", "Name", "Comment", "AdminComment", ""},
	}
	for _, version := range versions {
		for name, fields := range formats {
			jobs, dropped := capturedJobs(t, fields, capture(t, version, name))
			// Without an end mark each job is cut into pieces, and no
			// piece passes for a job: neither the user's 999 nor a half.
			if len(jobs) != 0 || dropped < 5 {
				t.Errorf("%s %s: %d jobs, first %+v, %d dropped", version, name, len(jobs), jobs, dropped)
			}
		}
	}
}

// TestAForgedRecordIsNeverRead plays a user who knows the format and plants a
// whole record into the one text that users may write without slurmdbd.
func TestAForgedRecordIsNeverRead(t *testing.T) {
	const end = "\x1eK7Q2TESTMARK\n"
	row := func(id, account string) string {
		fields := make([]string, len(jobColumns))
		for i, c := range jobColumns {
			fields[i] = map[string]string{
				"JobID": id, "ArrayJobID": id, "ArrayTaskID": "N/A", "State": "PENDING", "Partition": "local", "UserName": "eve",
				"Account": account, "NumNodes": "1", "NumCPUs": "1", "NumTasks": "1", "BatchFlag": "1", "Requeue": "1",
				"RestartCnt": "0", "PriorityLong": "1", "SubmitTime": "1795446529", "Reason": "Resources", "ReasonList": "(Resources)",
			}[c.name]
		}
		return strings.Join(fields, "\x1f")
	}
	tests := []struct {
		name, account string
		kept          []JobID
	}{
		{"an ordinary account", "physics", []JobID{1, 2, 3}},
		{"a separator", "a\x1fb", []JobID{1, 3}},
		{"a newline stays inside its field", "a\nb", []JobID{1, 2, 3}},
		{"a whole record on a line of its own", "a\n" + row("999", "x") + "\nb", []JobID{1, 3}},
		{"a record with a guessed mark", "a\x1eAAAAAAAAAAAA\n" + row("999", "x") + "\x1eAAAAAAAAAAAA\n", []JobID{1, 3}},
		{"the rest of the own record and half a new one", "a" + strings.Repeat("\x1f", len(jobColumns)-7) + "\x1e\n" + row("999", "x"), []JobID{1, 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stream := row("1", "a") + end + row("2", tt.account) + end + row("3", "a") + end
			jobs, dropped, err := parseJobs(strings.NewReader(stream), newTableParser(jobColumns), end)
			if err != nil {
				t.Fatal(err)
			}
			var kept []JobID
			for i := range jobs {
				kept = append(kept, jobs[i].ID)
				if strings.ContainsAny(string(jobs[i].Account), "\n\x1f\x1e") {
					t.Errorf("account %q is not printable", jobs[i].Account)
				}
			}
			if diff := cmp.Diff(tt.kept, kept); diff != "" || dropped != 3-len(tt.kept) {
				t.Errorf("%d dropped, kept differs:\n%s", dropped, diff)
			}
		})
	}
}

func TestATruncatedAnswerIsCounted(t *testing.T) {
	data := capture(t, "22.05.8", "squeue-product.txt")
	whole, _, err := parseJobs(bytes.NewReader(data), newTableParser(jobColumns), "\x1eEND\n")
	if err != nil {
		t.Fatal(err)
	}
	cut, dropped, err := parseJobs(bytes.NewReader(data[:len(data)-20]), newTableParser(jobColumns), "\x1eEND\n")
	if err != nil || dropped != 2 || len(cut) != len(whole)-1 {
		t.Errorf("%d of %d jobs, %d dropped, error %v", len(cut), len(whole), dropped, err)
	}
}

func TestPartitionsOfBothVersionsAreRead(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			partitions, err := parsePartitions(string(capture(t, version, "scontrol-o-show-partition.txt")))
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, version, "scontrol-o-show-partition", lines(partitions, func(p *Partition) string {
				nodes := FormatHostlist(p.Nodes)
				p.Nodes = nil
				return fmt.Sprintf("%+v %s", *p, nodes)
			}))
		})
	}
}

func TestPartitionLimitsAreRead(t *testing.T) {
	const line = "PartitionName=htc AllowGroups=hpc,staff DenyAccounts=guest AllowQos=normal,high QoS=cap MaxNodes=12 MaxTime=1-12:00:00 " +
		"Nodes=htc-[1-2] PriorityTier=3 State=DRAIN TotalCPUs=8 TotalNodes=2 SuspendTime=900 NewKey=1 State=UP\n"
	got, err := parsePartitions(line + "No partitions\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Partition{{
		Name: "htc", State: PartitionDrain, MaxTime: TimeLimit(36 * time.Hour), MaxNodes: 12,
		AllowGroups: []string{"hpc", "staff"}, AllowQOS: []string{"normal", "high"}, DenyAccounts: []string{"guest"}, QOS: "cap",
		PriorityTier: 3, Nodes: []NodeName{"htc-1", "htc-2"}, TotalNodes: 2, TotalCPUs: 8, SuspendTime: TimeLimit(15 * time.Minute),
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, bad := range []string{"PartitionName=--all", "PartitionName=a MaxNodes=x", "PartitionName=a MaxTime=soon", "PartitionName=a Nodes=n[1-"} {
		if _, err := parsePartitions(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestConfigOfBothVersionsIsRead(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			config, err := parseConfig(string(capture(t, version, "scontrol-show-config.txt")))
			if err != nil {
				t.Fatal(err)
			}
			if value, ok := config.Value("MinJobAge"); !ok || value != "20 sec" {
				t.Errorf("MinJobAge %q %v", value, ok)
			}
			if _, ok := config.Value("NoSuchKey"); ok {
				t.Error("a missing key was found")
			}
			want := Config{
				ClusterName: "lab", Version: version, ControllerHosts: []string{"localhost"}, SlurmUser: "root",
				ResumeTimeout: TimeLimit(15 * time.Minute), SuspendTimeout: TimeLimit(5 * time.Minute), SuspendTime: Unlimited,
				ResumeProgram: "/etc/slurm/hooks/resume.sh", SuspendProgram: "/etc/slurm/hooks/suspend.sh",
				ResumeFailProgram: "/etc/slurm/hooks/resumefail.sh", ResumeRate: 2,
				PrivateData:         []string{map[string]string{"22.05.8": "cloud", "26.05.3": "none"}[version]},
				SlurmctldParameters: []string{"cloud_reg_addrs", "idle_on_node_suspend", "power_save_interval=1", "power_save_min_interval=0"},
				SchedulerParameters: []string{"bf_interval=2", "sched_min_interval=100000", "defer_batch"},
				values:              config.values,
			}
			if diff := cmp.Diff(want, config, cmp.AllowUnexported(Config{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := parseConfig("<html>proxy error</html>"); err == nil {
		t.Error("garbage was accepted")
	}
}

func TestCountersOfBothVersionsAreRead(t *testing.T) {
	at := func(epoch int64) time.Time { return time.Unix(epoch, 0).UTC() }
	want := map[string]Counters{
		"22.05.8": {Since: at(1795441764), Submitted: 77, Started: 14, Completed: 1, Pending: 64, Running: 12},
		"26.05.3": {Since: at(1795441843), Submitted: 2, Started: 2, Pending: 64, Running: 10},
	}
	for _, version := range versions {
		got, err := parseCounters(string(capture(t, version, "sdiag.txt")))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[version], got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
	}
	for _, bad := range []string{"", "Jobs submitted: 1\n", "Jobs submitted: many\nJobs pending: 1\nJobs running: 1\n"} {
		if _, err := parseCounters(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestPingOfBothVersionsIsRead(t *testing.T) {
	for _, version := range versions {
		got, err := parsePing(bytes.NewReader(capture(t, version, "scontrol-ping.txt")))
		if diff := cmp.Diff([]Controller{{Role: "primary", Host: "ctl1", Up: true}}, got); diff != "" || err != nil {
			t.Errorf("%s: error %v\n%s", version, err, diff)
		}
	}
	got, err := parsePing(strings.NewReader("Slurmctld(primary) at a is DOWN\nSlurmctld(backup) at b is UP\n"))
	want := []Controller{{Role: "primary", Host: "a"}, {Role: "backup", Host: "b", Up: true}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v\n%s", err, diff)
	}
}

func TestLastBusyOfBothVersionsIsRead(t *testing.T) {
	want := map[string]int{"22.05.8": 16, "26.05.3": 17}
	for _, version := range versions {
		busy, err := parseLastBusy(string(capture(t, version, "scontrol-o-show-node.txt")))
		if err != nil {
			t.Fatal(err)
		}
		if len(busy) != want[version] {
			t.Errorf("%s: %d nodes with a time, want %d: %v", version, len(busy), want[version], slices.Sorted(maps.Keys(busy)))
		}
		for name, at := range busy {
			if at.Year() != 2026 {
				t.Errorf("%s: %v", name, at)
			}
		}
	}
	forged := "NodeName=n1 LastBusyTime=Unknown Reason=LastBusyTime=2026-11-23T13:49:24 LastBusyTime=2026-11-23T13:49:25\nLastBusyTime=1\n"
	if busy, err := parseLastBusy(forged); err != nil || len(busy) != 0 {
		t.Errorf("a reason forged a time: %v, error %v", busy, err)
	}
}

func TestResumeFilesOfBothVersionsAreRead(t *testing.T) {
	one := func(job JobID, node NodeName) []ResumedJob { return []ResumedJob{{Job: job, Nodes: []NodeName{node}}} }
	want := map[string][4][]ResumedJob{
		// the second call of both: eight jobs, one with two nodes
		"22.05.8": {nil, nil, one(55, "hpc-1"), nil},
		"26.05.3": {nil, nil, one(55, "hpc-1"), one(56, "hpc-6")},
	}
	for _, version := range versions {
		for i := range 4 {
			jobs, err := ParseResumeFile(capture(t, version, fmt.Sprintf("resume-file-%d.json", i+1)))
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				if len(jobs) != 8 || !cmp.Equal(jobs[5], ResumedJob{Job: 8, Nodes: []NodeName{"htc-15", "htc-16"}}) {
					t.Errorf("%s: %+v", version, jobs)
				}
				continue
			}
			if diff := cmp.Diff(want[version][i], jobs); diff != "" {
				t.Errorf("%s call %d:\n%s", version, i+1, diff)
			}
		}
	}
	for _, bad := range []string{"", "{", `{"jobs":[{"job_id":-1}]}`, `{"jobs":[{"job_id":1,"nodes":"a["}]}`} {
		if _, err := ParseResumeFile([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
