package policy

import (
	"regexp"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/slurmburst/slurmburst/internal/burst"
)

// The defaults of a policy file.
const (
	// DefaultMaxActAge is the age above which a snapshot may only be stored.
	DefaultMaxActAge    = 90 * time.Second
	DefaultTimeZone     = "UTC"
	DefaultBreakerFirst = 5 * time.Minute
	DefaultBreakerMax   = 2 * time.Hour
	// DefaultKappa is the weight of the default waiting rule, weighted.
	DefaultKappa = 0.1
	// DefaultBootTime is what a boot is expected to take, or else half of the
	// boot deadline where that is less.
	DefaultBootTime = 5 * time.Minute
)

const (
	day        = 24 * time.Hour
	maxRules   = 64
	maxBudgets = 256
	maxShares  = 2_000
)

var (
	zoneForm     = pattern{regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+/-]{0,63}$`), "a name of the IANA time zone database such as Europe/Berlin"}
	currencyForm = pattern{regexp.MustCompile(`^[A-Z]{3}$`), "three capitals such as EUR"}
	featureForm  = pattern{regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._=-]{0,62}$`), "1 to 63 of A-Z, a-z, 0-9, dot, =, - and _"}
	cronForm     = pattern{regexp.MustCompile(`^[0-5]?[0-9]( +[0-9A-Za-z*,/-]{1,40}){4}$`), "five fields of cron: a minute, hours, days of the month, months, days of the week"}
	// Slurm stores names of accounts and users in lower case or as they are; a
	// directory service may add a domain.
	ownerForm = pattern{regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+\\-]{0,63}$`), `1 to 64 of A-Z, a-z, 0-9 and . _ @ + \ -`}
	shareForm = pattern{regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9._@+\\-]{0,63}|\*)$`), ownerForm.want + `, or * for all others`}
)

func (p *parsing) document(d *Document) form {
	return p.keyed([]field{
		{key: "version", about: "Version of the file's form.", form: p.version()},
		{key: "cluster", about: "Slurm's ClusterName, in lower case. It names the cluster in every table.", form: p.text((*string)(&d.Cluster), clusterForm)},
		{key: "cyclecloud", about: "The CycleCloud server.", form: p.cyclecloud(&d.CycleCloud)},
		{key: "mode", optional: true, def: "active", about: "active carries decisions out; shadow decides and records everything, spends nothing and sends no command.", form: choice(&p.reader, &d.Mode, ModeActive, ModeShadow)},
		// Above 15 minutes Service Bus has dropped the snapshot anyway.
		{key: "maxActAge", optional: true, def: "90s", about: "A snapshot of the queue that is older than this is stored, not acted on.", form: p.duration(&d.MaxActAge, 10*time.Second, 15*time.Minute)},
		{key: "maxNodes", optional: true, def: "no bound", about: "How many nodes may be up at once in all nodearrays.", form: p.count(&d.MaxNodes, 0)},
		{key: "timeZone", optional: true, def: DefaultTimeZone, about: "Where a day and a month of a budget begin, and whose clock the schedules follow.", form: p.text(&d.TimeZone, zoneForm)},
		{key: "currency", optional: true, def: "not told", about: "What all prices and budgets are in, for people; nothing is converted.", form: p.text(&d.Currency, currencyForm)},
		{key: "breaker", optional: true, def: "first: 5m, max: 2h", about: "How long a nodearray that failed rests.", form: p.breaker(&d.Breaker)},
		{key: "nodearrays", about: "CycleCloud's nodearrays in rank order, each with its Slurm nodes.", form: listed(&p.reader, &d.Nodearrays, maxNodearrays, p.nodearray)},
		{key: "overflow", optional: true, def: "no job leaves its partition", about: "Which jobs that wait in an on-prem partition may use the cloud. The first rule of a partition whose when agrees with a job counts.", form: listed(&p.reader, &d.Overflow, maxRules, p.overflow)},
		{key: "budgets", optional: true, def: "no bound", about: "Bounds of the money that is committed within a period. All that apply to a job count.", form: listed(&p.reader, &d.Budgets, maxBudgets, p.budget)},
		{key: "accounts", optional: true, def: "no bound", about: "Bounds of what one account may have.", form: listed(&p.reader, &d.Accounts, maxShares, p.share)},
		{key: "users", optional: true, def: "no bound", about: "Bounds of what one user may have.", form: listed(&p.reader, &d.Users, maxShares, p.share)},
	})
}

func (p *parsing) version() form {
	return form{
		read: func(path string, n ast.Node) {
			if value, ok := p.scalar(path, n); ok && value != "1" {
				p.add(line(n), path, "is not a version that this program reads (got %s, want 1)", show(value))
			}
		},
		schema: schema{"enum": []any{1, "1"}}, want: "1",
	}
}

func (p *parsing) cyclecloud(c *CycleCloud) form {
	return p.keyed([]field{
		{key: "url", about: "The server's base. Plain http is accepted on a loopback address only.", form: p.url(&c.URL)},
		{key: "cluster", about: "CycleCloud's own name of the cluster.", form: p.text(&c.Cluster, ccClusterForm)},
		{key: "credential", about: "NAME in lower case, where the setting BURST_CREDENTIAL_NAME holds user:password.", form: p.text(&c.Credential, credentialFmt)},
		{key: "pin", optional: true, def: "the system's CAs", about: "SHA-256 of the server's certificate, which alone is then trusted. Excludes caFile.", form: p.text(&c.Pin, pinForm)},
		{key: "caFile", optional: true, def: "the system's CAs", about: "PEM certificates to trust, relative to the policy file.", form: p.text(&c.CAFile, pathForm)},
	})
}

func (p *parsing) breaker(b *Breaker) form {
	return p.keyed([]field{
		{key: "first", optional: true, def: "5m", about: "The rest after a first failure. It doubles with each failure in a row.", form: p.duration(&b.First, 10*time.Second, day)},
		{key: "max", optional: true, def: "2h", about: "The longest rest.", form: p.duration(&b.Max, 10*time.Second, 7*day)},
	})
}

func (p *parsing) nodearray(a *Nodearray) form {
	a.Gate = GateOpen
	return p.keyed([]field{
		{key: "name", about: "CycleCloud's name of the nodearray.", form: p.text((*string)(&a.Name), nameForm)},
		{key: "partition", about: "The Slurm partition that holds the nodes. Several nodearrays may serve one partition if none of them has a placementGroup.", form: p.text(&a.Partition, nameForm)},
		{key: "nodes", about: "Every name that the nodearray may ever create. A node belongs to one nodearray.", form: p.nodes(&a.Nodes)},
		{key: "machineType", about: "The Azure VM size.", form: p.text(&a.MachineType, machineForm)},
		{key: "spot", optional: true, def: "false", about: "The VMs are spot VMs, which Azure may take back; they cost price.spot.", form: p.boolean(&a.Spot)},
		{key: "price", optional: true, def: "not told", about: "What one node costs per hour. Budgets and maxJobCost need it.", form: p.price(&a.Price)},
		{key: "cpus", optional: true, def: "not told, which fits every job", about: "CPUs of one node, as in slurm.conf.", form: p.count(&a.CPUs, 4096)},
		{key: "memory", optional: true, def: "not told, which fits every job", about: "RealMemory of one node, as in slurm.conf.", form: p.memory(&a.MemoryMiB)},
		{key: "gpus", optional: true, def: "none", about: "GPUs of one node, as in slurm.conf. A job that asks for more stays.", form: p.count(&a.GPUs, 64)},
		{key: "features", optional: true, def: "none", about: "Features of the nodes, as in slurm.conf. A job that asks for another one stays.", form: listed(&p.reader, &a.Features, 64, func(f *string) form { return p.text(f, featureForm) })},
		{key: "placementGroup", optional: true, def: "none", about: "CycleCloud's placementGroupId, in which all nodes are created.", form: p.text(&a.PlacementGroup, nameForm)},
		{key: "maxPlacementGroup", optional: true, def: "no bound", about: "How many nodes fit into one placement group, so the most that one job may have.", form: p.count(&a.MaxPlacementGroup, maxNodes)},
		{key: "maxNodes", about: "How many of the nodes may be up at once.", form: p.count(&a.MaxNodes, 0)},
		{key: "stepUp", optional: true, def: "no bound", about: "How many nodes may be newly asked for within a time.", form: p.step(&a.StepUp)},
		{key: "stepDown", optional: true, def: "no bound", about: "How many idle nodes may be powered down within a time.", form: p.step(&a.StepDown)},
		{key: "cooldownUp", optional: true, def: "0s", about: "How long after an idle node was powered down no job is released to the nodearray.", form: p.duration(&a.CooldownUp, 0, day)},
		{key: "cooldownDown", optional: true, def: "0s", about: "How long after a create no idle node is powered down.", form: p.duration(&a.CooldownDown, 0, day)},
		{key: "idleTimeout", about: "How long a node may idle before it is powered down.", form: p.duration(&a.IdleTimeout, 5*time.Second, day)},
		{key: "bootDeadline", about: "How long a node may take from its creation to joining Slurm.", form: p.duration(&a.BootDeadline, 10*time.Second, day)},
		{key: "bootTime", optional: true, def: "the lesser of 5m and half of bootDeadline", about: "How long a boot is expected to take.", form: p.duration(&a.BootTime, time.Second, day)},
		{key: "schedule", optional: true, def: "always", about: "When the nodearray takes new jobs: whenever one of the openings is open. What runs goes on.", form: listed(&p.reader, &a.Schedule, maxOpenings, p.opening)},
		{key: "gate", optional: true, def: "open", about: "closed stops new starts in the partition. What runs goes on.", form: choice(&p.reader, &a.Gate, GateOpen, GateClosed)},
	})
}

func (p *parsing) price(m *Price) form {
	return p.keyed([]field{
		{key: "onDemand", optional: true, def: "not told", about: "Price of a node-hour on demand.", form: p.amount(&m.OnDemand, maxPrice)},
		{key: "spot", optional: true, def: "not told", about: "Price of a node-hour as a spot VM.", form: p.amount(&m.Spot, maxPrice)},
	})
}

func (p *parsing) step(s *Step) form {
	return p.keyed([]field{
		{key: "nodes", about: "How many nodes.", form: p.count(&s.Nodes, maxNodes)},
		{key: "every", about: "Within which time.", form: p.duration(&s.Every, 10*time.Second, day)},
	})
}

func (p *parsing) opening(o *Opening) form {
	return p.keyed([]field{
		{key: "cron", about: "When it opens, by the clock of timeZone; at most once an hour. A time that the clock skips opens when the clock has skipped it; one that comes twice opens the first time.", form: p.text(&o.Cron, cronForm)},
		{key: "for", about: "How long it stays open, in time that passes: a night in which the clock is set is no longer or shorter for it.", form: p.duration(&o.For, minOpening, maxOpening)},
	})
}

func (p *parsing) overflow(o *Overflow) form {
	o.Waiting = Waiting{Rule: burst.WaitingWeighted}
	return p.keyed([]field{
		{key: "partition", about: "The on-prem partition.", form: p.text(&o.Partition, nameForm)},
		{key: "nodearrays", about: "Where its jobs may go, in rank order: the next one is tried where one cannot take the job.", form: listed(&p.reader, &o.Nodearrays, maxNodearrays, func(name *burst.NodearrayName) form { return p.text((*string)(name), nameForm) })},
		{key: "when", optional: true, def: "every job", about: "A CEL expression over the variable job, which is true for the jobs that may go.", form: p.expression(&o.When)},
		{key: "waiting", optional: true, def: "rule: weighted, kappa: 0.1", about: "When a job may go.", form: p.waiting(&o.Waiting)},
		{key: "maxJobCost", optional: true, def: "no bound", about: "Keeps a job from a nodearray where its whole time limit would cost more.", form: p.amount(&o.MaxJobCost, maxMoney)},
	})
}

func (p *parsing) waiting(w *Waiting) form {
	return p.keyed([]field{
		{key: "rule", optional: true, def: "weighted", about: "weighted: once its wait is worth its cost in the cloud, wait >= kappa x nodes x (expected run + boot). immediate: at once. wait: after the time wait. pressure: while the work that waits would keep the partition's nodes busy for at least drain.", form: choice(&p.reader, &w.Rule, burst.WaitingWeighted, burst.WaitingImmediate, burst.WaitingWait, burst.WaitingPressure)},
		{key: "kappa", optional: true, def: "0.1", about: "Of the rule weighted: how much waiting one node-hour of the cloud is worth, in hours.", form: p.factor(&w.Kappa, 0.0001, 100)},
		{key: "wait", optional: true, def: "required by the rule wait", about: "Of the rule wait: how long a job waits.", form: p.duration(&w.Wait, time.Second, 30*day)},
		{key: "drain", optional: true, def: "required by the rule pressure", about: "Of the rule pressure: how long the partition would be busy.", form: p.duration(&w.Drain, time.Second, 30*day)},
	})
}

func (p *parsing) budget(b *Budget) form {
	return p.keyed([]field{
		{key: "scope", about: "Whose money: of the whole cluster, of a nodearray or of an account.", form: choice(&p.reader, &b.Scope, burst.ScopeCluster, burst.ScopeNodearray, burst.ScopeAccount)},
		{key: "name", optional: true, def: "required but by the scope cluster, which has none", about: "The nodearray or the account.", form: p.text(&b.Name, ownerForm)},
		{key: "period", about: "The time that it covers, by the clock of timeZone. Money counts when it is committed.", form: choice(&p.reader, &b.Period, burst.Hour, burst.Day, burst.Month)},
		{key: "soft", optional: true, def: "no bound", about: "Above it a warning is told, once per period.", form: p.amount(&b.Soft, maxMoney)},
		{key: "medium", optional: true, def: "no bound", about: "Above it only jobs go that cost at most mediumJobCost.", form: p.amount(&b.Medium, maxMoney)},
		{key: "mediumJobCost", optional: true, def: "required by medium", about: "What a job may cost above medium.", form: p.amount(&b.MediumJobCost, maxMoney)},
		{key: "hard", optional: true, def: "no bound", about: "Never passed by a new job. What runs goes on.", form: p.amount(&b.Hard, maxMoney)},
	})
}

func (p *parsing) share(s *Share) form {
	return p.keyed([]field{
		{key: "name", about: "The account or user; * stands for each one that no other entry names.", form: p.text(&s.Name, shareForm)},
		{key: "maxNodes", optional: true, def: "no bound, which exempts from *", about: "How many nodes it may have at once in all nodearrays.", form: p.count(&s.MaxNodes, 0)},
	})
}
