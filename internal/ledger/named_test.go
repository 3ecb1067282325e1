package ledger_test

import (
	"net/http"
	"testing"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// A row that could not be read is no missing row: taken for one, the node would
// count as one that has no VM.
func TestANodeThatCannotBeReadByNameIsNotMissing(t *testing.T) {
	for status, want := range map[int]fault.Kind{503: fault.Transient, 429: fault.Transient, 403: fault.Denied} {
		store := mustOpen(t, ledger.Config{Endpoint: "https://tables.example", Credential: token("k"), Client: once(func(r *http.Request) (*http.Response, error) {
			return answer(r, status, ""), nil
		})})
		rows, err := store.NodesNamed(t.Context(), "c1", []string{"n1", "n2", "n3"})
		if err == nil || fault.Of(err) != want || rows != nil {
			t.Errorf("status %d: rows %v, error %v (%v), want %v", status, rows, err, fault.Of(err), want)
		}
	}
}

func TestATableThatIsGoneHasNoNodesByName(t *testing.T) {
	m := ledger.NewMemory()
	m.DropTables()
	if rows, err := m.NodesNamed(t.Context(), "c1", []string{"n1"}); err != nil || len(rows) > 0 {
		t.Errorf("rows %v, error %v", rows, err)
	}
}
