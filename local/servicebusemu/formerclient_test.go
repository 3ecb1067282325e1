//go:build formerclient

package servicebusemu

import (
	"reflect"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// These tests would prove nothing if former.mod had come to name the current client.
func TestTheFormerClientIsAnother(t *testing.T) {
	if _, ok := reflect.TypeFor[*azservicebus.Client]().MethodByName("NewListSessionsForQueuePager"); ok {
		t.Error("former.mod names a client that lists sessions, as only the current one does")
	}
}
