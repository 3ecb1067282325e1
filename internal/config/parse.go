package config

import (
	"errors"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

var (
	queueForm  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,198}[A-Za-z0-9])?$`)
	prefixForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,198}$`)
	// A table's name has at most 63 characters; our longest is 15.
	tableForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,39}$`)
	hostForm  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	guidForm  = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	cronForm  = regexp.MustCompile(`^[0-9A-Za-z*/, -]+$`)
	credForm  = regexp.MustCompile(`^BURST_CREDENTIAL_[A-Z][A-Z0-9_]{0,30}$`)

	ncrontab = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
)

// matching checks a text against a form.
func matching(into *string, form *regexp.Regexp, value string) error {
	if !form.MatchString(value) {
		return errForm
	}
	*into = value
	return nil
}

// duration reads a Go duration within bounds.
func duration(into *time.Duration, least, most time.Duration, value string) error {
	d, err := time.ParseDuration(value)
	if err != nil {
		return errors.New("is not a duration")
	}
	if d < least || d > most {
		return errors.New("is out of range")
	}
	*into = d
	return nil
}

// level reads a log level.
func level(into *slog.Level, value string) error {
	switch strings.ToLower(value) {
	case "debug":
		*into = slog.LevelDebug
	case "info":
		*into = slog.LevelInfo
	case "warn":
		*into = slog.LevelWarn
	case "error":
		*into = slog.LevelError
	default:
		return errors.New("is not a level")
	}
	return nil
}

// port reads a TCP port.
func port(into *int, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 65535 {
		return errors.New("is not a port")
	}
	*into = n
	return nil
}

// address reads a host, by name or number, with its TCP port.
func address(into *string, value string) error {
	host, text, err := net.SplitHostPort(value)
	var number int
	switch {
	case err != nil || net.ParseIP(host) == nil && !hostForm.MatchString(host):
		return errForm
	case port(&number, text) != nil:
		return errors.New("names no port")
	}
	*into = value
	return nil
}

// path reads a file name.
func path(into *string, value string) error {
	if strings.ContainsRune(value, 0) {
		return errForm
	}
	*into = value
	return nil
}

// schedule reads an NCRONTAB expression: five fields, or six with seconds.
// The host alone acts on it; it is checked here because a host that cannot
// read it starts without the function.
func schedule(into *string, value string) error {
	if !cronForm.MatchString(value) {
		return errForm
	}
	if _, err := ncrontab.Parse(value); err != nil {
		return errors.New("is not a schedule")
	}
	*into = value
	return nil
}

// busConnection reads an Azure Service Bus connection string.
func busConnection(into *Secret, value string) error {
	parts := fields(value)
	if !strings.HasPrefix(strings.ToLower(parts["endpoint"]), "sb://") {
		return errors.New("has no Endpoint=sb://…")
	}
	key := parts["sharedaccesskeyname"] != "" && parts["sharedaccesskey"] != ""
	if !key && parts["sharedaccesssignature"] == "" {
		return errors.New("has neither SharedAccessKeyName with SharedAccessKey nor SharedAccessSignature")
	}
	*into = NewSecret(value)
	return nil
}

// tablesConnection reads an Azure Storage connection string. The client in
// use, aztables, does not know the abbreviation UseDevelopmentStorage=true.
func tablesConnection(into *Secret, value string) error {
	parts := fields(value)
	if parts["usedevelopmentstorage"] != "" {
		return errors.New("abbreviates the emulator's address (spell out AccountName, AccountKey and TableEndpoint)")
	}
	if parts["accountname"] == "" || parts["accountkey"]+parts["sharedaccesssignature"] == "" {
		return errors.New("has no AccountName, or neither AccountKey nor SharedAccessSignature")
	}
	*into = NewSecret(value)
	return nil
}

// fields splits "Key=value;Key=value"; keys are lower-cased.
func fields(value string) map[string]string {
	parts := map[string]string{}
	for part := range strings.SplitSeq(value, ";") {
		key, text, _ := strings.Cut(part, "=")
		parts[strings.ToLower(strings.TrimSpace(key))] = text
	}
	return parts
}

// endpoint reads the URL of a table service. A query would be a shared access
// signature, which belongs into the connection string.
func endpoint(into *string, value string) error {
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errForm
	case u.Scheme == "https":
		*into = strings.TrimRight(value, "/")
		return nil
	}
	return errors.New("would send a token in the clear")
}

// absolute reads a file name that does not depend on the working directory.
func absolute(into *string, value string) error {
	if !filepath.IsAbs(value) {
		return errors.New("is not absolute")
	}
	return path(into, value)
}
