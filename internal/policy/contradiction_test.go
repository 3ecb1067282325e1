package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/policy"
)

// change gives the whole file with replacements, each of which must be found.
func change(t *testing.T, oldnew ...string) string {
	t.Helper()
	text := whole
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(text, oldnew[i]) {
			t.Fatalf("the file lacks %q", oldnew[i])
		}
		text = strings.Replace(text, oldnew[i], oldnew[i+1], 1)
	}
	return text
}

// refusal is a change of the whole file and the problem that it makes.
type refusal struct {
	name, old, new string
	// want is the whole error.
	want string
	// bySchema says that the JSON Schema refuses it too; the rest is about
	// what one value says of another, or about ranges of texts.
	bySchema bool
}

const (
	cluster = "  - {scope: cluster, period: month, soft: 1000, medium: 1500.50, mediumJobCost: 20, hard: 2000}"
	daily   = "  - {scope: nodearray, name: hpc, period: day, hard: 100}"
	pricing = "price: {onDemand: 0.384, spot: 0.1}"
	owner   = `1 to 64 of A-Z, a-z, 0-9 and . _ @ + \ -`
)

var refusals = []refusal{
	// Values that are wrong by themselves.
	{"an unknown mode", "mode: shadow", "mode: dry", `line 8: mode: is not a known word (got "dry", want one of active, shadow)`, true},
	{"an unknown zone", "Europe/Berlin", "Europe/Bonn", `line 11: timeZone: is not known (got "Europe/Bonn", want a name of the IANA time zone database such as Europe/Berlin)`, false},
	{"the machine's own zone", "Europe/Berlin", "Local", `line 11: timeZone: is not known (got "Local", want a name of the IANA time zone database such as Europe/Berlin)`, false},
	{"a path for a zone", "Europe/Berlin", "../../etc/passwd", `line 11: timeZone: is not well-formed (got "../../etc/passwd", want a name of the IANA time zone database such as Europe/Berlin)`, true},
	{"a currency in words", "EUR", "Euro", `line 12: currency: is not well-formed (got "Euro", want three capitals such as EUR)`, true},
	{"a key of version 2", "currency: EUR", "currency: EUR\nregions: []", `line 13: unknown key "regions" (want one of ` + keys + `)`, true},
	{"an unknown key deep down", "stepUp: {nodes: 2,", "stepUp: {node: 2,", "line 26: nodearrays[0].stepUp: unknown key \"node\" (want one of nodes, every)\nline 26: nodearrays[0].stepUp.nodes: is missing", true},
	{"a price with a unit", "onDemand: 0.384", "onDemand: 0.384 EUR", `line 20: nodearrays[0].price.onDemand: is not money in range (got "0.384 EUR", want an amount such as 0.384, above 0, at most 1000, at most six decimal places)`, true},
	{"a price in scientific notation", "onDemand: 0.384", "onDemand: 3e1", `line 20: nodearrays[0].price.onDemand: is not money in range (got "3e1", want an amount such as 0.384, above 0, at most 1000, at most six decimal places)`, true},
	{"a price below a millionth", "spot: 0.1}", "spot: 0.0000001}", `line 20: nodearrays[0].price.spot: is not money in range (got "0.0000001", want an amount such as 0.384, above 0, at most 1000, at most six decimal places)`, false},
	{"a price below nothing", "spot: 0.1}", "spot: -0.1}", `line 20: nodearrays[0].price.spot: is not money in range (got "-0.1", want an amount such as 0.384, above 0, at most 1000, at most six decimal places)`, true},
	{"a price of nothing", "spot: 0.1}", "spot: 0}", `line 20: nodearrays[0].price.spot: is not money in range (got "0", want an amount such as 0.384, above 0, at most 1000, at most six decimal places)`, true},
	{"a price beyond all machines", "onDemand: 0.384", "onDemand: 1000.01", `line 20: nodearrays[0].price.onDemand: is not money in range (got "1000.01", want an amount such as 0.384, above 0, at most 1000, at most six decimal places)`, true},
	{"memory without a unit", "16GiB", "16", `line 22: nodearrays[0].memory: is not a size (got "16", want a whole number with MiB, GiB or TiB, at most 64TiB)`, true},
	{"memory of no machine", "16GiB", "65TiB", `line 22: nodearrays[0].memory: is not a size (got "65TiB", want a whole number with MiB, GiB or TiB, at most 64TiB)`, false},
	{"a boolean in words", "spot: true", "spot: yes", `line 19: nodearrays[0].spot: is not a boolean (got "yes", want true or false)`, true},
	{"a gate ajar", "gate: closed", "gate: ajar", `line 36: nodearrays[0].gate: is not a known word (got "ajar", want one of open, closed)`, true},
	{"a step faster than we look", "every: 1m", "every: 1s", `line 26: nodearrays[0].stepUp.every: is not a duration in range (got "1s", want 10s to 24h)`, false},
	{"kappa of nothing", "{rule: pressure, drain: 2h}", "{kappa: 0}", `line 50: overflow[0].waiting.kappa: is not a number in range (got "0", want a number, 0.0001 to 100)`, true},
	{"kappa below nothing", "{rule: pressure, drain: 2h}", "{kappa: -1}", `line 50: overflow[0].waiting.kappa: is not a number in range (got "-1", want a number, 0.0001 to 100)`, true},
	{"an absurd kappa", "{rule: pressure, drain: 2h}", "{kappa: 1e300}", `line 50: overflow[0].waiting.kappa: is not a number in range (got "1e300", want a number, 0.0001 to 100)`, true},
	{"kappa that is no number", "{rule: pressure, drain: 2h}", "{kappa: .nan}", `line 50: overflow[0].waiting.kappa: is not a plain value (got nan)`, true},
	{"a hostile account", "name: cfd, maxNodes", `name: "cfd;rm -rf /", maxNodes`, `line 57: accounts[0].name: is not well-formed (got "cfd;rm -rf /", want ` + owner + `, or * for all others)`, true},
	{"an account with an escape", "name: cfd, maxNodes", `name: "c\e[2J", maxNodes`, `line 57: accounts[0].name: is not well-formed (got "c\x1b[2J", want ` + owner + `, or * for all others)`, true},
	{"an endless user", `'LAB\root-user@lab'`, strings.Repeat("a", 65), `line 60: users[1].name: is not well-formed (got "` + strings.Repeat("a", 65) + `", want ` + owner + `, or * for all others)`, true},
	{"a budget of all accounts", "name: cfd, period", `name: "*", period`, `line 55: budgets[2].name: is not well-formed (got "*", want ` + owner + `)`, true},
	{"a schedule every minute", "0 20 * * MON-FRI", `"* 20 * * *"`, `line 34: nodearrays[0].schedule[0].cron: is not well-formed (got "* 20 * * *", want five fields of cron: a minute, hours, days of the month, months, days of the week)`, true},
	{"a schedule with a zone of its own", "0 20 * * MON-FRI", "CRON_TZ=UTC 0 20 * * *", `line 34: nodearrays[0].schedule[0].cron: is not well-formed (got "CRON_TZ=UTC 0 20 * * *", want five fields of cron: a minute, hours, days of the month, months, days of the week)`, true},
	{"a schedule in words", "0 20 * * MON-FRI", `"@daily"`, `line 34: nodearrays[0].schedule[0].cron: is not well-formed (got "@daily", want five fields of cron: a minute, hours, days of the month, months, days of the week)`, true},
	{"an hour that no day has", "0 20 * * MON-FRI", "0 25 * * *", `line 34: nodearrays[0].schedule[0].cron: is not a time that comes again (got "0 25 * * *"): end of range (25) above maximum (23): 25`, false},
	{"an opening of an instant", "for: 10h", "for: 1m", `line 34: nodearrays[0].schedule[0].for: is not a duration in range (got "1m", want 15m to 744h)`, false},

	// Contradictions.
	{"a window that never opens", "0 20 * * MON-FRI", "0 20 30 2 *", `line 34: nodearrays[0].schedule[0].cron: is not a time that comes again (got "0 20 30 2 *"): it never comes`, false},
	{"a window that never closes", "0 20 * * MON-FRI, for: 10h", "0 0 * * *, for: 25h", "line 33: nodearrays[0].schedule: is always open (want no schedule at all)", false},
	{"a hard budget below one node-hour", "name: hpc, period: day, hard: 100", "name: hpc, period: day, hard: 3.59", "line 54: budgets[1].hard: is less than one node-hour of the cheapest nodearray that it covers (got 3.59, want at least 3.6)", false},
	{"a hard budget below the cheapest node-hour", "soft: 1000, medium: 1500.50, mediumJobCost: 20, hard: 2000", "hard: 0.09", "line 53: budgets[0].hard: is less than one node-hour of the cheapest nodearray that it covers (got 0.09, want at least 0.1)", false},
	{"soft above medium", "soft: 1000,", "soft: 1501,", "line 53: budgets[0].medium: is less than soft (got 1500.5, want at least 1501)", false},
	{"medium above hard", "hard: 2000", "hard: 1500", "line 53: budgets[0].hard: is less than medium (got 1500, want at least 1500.5)", false},
	{"soft above hard", "medium: 1500.50, mediumJobCost: 20, hard: 2000", "hard: 999.999999", "line 53: budgets[0].hard: is less than soft (got 999.999999, want at least 1000)", false},
	{"medium without the cost of a job", "mediumJobCost: 20, ", "", "line 53: budgets[0].mediumJobCost: is missing: medium needs it", false},
	{"the cost of a job without medium", "medium: 1500.50, ", "", "line 53: budgets[0].medium: is missing: mediumJobCost has no meaning without it", false},
	{"a job that may cost more than all", "mediumJobCost: 20,", "mediumJobCost: 2001,", "line 53: budgets[0].mediumJobCost: is more than hard (got 2001, want at most 2000)", false},
	{"a budget that bounds nothing", ", hard: 100}", "}", "line 54: budgets[1]: bounds nothing (want soft, medium or hard)", false},
	{"a budget of an unknown nodearray", "name: hpc, period", "name: gpu, period", `line 54: budgets[1].name: is not a nodearray of this policy (got "gpu")`, false},
	{"a budget of no nodearray", "name: hpc, period", "period", "line 54: budgets[1].name: is missing: the scope nodearray needs it", false},
	{"a name for the cluster's budget", "scope: cluster,", "scope: cluster, name: lab,", "line 53: budgets[0].name: has no meaning for the scope cluster", false},
	{"two budgets of one thing", daily, daily + "\n" + strings.Replace(daily, "100", "200", 1), "line 55: budgets[2]: has the scope, name and period of budgets[1]", false},
	{
		"budgets without prices", `    price: {onDemand: "3.6"}` + "\n", "",
		"line 50: overflow[0].maxJobCost: needs the price of each nodearray of the rule (\"hpc\" has none)\n" +
			"line 52: budgets[0]: needs the price of each nodearray that it covers (\"hpc\" has none)\n" +
			"line 53: budgets[1]: needs the price of each nodearray that it covers (\"hpc\" has none)\n" +
			"line 54: budgets[2]: needs the price of each nodearray that it covers (\"hpc\" has none)", false,
	},
	{"a spot nodearray without a spot price", pricing, "price: {onDemand: 0.384}", "line 20: nodearrays[0].price.spot: is missing: the nodearray is spot", false},
	{
		"a spot nodearray without prices", "    " + pricing + "\n", "",
		"line 15: nodearrays[0].price: is missing: a spot nodearray needs price.spot\n" +
			"line 50: overflow[0].maxJobCost: needs the price of each nodearray of the rule (\"htc\" has none)\n" +
			"line 52: budgets[0]: needs the price of each nodearray that it covers (\"htc\" has none)\n" +
			"line 54: budgets[2]: needs the price of each nodearray that it covers (\"htc\" has none)", false,
	},
	{"a nodearray on demand with a spot price only", `{onDemand: "3.6"}`, "{spot: 1}", "line 41: nodearrays[1].price.onDemand: is missing: the nodearray is not spot", false},
	{"spot dearer than on demand", "spot: 0.1}", "spot: 0.385}", "line 20: nodearrays[0].price.spot: is more than onDemand (got 0.385, want at most 0.384)", false},
	{"an overflow to an unknown nodearray", "nodearrays: [htc, hpc]", "nodearrays: [htc, gpu]", `line 49: overflow[0].nodearrays[1]: is not a nodearray of this policy (got "gpu")`, false},
	{"an overflow to one nodearray twice", "nodearrays: [htc, hpc]", "nodearrays: [htc, htc]", `line 49: overflow[0].nodearrays[1]: is named twice ("htc")`, false},
	{"an overflow from the cloud", "partition: local", "partition: mpi", `line 48: overflow[0].partition: is in the cloud already ("mpi" is the partition of nodearray "hpc")`, false},
	{"a rule that is never reached", "    maxJobCost: 50\n", "  - {partition: local, nodearrays: [htc], when: job.batch}\n", `line 51: overflow[1]: is never reached: overflow[0] takes every job of "local"`, false},
	{"a number of another rule", "drain: 2h}", "drain: 2h, kappa: 1}", "line 50: overflow[0].waiting.kappa: has no meaning for the rule pressure", false},
	{"a rule without its number", ", drain: 2h}", "}", "line 50: overflow[0].waiting.drain: is missing: the rule pressure needs it", false},
	{"another rule without its number", "{rule: pressure, drain: 2h}", "{rule: wait}", "line 50: overflow[0].waiting.wait: is missing: the rule wait needs it", false},
	{"a cluster's limit above its nodes", "maxNodes: 5", "maxNodes: 6", "line 10: maxNodes: is more than all nodes (got 6, want 1 to 5)", false},
	{"an account's limit above all nodes", "cfd, maxNodes: 4", "cfd, maxNodes: 6", "line 57: accounts[0].maxNodes: is more than all nodes (got 6, want 1 to 5)", false},
	{"a step above the limit", "stepUp: {nodes: 2", "stepUp: {nodes: 3", "line 26: nodearrays[0].stepUp.nodes: is more than maxNodes (got 3, want 1 to 2)", false},
	{"a limit above the placement group", "maxPlacementGroup: 2", "maxPlacementGroup: 1", "line 44: nodearrays[1].maxNodes: is more than fits into the nodearray's placement group (got 2, want 1 to 1)", false},
	{"a boot longer than its deadline", "bootTime: 90s", "bootTime: 11m", "line 32: nodearrays[0].bootTime: is more than bootDeadline (got 11m, want at most 10m)", false},
	{"a first rest above the longest", "{first: 1m, max: 1h}", "{first: 3h}", "line 13: breaker: rests longer at first than at most (got first 3h and max 2h)", false},
	{"two shares of one user", "- {name: 'LAB", "- {name: '*', maxNodes: 1}\n  - {name: 'LAB", `line 60: users[1].name: is taken (got "*", which is also users[0])`, false},
	{"a share that bounds nothing", "cfd, maxNodes: 4", "cfd", "line 57: accounts[0].maxNodes: is missing: without it nothing is bounded", false},
	{"a default that bounds nothing", `{name: "*", maxNodes: 2}`, `{name: "*"}`, "line 59: users[0].maxNodes: is missing: without it nothing is bounded", false},
	{"a hard budget a millionth below a node-hour", "period: day, hard: 100", "period: day, hard: 3.599999", "line 54: budgets[1].hard: is less than one node-hour of the cheapest nodearray that it covers (got 3.599999, want at least 3.6)", false},
	{"a feature named twice", `"007"`, "avx512", `line 24: nodearrays[0].features[1]: is named twice ("avx512")`, false},
}

func TestContradictionsAreRefused(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			_, err := policy.Parse([]byte(change(t, r.old, r.new)), expand)
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff("read policy: "+r.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatIsJustEnoughIsAccepted(t *testing.T) {
	for _, tt := range [][2]string{
		{"period: day, hard: 100", "period: day, hard: 3.6"},
		{"soft: 1000,", "soft: 1500.5,"},
		{"hard: 2000", "hard: 1500.5"},
		{"mediumJobCost: 20", "mediumJobCost: 2000"},
		{"spot: 0.1}", "spot: 0.384}"},
		{"bootTime: 90s", "bootTime: 10m"},
		{"{first: 1m, max: 1h}", "{first: 1h, max: 1h}"},
		{"memory: 16GiB", "memory: 64TiB"},
	} {
		if _, err := policy.Parse([]byte(change(t, tt[0], tt[1])), expand); err != nil {
			t.Errorf("%s: %v", tt[1], err)
		}
	}
}

func TestMemoryIsToldInMiB(t *testing.T) {
	for text, want := range map[string]int64{"1MiB": 1, "1500MiB": 1500, "16GiB": 16 << 10, "1TiB": 1 << 20} {
		d, err := policy.Parse([]byte(change(t, "16GiB", text)), expand)
		if err != nil || d.Burst().Nodearrays[0].MemoryMiB != want {
			t.Errorf("%s: got %d, %v", text, d.Nodearrays[0].MemoryMiB, err)
		}
	}
}

func TestAllContradictionsAreToldAtOnce(t *testing.T) {
	_, err := policy.Parse([]byte(change(t, "soft: 1000,", "soft: 1501,", "drain: 2h}", "kappa: 1}", "cfd, maxNodes: 4", "cfd, maxNodes: 6")), expand)
	if err == nil || strings.Count(err.Error(), "\nline ")+1 != 4 {
		t.Errorf("got %v", err)
	}
}
