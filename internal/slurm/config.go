package slurm

import (
	"context"
	"fmt"
	"strings"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Config is what slurmctld says about its own configuration.
type Config struct {
	ClusterName ClusterName
	// Version is SLURM_VERSION: "22.05.8".
	Version string
	// ControllerHosts are the host names of SlurmctldHost, the primary first.
	ControllerHosts []string
	// SlurmUser is the login name that slurmctld runs as.
	SlurmUser string
	// ResumeTimeout and SuspendTimeout are how long a node may take to
	// come up and to go away. From 25.05 on ResumeTimeout may be Unlimited.
	ResumeTimeout, SuspendTimeout TimeLimit
	// SuspendTime is how long a node may idle before Slurm suspends it.
	SuspendTime TimeLimit
	// ResumeProgram, SuspendProgram and ResumeFailProgram are empty where
	// not set.
	ResumeProgram, SuspendProgram, ResumeFailProgram string
	// ResumeRate and SuspendRate are nodes a minute; 0 means no bound.
	ResumeRate, SuspendRate int
	// PrivateData, SlurmctldParameters and SchedulerParameters are lists.
	PrivateData, SlurmctldParameters, SchedulerParameters []string
	// SuspendExcNodes and SuspendExcParts are never suspended by a timer.
	SuspendExcNodes, SuspendExcParts []string

	values map[string]string
}

// Value gives any other setting in Slurm's own words: "(null)" where not set.
func (c *Config) Value(key string) (value string, ok bool) {
	value, ok = c.values[key]
	return value, ok
}

// Config asks for slurmctld's configuration.
func (c *Client) Config(ctx context.Context) (Config, error) {
	text, err := c.queryText(ctx, "scontrol", "show", "config")
	if err != nil {
		return Config{}, err
	}
	return parseConfig(text)
}

const maxConfigValueBytes = 4096

func parseConfig(text string) (Config, error) {
	config := Config{values: map[string]string{}}
	for line := range strings.Lines(text) {
		key, value, found := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); !found || key == "" {
			continue
		}
		value = printable([]byte(strings.TrimSpace(value)), maxConfigValueBytes)
		if strings.HasPrefix(key, "SlurmctldHost[") {
			// localhost(127.0.0.1): the name, then the address
			host, _, _ := strings.Cut(value, "(")
			config.ControllerHosts = append(config.ControllerHosts, host)
		}
		if _, seen := config.values[key]; !seen {
			config.values[key] = value
		}
	}
	if err := config.fill(); err != nil {
		return Config{}, fault.New(fault.Invalid, "read scontrol show config", err)
	}
	return config, nil
}

func (c *Config) fill() error {
	c.ClusterName = ClusterName(c.text("ClusterName"))
	c.Version = c.text("SLURM_VERSION")
	if c.ClusterName == "" || c.Version == "" {
		return fmt.Errorf("ClusterName (%q) or SLURM_VERSION (%q) is missing", c.ClusterName, c.Version)
	}
	c.SlurmUser, _, _ = strings.Cut(c.text("SlurmUser"), "(") // root(0)
	c.ResumeProgram = c.text("ResumeProgram")
	c.SuspendProgram = c.text("SuspendProgram")
	c.ResumeFailProgram = c.text("ResumeFailProgram")
	c.PrivateData = commaList(c.text("PrivateData"))
	c.SlurmctldParameters = commaList(c.text("SlurmctldParameters"))
	c.SchedulerParameters = commaList(c.text("SchedulerParameters"))
	c.SuspendExcNodes = splitOutsideBrackets(c.text("SuspendExcNodes"))
	c.SuspendExcParts = commaList(c.text("SuspendExcParts"))
	for _, limit := range []struct {
		key  string
		into *TimeLimit
	}{
		{"ResumeTimeout", &c.ResumeTimeout},
		{"SuspendTimeout", &c.SuspendTimeout},
		{"SuspendTime", &c.SuspendTime},
	} {
		var err error
		if *limit.into, err = ParseTimeLimit(c.text(limit.key)); err != nil {
			return fmt.Errorf("%s: %w", limit.key, err)
		}
	}
	for _, rate := range []struct {
		key  string
		into *int
	}{
		{"ResumeRate", &c.ResumeRate},
		{"SuspendRate", &c.SuspendRate},
	} {
		number, _, _ := strings.Cut(c.text(rate.key), " ") // "300 nodes/min"
		n, ok := parseCount([]byte(number))
		if !ok {
			return fmt.Errorf("%s: %s is no rate", rate.key, quoteBounded(number))
		}
		*rate.into = n
	}
	return nil
}

// text gives a setting, empty where Slurm says "(null)".
func (c *Config) text(key string) string {
	if value := c.values[key]; value != "(null)" {
		return value
	}
	return ""
}

// splitOutsideBrackets splits a hostlist into its elements. SuspendExcNodes may
// carry counts ("htc-[1-9]:2"), so it is not a plain hostlist.
func splitOutsideBrackets(text string) []string {
	var (
		list  []string
		depth int
		start int
	)
	for i := range len(text) {
		switch text[i] {
		case '[':
			depth++
		case ']':
			depth--
		case ',':
			if depth <= 0 {
				list = append(list, text[start:i])
				start = i + 1
			}
		}
	}
	if start < len(text) {
		list = append(list, text[start:])
	}
	return list
}
