package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// ServiceBus says how to reach the namespace: by ConnectionString, or by
// Namespace with the identity of the machine or, if ClientID is set, with that
// user-assigned managed identity. Exactly one of the two is set; CustomEndpoint
// only with Namespace.
type ServiceBus struct {
	ConnectionString Secret
	// Namespace is fully qualified: ns.servicebus.windows.net.
	Namespace string
	ClientID  string
	// CustomEndpoint is host:port to dial in place of the namespace's own
	// address; empty for that one. TLS verifies the namespace's name all the
	// same.
	CustomEndpoint string
}

// Tables says how to reach the ledger's storage account: by ConnectionString,
// or by Endpoint with an identity as for ServiceBus.
type Tables struct {
	ConnectionString Secret
	// Endpoint is the table service's URL without a slash at the end.
	Endpoint string
	ClientID string
	// Prefix is put before every table's name; empty in production.
	Prefix string
}

// Credential is a user and password for CycleCloud.
type Credential struct {
	User     string
	Password Secret
}

const (
	wantBus      = "Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…"
	wantTables   = "DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…"
	wantGUID     = "the client id of a managed identity"
	wantDuration = "a duration from %s to %s"
)

// busSettings are the rows of a program that uses Service Bus. The names are
// the Functions host's own: its trigger reads the same ones.
func busSettings[T any](bus func(*T) *ServiceBus) []setting[T] {
	return []setting[T]{
		{
			name: "SERVICEBUS", secret: true, want: wantBus,
			about: "Connection string of the Service Bus namespace; leave it out to use an identity.",
			parse: func(t *T, v string) error { return busConnection(&bus(t).ConnectionString, v) },
		},
		{
			name: "SERVICEBUS__fullyQualifiedNamespace", want: "a host such as ns.servicebus.windows.net",
			about: "The namespace, reached with the machine's identity.",
			parse: func(t *T, v string) error { return matching(&bus(t).Namespace, hostForm, v) },
		},
		{
			name: "SERVICEBUS__clientId", want: wantGUID,
			about: "The user-assigned managed identity to use for the namespace.",
			parse: func(t *T, v string) error { return matching(&bus(t).ClientID, guidForm, v) },
		},
		{
			name: "SERVICEBUS__customEndpoint", defNote: "port 5671 of the namespace", want: "host:port",
			about: "The address to dial for the namespace, where DNS does not give it, as for a private endpoint; its certificate is that of the namespace.",
			parse: func(t *T, v string) error { return address(&bus(t).CustomEndpoint, v) },
		},
	}
}

// tablesSettings are the rows of a program that uses the ledger.
func tablesSettings[T any](tables func(*T) *Tables) []setting[T] {
	return []setting[T]{
		{
			name: "BURST_TABLES", secret: true, want: wantTables,
			about: "Connection string of the ledger's storage account; leave it out to use an identity.",
			parse: func(t *T, v string) error { return tablesConnection(&tables(t).ConnectionString, v) },
		},
		{
			name: "BURST_TABLES__endpoint", secret: true, want: "https://account.table.core.windows.net",
			about: "The table service, reached with the machine's identity.",
			parse: func(t *T, v string) error { return endpoint(&tables(t).Endpoint, v) },
		},
		{
			name: "BURST_TABLES__clientId", want: wantGUID,
			about: "The user-assigned managed identity to use for the tables.",
			parse: func(t *T, v string) error { return matching(&tables(t).ClientID, guidForm, v) },
		},
		{
			name: "BURST_TABLE_PREFIX", want: "a letter and at most 39 letters and digits",
			about: "Put before the name of every table, so that several apps can share an account.",
			parse: func(t *T, v string) error { return matching(&tables(t).Prefix, tableForm, v) },
		},
	}
}

// companion is a setting that goes only with an address.
type companion struct{ name, value string }

// oneWay checks that a service is reached either by secret or by address, and
// that what goes with an address is not given without one.
func oneWay(secret Secret, name, address, addressName string, companions ...companion) []error {
	var errs []error
	switch {
	case secret.IsSet() && address != "":
		errs = append(errs, fmt.Errorf("%s: is given together with %s (got both, want one)", name, addressName))
	case !secret.IsSet() && address == "":
		errs = append(errs, fmt.Errorf("%s: is missing (got neither it nor %s, want one)", name, addressName))
	case address == "":
		for _, c := range companions {
			if c.value != "" {
				errs = append(errs, fmt.Errorf("%s: has no use (got %s, want %s)", c.name, name, addressName))
			}
		}
	}
	return errs
}

// check reports what is wrong with the whole; a value that was refused
// already is not reported as missing too.
func (s ServiceBus) check(getenv func(string) string) []error {
	if s.ConnectionString.IsSet() != (getenv("SERVICEBUS") != "") ||
		(s.Namespace != "") != (getenv("SERVICEBUS__fullyQualifiedNamespace") != "") {
		return nil
	}
	return oneWay(s.ConnectionString, "SERVICEBUS", s.Namespace, "SERVICEBUS__fullyQualifiedNamespace",
		companion{"SERVICEBUS__clientId", s.ClientID}, companion{"SERVICEBUS__customEndpoint", s.CustomEndpoint})
}

func (t Tables) check(getenv func(string) string) []error {
	if t.ConnectionString.IsSet() != (getenv("BURST_TABLES") != "") ||
		(t.Endpoint != "") != (getenv("BURST_TABLES__endpoint") != "") {
		return nil
	}
	return oneWay(t.ConnectionString, "BURST_TABLES", t.Endpoint, "BURST_TABLES__endpoint",
		companion{"BURST_TABLES__clientId", t.ClientID})
}

// credentials reads every BURST_CREDENTIAL_<NAME>, keyed by NAME in lower case.
func credentials(getenv func(string) string, environ []string) (map[string]Credential, []error) {
	found := map[string]Credential{}
	var errs []error
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, credentialPrefix) {
			continue
		}
		value := getenv(name)
		user, password, ok := strings.Cut(value, ":")
		switch {
		case value == "": // unset
		case !credForm.MatchString(name):
			errs = append(errs, fmt.Errorf("%s: is not well-formed as a name (want %s and at most 31 of A-Z, 0-9 and _)", shorten(name), credentialPrefix))
		case !ok || user == "" || password == "" || len(value) > maxValue:
			errs = append(errs, fmt.Errorf("%s: is not a credential (got %s, want user:password)", name, redacted))
		default:
			found[strings.ToLower(strings.TrimPrefix(name, credentialPrefix))] = Credential{User: user, Password: NewSecret(password)}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return found, errs
}

// Credential gives the user and password that a policy names, or an error of
// kind fault.Invalid that names the missing setting.
func (a App) Credential(name string) (Credential, error) {
	if c, ok := a.Credentials[name]; ok {
		return c, nil
	}
	return Credential{}, fault.Newf(fault.Invalid, "%s%s: is missing (a policy names it; want user:password)",
		credentialPrefix, strings.ToUpper(shorten(name)))
}
