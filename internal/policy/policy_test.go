package policy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/policy"
)

// expand stands in for internal/slurm's: it knows "a,b" and "name-[1-3]".
func expand(list string) ([]string, error) {
	prefix, bounds, ranged := strings.Cut(list, "[")
	if !ranged {
		return strings.Split(list, ","), nil
	}
	var first, last int
	if _, err := fmt.Sscanf(bounds, "%d-%d]", &first, &last); err != nil {
		return nil, errors.New("unbalanced bracket")
	}
	var names []string
	for i := first; i <= last; i++ {
		names = append(names, fmt.Sprintf("%s%d", prefix, i))
	}
	return names, nil
}

const keys = "version, cluster, cyclecloud, mode, maxActAge, maxNodes, timeZone, currency, breaker, nodearrays, overflow, budgets, accounts, users"

const sound = `version: 1
cluster: lab
cyclecloud:
  url: https://cc.example.com:8443/
  cluster: HPC Burst
  credential: main
nodearrays:
  - name: htc
    partition: cloud
    nodes: htc-[1-3]
    machineType: Standard_D4s_v5
    maxNodes: 2
    idleTimeout: 5s
    bootDeadline: 10m
`

// defaults and nodearrayDefaults are what the keys that sound leaves out mean.
const (
	defaults = `maxActAge: 1m30s
mode: active
timeZone: UTC
breaker: {first: 5m, max: 2h}
`
	nodearrayDefaults = `    spot: false
    gate: open
    cooldownUp: 0s
    cooldownDown: 0s
    bootTime: 5m
`
)

func TestMaxActAgeDefaultsTo90Seconds(t *testing.T) {
	d, err := policy.Parse([]byte(sound), expand)
	if err != nil || d.MaxActAge != 90*time.Second {
		t.Errorf("got %v, %v", d.MaxActAge, err)
	}
}

func TestExampleIsSound(t *testing.T) {
	docs, err := policy.LoadPath("../../examples/policy.yaml", expand)
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != 1 || docs[0].Cluster != "onprem" || len(docs[0].Nodearrays) != 3 || len(docs[0].Nodearrays[0].Nodes) != 100 {
		t.Errorf("got %+v", docs)
	}
}

func TestVersionFollowsMeaningNotSpelling(t *testing.T) {
	parse := func(text string) string {
		d, err := policy.Parse([]byte(text), expand)
		if err != nil {
			t.Fatal(err)
		}
		return d.Version()
	}
	base := parse(sound)
	if len(base) != 12 {
		t.Errorf("version %q is not 12 characters", base)
	}
	same := map[string]string{
		"a comment":                 "# hello\n" + sound,
		"a byte order mark":         "\ufeff" + sound,
		"the line ends of Windows":  strings.ReplaceAll(sound, "\n", "\r\n"),
		"another hostlist":          strings.Replace(sound, "htc-[1-3]", `"htc-1,htc-2,htc-3"`, 1),
		"the defaults, written out": strings.Replace(sound, "nodearrays:", defaults+"nodearrays:", 1) + nodearrayDefaults,
	}
	for name, text := range same {
		if got := parse(text); got != base {
			t.Errorf("%s changes the version from %s to %s", name, base, got)
		}
	}
	if got := parse(strings.Replace(sound, "maxNodes: 2", "maxNodes: 3", 1)); got == base {
		t.Error("another limit has the same version")
	}
}

func TestParseRefuses(t *testing.T) {
	second := func(changes ...string) string { // a second nodearray with changes
		block := sound[strings.Index(sound, "  - name"):]
		return sound + strings.NewReplacer(append(changes, "name: htc", "name: htc2", "htc-[", "htd-[")...).Replace(block)
	}
	tests := []struct {
		name string
		text string
		want string // the whole error
	}{
		{"an empty file", "", "line 1: the file is empty, or holds only comments (want a policy)"},
		{"only a comment", "# nothing\n", "line 1: the file is empty, or holds only comments (want a policy)"},
		{"two documents", sound + "---\n" + sound, "line 1: the file holds 2 YAML documents (want exactly one, without --- in between)"},
		{"a list", "- a\n", "line 1: is not a mapping (got sequence)"},
		{"a tab", strings.Replace(sound, "  url", "\turl", 1), "line 4: a tab stands where YAML wants spaces"},
		{
			"two problems on one line, always in the same order",
			sound[:strings.Index(sound, "  - name")] + "  - {name: htc, partition: cloud, nodes: 'htc-[1-3]', machineType: Standard_D4s_v5, maxNodes: 2, idleTimeout: 5s," +
				" bootDeadline: 10m, stepDown: {nodes: 4, every: 1m}, stepUp: {nodes: 3, every: 1m}}\n",
			"line 8: nodearrays[0].stepUp.nodes: is more than maxNodes (got 3, want 1 to 2)\n" +
				"line 8: nodearrays[0].stepDown.nodes: is more than maxNodes (got 4, want 1 to 2)",
		},
		{"bad YAML", "version: [1\n", "line 1: sequence end token ']' not found"},
		{
			"an unknown key", strings.Replace(sound, "cluster: lab", "cluster: lab\nclutser: lab", 1),
			`line 3: unknown key "clutser" (want one of ` + keys + ")",
		},
		{
			"a key given twice", strings.Replace(sound, "    maxNodes: 2", "    maxNodes: 2\n    maxNodes: 3", 1),
			"line 13: nodearrays[0].maxNodes: is given twice (the first is on line 12)",
		},
		{"a missing key", strings.Replace(sound, "    maxNodes: 2\n", "", 1), "line 8: nodearrays[0].maxNodes: is missing"},
		{
			"another version", strings.Replace(sound, "version: 1", "version: 2", 1),
			`line 1: version: is not a version that this program reads (got "2", want 1)`,
		},
		{"an alias", strings.Replace(sound, "cluster: lab", "cluster: *x", 1), "line 2: cluster: is not a plain value (got alias)"},
		{
			"a merge key", strings.Replace(sound, "cluster: lab", "<<: {cluster: lab}", 1),
			"line 1: cluster: is missing\nline 2: unknown key \"<<\" (want one of " + keys + ")",
		},
		{
			"a capital in the cluster", strings.Replace(sound, "cluster: lab", "cluster: Lab", 1),
			`line 2: cluster: is not well-formed (got "Lab", want 1 to 40 of a-z, 0-9 and -, as Slurm's ClusterName)`,
		},
		{
			"http to another host", strings.Replace(sound, "https:", "http:", 1),
			`line 4: cyclecloud.url: would send the password in the clear (got "http://cc.example.com:8443/", want https, or http on a loopback address)`,
		},
		{
			"a password in the URL, which is not echoed", strings.Replace(sound, "https://", "https://user:hunter2@", 1),
			"line 4: cyclecloud.url: holds a user or password (want it in the setting that credential names)",
		},
		{
			"no URL", strings.Replace(sound, "https://cc.example.com:8443/", "cc", 1),
			`line 4: cyclecloud.url: is not a URL (got "cc", want https://host[:port])`,
		},
		{
			"a query", strings.Replace(sound, "8443/", "8443/?a=b", 1),
			`line 4: cyclecloud.url: has a query or fragment (got "https://cc.example.com:8443/?a=b", want https://host[:port])`,
		},
		{
			"a short pin", strings.Replace(sound, "  credential: main", "  credential: main\n  pin: abcd", 1),
			`line 7: cyclecloud.pin: is not well-formed (got "abcd", want 64 hex digits, colons allowed)`,
		},
		{
			"pin and caFile", strings.Replace(sound, "  credential: main", "  credential: main\n  caFile: ca.pem\n  pin: "+strings.Repeat("ab", 32), 1),
			"line 7: cyclecloud.caFile: excludes pin (want one of them)",
		},
		{
			"a pin without a certificate", strings.Replace(sound, "https://cc.example.com:8443/\n", "http://127.0.0.1:1\n  pin: "+strings.Repeat("ab", 32)+"\n", 1),
			"line 4: cyclecloud.url: is http, which has no certificate for pin or caFile to check",
		},
		{"no nodearrays", sound[:strings.Index(sound, "  - name")], "line 7: nodearrays: is not a list (got null)"},
		{"an empty list", sound[:strings.Index(sound, "\n  - name")] + " []\n", "line 7: nodearrays: has a wrong number of elements (got 0, want 1 to 64)"},
		{
			"a limit above the nodes", strings.Replace(sound, "maxNodes: 2", "maxNodes: 4", 1),
			"line 12: nodearrays[0].maxNodes: is more than the nodearray's nodes (got 4, want 1 to 3)",
		},
		{
			"a limit of nothing", strings.Replace(sound, "maxNodes: 2", "maxNodes: 0", 1),
			`line 12: nodearrays[0].maxNodes: is not a count (got "0", want a whole number, at least 1)`,
		},
		{
			"a short idle timeout", strings.Replace(sound, "idleTimeout: 5s", "idleTimeout: 4s", 1),
			`line 13: nodearrays[0].idleTimeout: is not a duration in range (got "4s", want 5s to 24h)`,
		},
		{
			"a duration without a unit", strings.Replace(sound, "bootDeadline: 10m", "bootDeadline: 600", 1),
			`line 14: nodearrays[0].bootDeadline: is not a duration in range (got "600", want 10s to 24h)`,
		},
		{
			"a hostlist that does not expand", strings.Replace(sound, "htc-[1-3]", "htc-[x-3]", 1),
			`line 10: nodearrays[0].nodes: is not a hostlist (got "htc-[x-3]"): unbalanced bracket`,
		},
		{
			"shell text for a hostlist", strings.Replace(sound, "htc-[1-3]", `"$(reboot)"`, 1),
			`line 10: nodearrays[0].nodes: is not well-formed (got "$(reboot)", want a Slurm hostlist such as htc-[1-16])`,
		},
		{
			"too many nodes", strings.Replace(sound, "htc-[1-3]", "htc-[1-20001]", 1),
			"line 10: nodearrays[0].nodes: names a wrong number of nodes (got 20001, want 1 to 20000)",
		},
		{
			"a node that Azure cannot name", strings.Replace(sound, "htc-[1-3]", "htc-", 1),
			`line 10: nodearrays[0].nodes: names a node that cannot be an Azure host (got "htc-", want at most 63 letters, digits and -)`,
		},
		{
			"a node listed twice", strings.Replace(sound, "htc-[1-3]", `"htc-1,htc-2,HTC-1"`, 1),
			`line 10: nodearrays[0].nodes: names a node twice ("HTC-1" is also in nodearrays[0])`,
		},
		{
			"a node in two nodearrays", second("htc-[1-3]", "htc-[3-4]"),
			`line 17: nodearrays[1].nodes: names a node twice ("htc-3" is also in nodearrays[0])`,
		},
		{
			"two nodearrays of one name", second("name: htc", "name: htc"),
			`line 15: nodearrays[1].name: is taken (got "htc", which is also nodearrays[0])`,
		},
		{
			"a placement group in a shared partition", second("    maxNodes", "    placementGroup: pg0\n    maxNodes"),
			`line 19: nodearrays[1].placementGroup: needs a partition of its own ("cloud" also serves nodearrays[0])`,
		},
		{"an escape in a comment", strings.Replace(sound, "cluster: lab", "cluster: lab # \x1b[2J", 1), "line 2: holds a control character, or is not UTF-8"},
		{"another encoding", sound + "# caf\xe9\n", "line 15: holds a control character, or is not UTF-8"},
		{"brackets without end", strings.Repeat("[\n", 100), "line 65: is too long, or its brackets are nested too deep"},
		{"list markers without end", strings.Repeat("- ", 20_000), "line 1: is too long, or its brackets are nested too deep"},
		{"a file without end", strings.Repeat("#", 1<<20), "file is too large (got 1048576 bytes, want at most 262144)"},
		{
			"several things, all told", "version: 3\ncluster: x_y\nnodearrays: 7\n",
			"line 1: version: is not a version that this program reads (got \"3\", want 1)\n" +
				"line 1: cyclecloud: is missing\n" +
				"line 2: cluster: is not well-formed (got \"x_y\", want 1 to 40 of a-z, 0-9 and -, as Slurm's ClusterName)\n" +
				"line 3: nodearrays: is not a list (got integer)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := policy.Parse([]byte(tt.text), expand)
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff("read policy: "+tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if fault.Of(err) != fault.Invalid {
				t.Errorf("kind is %v", fault.Of(err))
			}
		})
	}
}

func TestSharedPartitionWithoutPlacementGroupsIsAllowed(t *testing.T) {
	block := sound[strings.Index(sound, "  - name"):]
	text := sound + strings.NewReplacer("name: htc", "name: big", "htc-[", "big-[").Replace(block)
	if _, err := policy.Parse([]byte(text), expand); err != nil {
		t.Error(err)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	_, err := policy.Parse([]byte(sound+strings.Repeat("x: 1\n", 500)), expand)
	if err == nil || !strings.HasSuffix(err.Error(), "and 450 more problems") {
		t.Errorf("got %v", err)
	}
}

func TestLoadPathReadsADirectory(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := strings.NewReplacer("cluster: lab", "cluster: alps", "cluster: HPC Burst", "cluster: Other", "credential: main", "credential: main\n  caFile: ca.pem").Replace(sound)
	write("1.yaml", sound)
	write("2.yaml", other)
	write(".hidden.yaml", "not: read")
	write("ca.pem", "not a policy")
	docs, err := policy.LoadPath(dir, expand)
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != 2 || docs[0].Cluster != "alps" || docs[1].Cluster != "lab" {
		t.Fatalf("got %+v", docs)
	}
	if got := docs[0].CAPath(); got != filepath.Join(dir, "ca.pem") {
		t.Errorf("CA path is %s", got)
	}
	if got := docs[1].CAPath(); got != "" {
		t.Errorf("CA path of a policy without one is %s", got)
	}

	write("3.yaml", sound)
	write("4.yaml", strings.Replace(sound, "cluster: lab", "cluster: thief", 1))
	write("5.yaml", "version: 1\n")
	_, err = policy.LoadPath(dir, expand)
	for _, want := range []string{
		"3.yaml: cluster lab has a policy already, in " + filepath.Join(dir, "1.yaml"),
		`4.yaml: nodearray htc of CycleCloud cluster "HPC Burst" is driven already, by ` + filepath.Join(dir, "1.yaml"),
		"5.yaml: read policy: line 1: cluster: is missing",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}

	write("6.yml", sound)
	if _, err := policy.LoadPath(dir, expand); err == nil || !strings.Contains(err.Error(), "6.yml would be ignored") {
		t.Errorf("got %v", err)
	}
}

func TestLoadPathNamesWhatItCannotRead(t *testing.T) {
	empty := t.TempDir()
	for _, path := range []string{empty, filepath.Join(empty, "none.yaml")} {
		_, err := policy.LoadPath(path, expand)
		if err == nil || !strings.Contains(err.Error(), path) || fault.Of(err) != fault.Invalid {
			t.Errorf("%s: got %v (%v)", path, err, fault.Of(err))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte(whole))
	f.Add([]byte(rule("when: job.nodes < 4", "waiting: {rule: wait, wait: 1h}")))
	f.Add([]byte("version: 1\n? - - -\n  : *a\n"))
	f.Add([]byte("{a: &b [*b, !!c d], <<: {}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		began := time.Now()
		d, err := policy.Parse(data, expand)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("that took %v", took)
		}
		if err != nil {
			if fault.Of(err) != fault.Invalid {
				t.Errorf("kind is %v: %v", fault.Of(err), err)
			}
			return
		}
		checkSound(t, d)
		if changes := policy.Diff(d, d, fold); len(changes) > 0 {
			t.Errorf("it differs from itself: %v", changes)
		}
	})
}

// checkSound holds a policy that was accepted to what the core relies on.
func checkSound(t *testing.T, d policy.Document) {
	t.Helper()
	p := d.Burst()
	rates := map[string]burst.Money{}
	for _, a := range p.Nodearrays {
		rates[string(a.Name)] = a.Price
		if a.MaxNodes < 1 || a.MaxNodes > len(a.Nodes) || a.IdleTimeout <= 0 || a.BootDeadline <= 0 || a.BootTime <= 0 || a.BootTime > a.BootDeadline ||
			a.Spot && a.Price <= 0 || a.Price < 0 || a.StepUp.Nodes > a.MaxNodes || a.StepUp.Nodes > 0 && a.StepUp.Every <= 0 {
			t.Errorf("unsound nodearray %+v", a)
		}
		if a.Window != nil {
			now := time.Date(2026, time.July, 1, 12, 0, 0, 0, time.UTC)
			if _, changes := a.Window.At(now); !changes.After(now) {
				t.Errorf("a window that never changes: %+v", d)
			}
		}
	}
	for _, o := range p.Overflow {
		if o.When != nil {
			o.When.Judge(aJob())
		}
		if o.Waiting.Rule == burst.WaitingWeighted && !(o.Waiting.Kappa > 0) || o.Waiting.Rule == burst.WaitingWait && o.Waiting.Wait <= 0 || o.Waiting.Rule == burst.WaitingPressure && o.Waiting.Drain <= 0 {
			t.Errorf("unsound waiting rule %+v", o.Waiting)
		}
		for _, name := range o.Nodearrays {
			if rate, known := rates[string(name)]; !known || o.MaxJobCost > 0 && rate == 0 {
				t.Errorf("unsound rule %+v", o)
			}
		}
	}
	for _, b := range p.Budgets {
		if b.Soft+b.Medium+b.Hard <= 0 || b.Medium > 0 && (b.MediumJobCost <= 0 || b.Soft > b.Medium) || b.Hard > 0 && max(b.Soft, b.Medium) > b.Hard {
			t.Errorf("unsound budget %+v", b)
		}
	}
}
