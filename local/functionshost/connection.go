package functionshost

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// busConnection is how a trigger reaches Service Bus: with a connection string,
// or with the namespace's name and a managed identity.
type busConnection struct {
	text string // the connection string: never logged

	namespace string
	identity  *managedIdentity
	// address replaces what DNS says of the namespace; roots are the authorities
	// that its certificate may come from, nil for those of the machine.
	address string
	roots   *x509.CertPool
}

// host is the host name of the namespace.
func (c busConnection) host() string {
	if m := endpointForm.FindStringSubmatch(c.text); m != nil {
		return m[1]
	}
	return c.namespace
}

// open makes a client; it dials nothing.
func (c busConnection) open(retry azservicebus.RetryOptions) (*azservicebus.Client, error) {
	options := &azservicebus.ClientOptions{RetryOptions: retry}
	if c.identity == nil {
		client, err := azservicebus.NewClientFromConnectionString(c.text, options)
		if err != nil {
			// The client's error may quote the connection string.
			return nil, errors.New("the connection string is not valid")
		}
		return client, nil
	}
	options.CustomEndpoint = c.address
	if c.roots != nil {
		// The name is still checked: an address alone proves nothing.
		options.TLSConfig = &tls.Config{RootCAs: c.roots, ServerName: c.namespace}
	}
	return azservicebus.NewClient(c.namespace, c.identity, options)
}

// connection finds a connection as the WebJobs SDK does: the name with the
// prefix AzureWebJobs first, then the bare name; a connection string before a
// namespace.
func (s settings) connection(name string) (busConnection, error) {
	for _, candidate := range []string{"AzureWebJobs" + name, "ConnectionStrings:" + name, name} {
		if v, ok := s.lookup(candidate); ok && v != "" {
			if !strings.Contains(v, "Endpoint=") {
				return busConnection{}, fmt.Errorf("setting %s is no Service Bus connection string", candidate)
			}
			return busConnection{text: v}, nil
		}
		if namespace, ok := s.lookup(candidate + "__fullyQualifiedNamespace"); ok && namespace != "" {
			return s.identityConnection(candidate, namespace)
		}
	}
	return busConnection{}, fmt.Errorf("setting %s is not set", name)
}

// identityConnection reads the settings below a name that has a namespace
// (Microsoft.Extensions.Azure, ClientFactory.CreateCredential). What the real
// host overlooks is an error here.
func (s settings) identityConnection(name, namespace string) (busConnection, error) {
	kind, _ := s.lookup(name + "__credential")
	clientID, _ := s.lookup(name + "__clientId")
	switch {
	case kind != "" && !strings.EqualFold(kind, "managedidentity"):
		return busConnection{}, fmt.Errorf("setting %s__credential is %q: only managedidentity is emulated", name, kind)
	case kind == "" && clientID != "":
		return busConnection{}, fmt.Errorf("setting %s__clientId has no effect without %s__credential=managedidentity: the host would use the system-assigned identity", name, name)
	}
	endpoint, _ := s.lookup("IDENTITY_ENDPOINT")
	header, _ := s.lookup("IDENTITY_HEADER")
	if endpoint == "" || header == "" {
		return busConnection{}, fmt.Errorf("setting %s__fullyQualifiedNamespace asks for an identity: IDENTITY_ENDPOINT and IDENTITY_HEADER, which the platform sets, do not say where one is", name)
	}
	roots, err := s.roots()
	if err != nil {
		return busConnection{}, err
	}
	return busConnection{namespace: namespace, identity: newManagedIdentity(endpoint, header, clientID), roots: roots}, nil
}

// roots reads the authorities of SSL_CERT_FILE, which .NET on Linux honours by
// way of OpenSSL.
func (s settings) roots() (*x509.CertPool, error) {
	file, _ := s.lookup("SSL_CERT_FILE")
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("setting SSL_CERT_FILE: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("setting SSL_CERT_FILE: %s holds no certificate", file)
	}
	return pool, nil
}
