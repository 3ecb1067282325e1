package cyclecloud

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a password. Whatever prints, logs or encodes it shows
// "[redacted]"; only the conversion string(s) gives the text.
type Secret string

// Credential is a CycleCloud-local user for HTTP Basic authentication, the
// only kind documented for this API (how-to/use-rest-api). A user made for
// this purpose with the role cyclecloud_access is what Microsoft's own
// scheduler integrations ask for.
type Credential struct {
	User     string
	Password Secret
}

// String hides the text.
func (Secret) String() string { return redacted }

// GoString hides the text from %#v.
func (Secret) GoString() string { return redacted }

// Format hides the text from every verb, %x and %q included.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue hides the text from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the text from encoders such as JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
