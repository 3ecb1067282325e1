package heap_test

import (
	"runtime/debug"
	"testing"

	"github.com/slurmburst/slurmburst/internal/heap"
)

func TestAnAdminsBoundsPrevail(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
	for _, c := range []struct {
		name        string
		environment map[string]string
		percent     int
		limit       int64
	}{
		{"nothing set", nil, 400, 1 << 30},
		{"GOGC set", map[string]string{"GOGC": "100"}, 100, 1 << 30},
		{"GOMEMLIMIT set", map[string]string{"GOMEMLIMIT": "300MiB"}, 400, limit},
	} {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(limit)
		heap.Trade(func(name string) string { return c.environment[name] }, 400, 1<<30)
		gotPercent, gotLimit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
		if gotPercent != c.percent || gotLimit != c.limit {
			t.Errorf("%s: %d percent and %d bytes, want %d and %d", c.name, gotPercent, gotLimit, c.percent, c.limit)
		}
	}
}
