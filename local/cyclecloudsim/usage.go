package cyclecloudsim

import (
	"fmt"
	"net/url"
	"slices"
	"time"
)

// bill is the life of one VM, for the usage answer. to is zero while it runs.
type bill struct {
	array    *array
	size     Size
	from, to time.Time
}

type usageItem struct {
	Category string        `json:"category"`
	Node     string        `json:"node,omitempty"`
	Hours    float64       `json:"hours"` // core-hours
	Cost     *float64      `json:"cost,omitempty"`
	Details  []usageDetail `json:"details,omitempty"`
}

type usageDetail struct {
	VMSize    string   `json:"vm_size"`
	Hours     float64  `json:"hours"`
	CoreCount int      `json:"core_count"`
	Region    string   `json:"region"`
	Priority  string   `json:"priority"`
	OS        string   `json:"os"`
	Cost      *float64 `json:"cost,omitempty"`
}

type usageSpan struct {
	Start     string      `json:"start"`
	End       string      `json:"end"`
	Total     usageItem   `json:"total"`
	Breakdown []usageItem `json:"breakdown"`
}

type clusterUsage struct {
	Usage []usageSpan `json:"usage"`
}

// usage answers GET /clusters/{c}/usage from the lives of the VMs; mu is held.
func (s *Sim) usage(q url.Values) (clusterUsage, error) {
	from, to, err := timeframe(q, s.clock.Now().UTC())
	if err != nil {
		return clusterUsage{}, err
	}
	step := to.Sub(from)
	switch q.Get("granularity") {
	case "", "total":
	case "daily":
		step = 24 * time.Hour
	case "hourly":
		step = time.Hour
	default:
		return clusterUsage{}, fmt.Errorf("granularity %q is not total, daily or hourly", q.Get("granularity"))
	}
	if step > 0 && to.Sub(from)/step > 10_000 {
		return clusterUsage{}, fmt.Errorf("the timeframe holds more than 10000 spans")
	}
	out := clusterUsage{Usage: []usageSpan{}}
	for at := from; at.Before(to); at = at.Add(step) {
		end := at.Add(step)
		if end.After(to) {
			end = to
		}
		out.Usage = append(out.Usage, s.usageSpan(at, end, q.Get("expand") == "details"))
	}
	return out, nil
}

func timeframe(q url.Values, now time.Time) (from, to time.Time, err error) {
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	switch q.Get("timeframe") {
	case "", "monthToDate":
		return month, now, nil
	case "lastMonth":
		return month.AddDate(0, -1, 0), month, nil
	case "weekToDate":
		day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
		return day.AddDate(0, 0, -int(now.Weekday())), now, nil
	case "custom":
		if from, err = time.Parse(time.RFC3339, q.Get("from")); err != nil {
			return from, to, fmt.Errorf("from: %w", err)
		}
		if to, err = time.Parse(time.RFC3339, q.Get("to")); err != nil {
			return from, to, fmt.Errorf("to: %w", err)
		}
		return from, to, nil
	}
	return from, to, fmt.Errorf("timeframe %q is unknown", q.Get("timeframe"))
}

func (s *Sim) usageSpan(from, to time.Time, details bool) usageSpan {
	span := usageSpan{
		Start: from.Format(time.RFC3339), End: to.Format(time.RFC3339),
		Total: usageItem{Category: "cluster"}, Breakdown: []usageItem{},
	}
	for _, a := range s.arrays {
		item := usageItem{Category: "nodearray", Node: a.Name}
		for _, b := range a.buckets {
			hours := s.hours(a, b.MachineType, from, to)
			if hours == 0 {
				continue
			}
			d := usageDetail{
				VMSize: b.MachineType, Hours: hours * float64(b.Cores), CoreCount: b.Cores,
				Region: s.cfg.Region, Priority: "Regular", OS: "Linux",
			}
			if a.Spot {
				d.Priority = "Spot"
			}
			if !a.PriceFree {
				cost := hours * a.PricePerHour
				d.Cost = &cost
			}
			item.add(d.Hours, d.Cost)
			span.Total.add(d.Hours, d.Cost)
			if details {
				item.Details = append(item.Details, d)
			}
		}
		if item.Hours > 0 {
			span.Breakdown = append(span.Breakdown, item)
		}
	}
	if details {
		for _, item := range span.Breakdown {
			span.Total.Details = append(span.Total.Details, item.Details...)
		}
	}
	return span
}

func (i *usageItem) add(hours float64, cost *float64) {
	i.Hours += hours
	if cost == nil {
		return
	}
	sum := *cost
	if i.Cost != nil {
		sum += *i.Cost
	}
	i.Cost = &sum
}

// hours sums the VM-hours of one size within the span.
func (s *Sim) hours(a *array, machineType string, from, to time.Time) float64 {
	var sum time.Duration
	for _, b := range s.bills {
		if b.array != a || b.size.MachineType != machineType {
			continue
		}
		end := b.to
		if end.IsZero() {
			end = s.clock.Now()
		}
		first := slices.MaxFunc([]time.Time{b.from, from}, time.Time.Compare)
		last := slices.MinFunc([]time.Time{end, to}, time.Time.Compare)
		sum += max(last.Sub(first), 0)
	}
	return sum.Hours()
}
