package world

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/slurmburst/slurmburst/local/ca"
	"github.com/slurmburst/slurmburst/local/identity"
	"github.com/slurmburst/slurmburst/local/servicebusemu"
)

const (
	// namespace is the Service Bus namespace of a world like Azure. No DNS knows
	// it, as none knows that of a private endpoint.
	namespace = "slurmburst.servicebus.test"
	// The identities: the app's and the head node's are user-assigned, that of
	// whoever runs burstctl is what a client without client id gets.
	appIdentity   = "5d3ef5a7-6f0c-4a0c-9f0e-000000000001"
	agentIdentity = "5d3ef5a7-6f0c-4a0c-9f0e-000000000002"
	adminIdentity = "5d3ef5a7-6f0c-4a0c-9f0e-000000000003"
)

// azure stands in for what Azure has and a machine has not: an identity
// endpoint, and an authority that everybody trusts.
type azure struct {
	identity  *identity.Server
	address   string // of the identity endpoint
	gate      *gate
	authority *ca.Authority
	roots     string // the authority's file
	client    *http.Client
}

// startIdentity makes the authority and serves the identities.
func (w *World) startIdentity(context.Context) error {
	a := &azure{roots: filepath.Join(w.Dir, "ca.pem")}
	var err error
	if a.authority, err = ca.New(); err != nil {
		return err
	}
	if err = a.authority.WriteFile(a.roots); err != nil {
		return err
	}
	a.identity, err = identity.New(identity.Config{ClientIDs: []string{appIdentity, agentIdentity}, SystemAssigned: adminIdentity})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a.address, a.gate = listener.Addr().String(), newGate(listener)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.authority.Pool()}}
	a.client = &http.Client{Transport: transport}
	w.azure = a
	w.serve(func() error { return a.identity.Serve(a.gate) })
	w.onStop(func(context.Context) error {
		transport.CloseIdleConnections()
		return a.identity.Close()
	})
	return nil
}

// secure makes the emulator speak TLS under the namespace's name, and take the
// tokens of the identity endpoint and nothing else.
func (a *azure) secure(config *servicebusemu.Config) error {
	leaf, err := a.authority.Leaf(namespace)
	if err != nil {
		return err
	}
	config.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
	config.Auth = &servicebusemu.Auth{Tokens: &servicebusemu.TokenAuth{
		Key: servicebusemu.KeySet("http://" + a.address + identity.KeysPath), Issuer: a.identity.Issuer(),
	}}
	return nil
}

// platform is what Azure puts into the environment of a process, and what the
// machine's administrator would do to have the authority trusted.
func (a *azure) platform() map[string]string {
	settings := a.identity.Environment(a.address)
	settings["SSL_CERT_FILE"] = a.roots
	return settings
}

// busSettings say how a program with an identity reaches Service Bus at an
// address.
func (w *World) busSettings(address, clientID string) map[string]string {
	if w.azure == nil {
		return map[string]string{"SERVICEBUS": servicebusemu.ConnectionString(address)}
	}
	settings := w.azure.platform()
	settings["SERVICEBUS__fullyQualifiedNamespace"] = namespace
	settings["SERVICEBUS__customEndpoint"] = address
	settings["SERVICEBUS__credential"] = "managedidentity"
	settings["SERVICEBUS__clientId"] = clientID
	return settings
}

// tableSettings say how a program with an identity reaches the tables. Without
// client id it has to find one by itself.
func (w *World) tableSettings(clientID string) map[string]string {
	if w.azure == nil {
		return map[string]string{"BURST_TABLES": w.tablesConnection}
	}
	settings := w.azure.platform()
	settings["BURST_TABLES__endpoint"] = w.tablesEndpoint
	if clientID != "" {
		settings["BURST_TABLES__clientId"] = clientID
	}
	return settings
}

// merged gives all settings in one map.
func merged(all ...map[string]string) map[string]string {
	result := map[string]string{}
	for _, settings := range all {
		maps.Copy(result, settings)
	}
	return result
}

// environment gives settings as a process gets them.
func environment(settings map[string]string) []string {
	var env []string
	for name, value := range settings {
		env = append(env, name+"="+value)
	}
	return env
}

// Tables opens the tables past the proxy and with the account's key, for whoever
// counts what the product wrote.
func (w *World) Tables() (*aztables.ServiceClient, error) {
	options := &aztables.ClientOptions{}
	if w.azure != nil {
		options.ClientOptions = policy.ClientOptions{Transport: w.azure.client}
	}
	client, err := aztables.NewServiceClientFromConnectionString(w.Azurite.ConnectionString(), options)
	if err != nil {
		return nil, fmt.Errorf("open tables: %w", err)
	}
	return client, nil
}

// CutIdentity takes the identity endpoint off the network: nobody gets a new
// token, and those that were given stay good until their end. It does nothing
// unless LikeAzure is set.
func (w *World) CutIdentity() {
	if w.azure != nil {
		w.azure.gate.cut()
	}
}

// RestoreIdentity ends CutIdentity.
func (w *World) RestoreIdentity() {
	if w.azure != nil {
		w.azure.gate.open()
	}
}

// Grants lists the tokens that were given out; none unless LikeAzure is set.
func (w *World) Grants() []identity.Grant {
	if w.azure == nil {
		return nil
	}
	return w.azure.identity.Grants()
}
