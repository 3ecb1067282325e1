package servicebusemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// clusterPlaceholder stands for the name of a cluster in a queue's name.
const clusterPlaceholder = "{cluster}"

// maxQueuesFile bounds the file in bytes.
const maxQueuesFile = 1 << 20

// LoadQueues reads queue settings from a JSON file that names them as Azure
// Resource Manager does, durations in ISO 8601. A queue whose name contains
// {cluster} becomes one queue per cluster, and none if there are no clusters. A
// setting that is not known here is an error. The error names the file and every
// queue and field that is wrong.
func LoadQueues(path string, clusters ...string) ([]QueueConfig, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read queues: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxQueuesFile+1))
	if err == nil && len(b) > maxQueuesFile {
		err = fmt.Errorf("more than %d bytes", maxQueuesFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read queues from %s: %w", path, err)
	}
	queues, err := parseQueues(b, clusters)
	if err != nil {
		return nil, fmt.Errorf("read queues from %s: %w", path, err)
	}
	return queues, nil
}

func parseQueues(b []byte, clusters []string) ([]QueueConfig, error) {
	var file map[string]json.RawMessage
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, fmt.Errorf("want one JSON object: %w", err)
	}
	var entries []map[string]json.RawMessage
	if err := json.Unmarshal(file["queues"], &entries); err != nil || len(entries) == 0 {
		return nil, errors.New(`queues: want a list of objects, at least one`)
	}
	var queues []QueueConfig
	var errs []error
	seen := make(map[string]bool)
	for i, entry := range entries {
		q, err := parseQueue(i, entry)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, q := range expand(q, clusters) {
			if err := q.withDefaults().check(); err != nil {
				errs = append(errs, err)
			}
			if seen[strings.ToLower(q.Name)] {
				errs = append(errs, fmt.Errorf("queue %q: name: listed twice (case does not count)", q.Name))
			}
			seen[strings.ToLower(q.Name)] = true
			queues = append(queues, q)
		}
	}
	return queues, errors.Join(errs...)
}

func expand(q QueueConfig, clusters []string) []QueueConfig {
	if !strings.Contains(q.Name, clusterPlaceholder) {
		return []QueueConfig{q}
	}
	var each []QueueConfig
	for _, cluster := range clusters {
		one := q
		one.Name = strings.ReplaceAll(q.Name, clusterPlaceholder, cluster)
		each = append(each, one)
	}
	return each
}

// queueFields says, for every setting, what it wants and where it goes.
var queueFields = map[string]struct {
	want string
	set  func(*QueueConfig, json.RawMessage) error
}{
	"name":                             {"a string", into(func(q *QueueConfig) *string { return &q.Name })},
	"requiresSession":                  {"true or false", into(func(q *QueueConfig) *bool { return &q.RequiresSession })},
	"deadLetteringOnMessageExpiration": {"true or false", into(func(q *QueueConfig) *bool { return &q.DeadLetterOnExpiration })},
	"maxDeliveryCount":                 {"a number above 0", into(func(q *QueueConfig) *int { return &q.MaxDeliveryCount })},
	"lockDuration":                     {wantDuration, period(func(q *QueueConfig) *time.Duration { return &q.LockDuration })},
	"defaultTimeToLive":                {wantDuration + " or empty", period(func(q *QueueConfig) *time.Duration { return &q.DefaultTTL })},
	"duplicateDetection":               {wantDuration + " or empty", period(func(q *QueueConfig) *time.Duration { return &q.DuplicateDetection })},
	"maxMessageSizeInKilobytes":        {"a number above 0", scaled(1<<10, func(q *QueueConfig) *int { return &q.MaxMessageSize })},
	"maxSizeInMegabytes":               {"a number above 0", scaled(1<<20, func(q *QueueConfig) *int { return &q.MaxSize })},
}

const wantDuration = "an ISO 8601 duration such as PT1M"

var errOutOfRange = errors.New("out of range")

// into decodes a JSON value to where it belongs.
func into[T any](at func(*QueueConfig) *T) func(*QueueConfig, json.RawMessage) error {
	return func(q *QueueConfig, raw json.RawMessage) error {
		if err := json.Unmarshal(raw, at(q)); err != nil {
			return err
		}
		if n, ok := any(*at(q)).(int); ok && n <= 0 {
			return errOutOfRange
		}
		return nil
	}
}

func scaled(unit int, at func(*QueueConfig) *int) func(*QueueConfig, json.RawMessage) error {
	return func(q *QueueConfig, raw json.RawMessage) error {
		if err := into(at)(q, raw); err != nil {
			return err
		}
		if *at(q) > maxQueueBytes/unit {
			return errOutOfRange
		}
		*at(q) *= unit
		return nil
	}
}

// maxQueueBytes is the largest queue the service offers, 80 GiB.
const maxQueueBytes = 80 << 30

func period(at func(*QueueConfig) *time.Duration) func(*QueueConfig, json.RawMessage) error {
	return func(q *QueueConfig, raw json.RawMessage) error {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		if s == "" {
			return nil
		}
		d, err := parseISODuration(s)
		*at(q) = d
		return err
	}
}

func parseQueue(i int, entry map[string]json.RawMessage) (QueueConfig, error) {
	var q QueueConfig
	name := fmt.Sprintf("queues[%d]", i)
	if json.Unmarshal(entry["name"], &q.Name) == nil && q.Name != "" {
		name = fmt.Sprintf("queue %q", q.Name)
	}
	var errs []error
	if q.Name == "" {
		errs = append(errs, fmt.Errorf("%s: name: missing", name))
	}
	for _, key := range slices.Sorted(maps.Keys(entry)) {
		f, ok := queueFields[key]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s: %s: not a known setting", name, key))
		case f.set(&q, entry[key]) != nil:
			errs = append(errs, fmt.Errorf("%s: %s: got %s, want %s", name, key, entry[key], f.want))
		}
	}
	return q, errors.Join(errs...)
}
