package policy

import (
	"net"
	"net/url"
	"regexp"
	"strings"

	"cel.dev/cel-go/cel"
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
	d := Document{
		MaxActAge: DefaultMaxActAge, Mode: ModeActive, TimeZone: DefaultTimeZone,
		Breaker: Breaker{First: DefaultBreakerFirst, Max: DefaultBreakerMax},
	}
	p.document(&d).read("", root)
	p.finish(&d)
	p.check(d)
	if err := p.err(); err != nil {
		return Document{}, fault.New(fault.Invalid, "read policy", err)
	}
	return d, nil
}

type parsing struct {
	reader
	expand func(string) ([]burst.NodeName, error)
	// env compiles the rules' expressions; nil until there is one.
	env *cel.Env
}

// url is the base of an https server, or of an http server on this machine.
func (p *parsing) url(into *string) form {
	return form{
		read:   func(path string, n ast.Node) { *into = p.readURL(path, n) },
		schema: schema{"type": "string", "pattern": "^https?://[^@?#]+$"},
		want:   "https://host[:port]",
	}
}

func (p *parsing) readURL(path string, n ast.Node) string {
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

// nodes is a hostlist.
func (p *parsing) nodes(into *[]burst.NodeName) form {
	return form{
		read:   func(path string, n ast.Node) { *into = p.readNodes(path, n) },
		schema: schema{"type": "string", "pattern": hostlistForm.re.String()},
		want:   hostlistForm.want,
	}
}

// readNodes expands the hostlist and checks each name. It gives nothing when
// anything is wrong with it.
func (p *parsing) readNodes(path string, n ast.Node) []burst.NodeName {
	var list string
	p.text(&list, hostlistForm).read(path, n)
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
