// Package connect opens what the programs' settings name: the ledger and
// Service Bus, by connection string or by identity. It holds nothing open
// itself.
package connect

import (
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/config"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// Ledger opens the tables. It sends nothing yet.
func Ledger(t config.Tables) (*ledger.Store, error) {
	c := ledger.Config{Prefix: t.Prefix + ledger.DefaultPrefix}
	if t.ConnectionString.IsSet() {
		c.ConnectionString = t.ConnectionString.Reveal()
		return ledger.Open(c)
	}
	credential, err := identity(t.ClientID)
	if err != nil {
		return nil, fmt.Errorf("identity for the tables: %w", err)
	}
	c.Endpoint, c.Credential = t.Endpoint, credential
	return ledger.Open(c)
}

// Bus opens Service Bus. It connects at the first call.
func Bus(s config.ServiceBus) (*bus.Client, error) {
	if s.ConnectionString.IsSet() {
		return bus.New(bus.Options{ConnectionString: s.ConnectionString.Reveal()})
	}
	credential, err := identity(s.ClientID)
	if err != nil {
		return nil, fmt.Errorf("identity for Service Bus: %w", err)
	}
	return bus.New(bus.Options{
		Namespace: s.Namespace, Credential: credential, Client: azservicebus.ClientOptions{CustomEndpoint: s.CustomEndpoint},
	})
}

// identity is the managed identity with the given client id, or else whatever
// the machine offers: an environment, a workload identity, the system's
// managed identity, the login of the Azure CLI.
func identity(clientID string) (azcore.TokenCredential, error) {
	if clientID != "" {
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(clientID)})
	}
	return azidentity.NewDefaultAzureCredential(nil)
}
