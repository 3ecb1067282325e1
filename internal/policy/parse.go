package policy

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/fault"
)

const (
	maxNodearrays = 64
	maxNodes      = 20_000 // in all nodearrays of one policy
)

var (
	// Slurm stores ClusterName in lower case, and the name is also a table
	// key, a session id and the end of a queue's name.
	clusterForm   = pattern{regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`), "1 to 40 of a-z, 0-9 and -, as Slurm's ClusterName"}
	ccClusterForm = pattern{regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$`), "a CycleCloud cluster name of at most 63 characters"}
	credentialFmt = pattern{regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`), "the end of a setting BURST_CREDENTIAL_<NAME> in lower case"}
	pinForm       = pattern{regexp.MustCompile(`^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$`), "64 hex digits, colons allowed"}
	pathForm      = pattern{regexp.MustCompile(`^[^\x00-\x1f]{1,1000}$`), "a path"}
	nameForm      = pattern{regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`), "1 to 63 of A-Z, a-z, 0-9, dot, - and _"}
	machineForm   = pattern{regexp.MustCompile(`^[A-Z][A-Za-z]*_[A-Za-z0-9_-]{1,60}$`), "an Azure VM size such as Standard_HB120rs_v3"}
	hostlistForm  = pattern{regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9,\[\]-]*$`), "a Slurm hostlist such as htc-[1-16]"}
	// A node's name becomes an Azure computer name: no dot, no underscore.
	nodeForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
)

// Parse reads one policy file. expand gives the names of a Slurm hostlist in
// their order; it is asked for each nodearray's nodes and must bound its own
// result. (It is passed in because this package knows no Slurm.) All problems
// are reported at once, each with its line, as one error of kind fault.Invalid.
func Parse[N ~string](data []byte, expand func(string) ([]N, error)) (Document, error) {
	return parse(data, func(list string) ([]burst.NodeName, error) {
		names, err := expand(list)
		nodes := make([]burst.NodeName, len(names))
		for i, name := range names {
			nodes[i] = burst.NodeName(name)
		}
		return nodes, err
	})
}

func parse(data []byte, expand func(string) ([]burst.NodeName, error)) (Document, error) {
	root, err := parseYAML(data)
	if err != nil {
		return Document{}, fault.New(fault.Invalid, "read policy", err)
	}
	p := parsing{reader: reader{lines: map[string]int{}}, expand: expand}
	d := p.document(root)
	p.checkTrust(d.CycleCloud)
	p.checkNodes(d.Nodearrays)
	p.checkPartitions(d.Nodearrays)
	if err := p.err(); err != nil {
		return Document{}, fault.New(fault.Invalid, "read policy", err)
	}
	return d, nil
}

type parsing struct {
	reader
	expand func(string) ([]burst.NodeName, error)
}

func (p *parsing) document(root ast.Node) Document {
	d := Document{MaxActAge: DefaultMaxActAge}
	p.mapping("", root, []field{
		{key: "version", read: p.version},
		{key: "cluster", read: p.text((*string)(&d.Cluster), clusterForm)},
		{key: "cyclecloud", read: func(path string, n ast.Node) { p.cyclecloud(&d.CycleCloud, path, n) }},
		// Above 15 minutes Service Bus has dropped the snapshot anyway.
		{key: "maxActAge", optional: true, read: p.duration(&d.MaxActAge, 10*time.Second, 15*time.Minute)},
		{key: "nodearrays", read: func(path string, n ast.Node) {
			p.sequence(path, n, maxNodearrays, func(path string, n ast.Node) {
				d.Nodearrays = append(d.Nodearrays, p.nodearray(path, n))
			})
		}},
	})
	return d
}

func (p *parsing) version(path string, n ast.Node) {
	if value, ok := p.scalar(path, n); ok && value != "1" {
		p.add(line(n), path, "is not a version that this program reads (got %s, want 1)", show(value))
	}
}

func (p *parsing) cyclecloud(c *CycleCloud, path string, n ast.Node) {
	p.mapping(path, n, []field{
		{key: "url", read: func(path string, n ast.Node) { c.URL = p.url(path, n) }},
		{key: "cluster", read: p.text(&c.Cluster, ccClusterForm)},
		{key: "credential", read: p.text(&c.Credential, credentialFmt)},
		{key: "pin", optional: true, read: p.text(&c.Pin, pinForm)},
		{key: "caFile", optional: true, read: p.text(&c.CAFile, pathForm)},
	})
	c.Pin = strings.ToLower(strings.ReplaceAll(c.Pin, ":", ""))
}

func (p *parsing) url(path string, n ast.Node) string {
	value, ok := p.scalar(path, n)
	if !ok {
		return ""
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		p.add(line(n), path, "is not a URL (got %s, want https://host[:port])", show(value))
	case u.User != nil:
		p.add(line(n), path, "holds a user or password (want it in the setting that credential names)")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		p.add(line(n), path, "has a query or fragment (got %s, want https://host[:port])", show(value))
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return strings.TrimRight(u.String(), "/")
	default:
		p.add(line(n), path, "would send the password in the clear (got %s, want https, or http on a loopback address)", show(value))
	}
	return ""
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (p *parsing) nodearray(path string, n ast.Node) Nodearray {
	const day = 24 * time.Hour
	var a Nodearray
	p.mapping(path, n, []field{
		{key: "name", read: p.text((*string)(&a.Name), nameForm)},
		{key: "partition", read: p.text(&a.Partition, nameForm)},
		{key: "nodes", read: func(path string, n ast.Node) { a.Nodes = p.nodes(path, n) }},
		{key: "machineType", read: p.text(&a.MachineType, machineForm)},
		{key: "placementGroup", optional: true, read: p.text(&a.PlacementGroup, nameForm)},
		{key: "maxNodes", read: p.count(&a.MaxNodes)},
		{key: "idleTimeout", read: p.duration(&a.IdleTimeout, 5*time.Second, day)},
		{key: "bootDeadline", read: p.duration(&a.BootDeadline, 10*time.Second, day)},
	})
	if a.MaxNodes > len(a.Nodes) && len(a.Nodes) > 0 {
		p.at(path+".maxNodes", "is more than the nodearray's nodes (got %d, want 1 to %d)", a.MaxNodes, len(a.Nodes))
	}
	return a
}

// nodes expands the hostlist and checks each name. It gives nothing when
// anything is wrong with it.
func (p *parsing) nodes(path string, n ast.Node) []burst.NodeName {
	var list string
	p.text(&list, hostlistForm)(path, n)
	if list == "" {
		return nil
	}
	nodes, err := p.expand(list)
	if err != nil {
		p.add(line(n), path, "is not a hostlist (got %s): %w", show(list), err)
		return nil
	}
	if len(nodes) == 0 || len(nodes) > maxNodes {
		p.add(line(n), path, "names a wrong number of nodes (got %d, want 1 to %d)", len(nodes), maxNodes)
		return nil
	}
	for _, node := range nodes {
		if !nodeForm.MatchString(string(node)) {
			p.add(line(n), path, "names a node that cannot be an Azure host (got %s, want at most 63 letters, digits and -)", show(string(node)))
			return nil
		}
	}
	return nodes
}

// checkTrust allows one proof of the server's identity, and only where there
// is a certificate to prove it.
func (p *parsing) checkTrust(c CycleCloud) {
	if c.Pin != "" && c.CAFile != "" {
		p.at("cyclecloud.caFile", "excludes pin (want one of them)")
	}
	if strings.HasPrefix(c.URL, "http:") && c.Pin+c.CAFile != "" {
		p.at("cyclecloud.url", "is http, which has no certificate for pin or caFile to check")
	}
}

// checkNodes holds names to one owner: a nodearray's name in the policy, a
// node's name in all nodearrays. Host names ignore case, so nodes do too.
func (p *parsing) checkNodes(arrays []Nodearray) {
	arrayAt := map[burst.NodearrayName]int{}
	owner := map[string]int{}
	total := 0
	for i, a := range arrays {
		path := fmt.Sprintf("nodearrays[%d]", i)
		if first, taken := arrayAt[a.Name]; taken && a.Name != "" {
			p.at(path+".name", "is taken (got %s, which is also nodearrays[%d])", show(string(a.Name)), first)
		} else {
			arrayAt[a.Name] = i
		}
		total += len(a.Nodes)
		for _, node := range a.Nodes {
			key := strings.ToLower(string(node))
			if first, taken := owner[key]; taken {
				p.at(path+".nodes", "names a node twice (%s is also in nodearrays[%d])", show(string(node)), first)
				break
			}
			owner[key] = i
		}
	}
	if total > maxNodes {
		p.at("nodearrays", "name too many nodes (got %d, want at most %d)", total, maxNodes)
	}
}

// checkPartitions lets several nodearrays share a partition only when none of
// them has a placement group: Slurm would give one job nodes of both, and an
// MPI job across two groups loses the network that the groups exist for.
func (p *parsing) checkPartitions(arrays []Nodearray) {
	for i, a := range arrays {
		for j, b := range arrays {
			if i != j && a.PlacementGroup != "" && a.Partition != "" && a.Partition == b.Partition {
				p.at(fmt.Sprintf("nodearrays[%d].placementGroup", i),
					"needs a partition of its own (%s also serves nodearrays[%d])", show(a.Partition), j)
				break
			}
		}
	}
}
