package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/slurmburst/slurmburst/local/world"
)

// tables is what the product's own tables say. They are read as an admin
// would, by OData, and once by the HTTP API.
type tables struct {
	actions        map[string]int // targets by kind of action
	decisions      int
	decisionsByAPI int
	present        int
	powerDowns     int
	openIntents    int
	released       map[string]bool // jobs that Slurm was made to release
	lastSequence   int64
}

func (t tables) targets(kind string) int { return t.actions[kind] }

func readTables(ctx context.Context, w *world.World) (tables, error) {
	t := tables{actions: map[string]int{}, released: map[string]bool{}}
	client, err := w.Tables()
	if err != nil {
		return t, err
	}
	for name, take := range map[string]func(map[string]any) error{
		"burstdecisions": t.decision, "burstnodes": t.node, "burstcommands": t.command, "burstclusters": t.cluster,
	} {
		if err := eachRow(ctx, client, name, take); err != nil {
			return t, fmt.Errorf("read %s: %w", name, err)
		}
	}
	t.decisionsByAPI, err = countByAPI(ctx, w, "decisions")
	return t, err
}

// stillTables reads the tables until nothing was decided between its two ways of
// reading them and no snapshot is under way: snapshots and timers go on while the
// demo counts.
func stillTables(ctx context.Context, w *world.World) (tables, error) {
	limit, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		t, err := readTables(ctx, w)
		still := t.decisions == t.decisionsByAPI && t.lastSequence == int64(w.Bus.Stats()["queue-pressure"].Sent)
		if err != nil || still || sleep(limit, time.Second) != nil {
			return t, err
		}
	}
}

func eachRow(ctx context.Context, client *aztables.ServiceClient, table string, take func(map[string]any) error) error {
	pager := client.NewClient(table).NewListEntitiesPager(nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, raw := range page.Entities {
			row := map[string]any{}
			if err := json.Unmarshal(raw, &row); err != nil {
				return err
			}
			if err := take(row); err != nil {
				return err
			}
		}
	}
	return nil
}

func text(row map[string]any, column string) string {
	s, _ := row[column].(string)
	return s
}

func (t *tables) decision(row map[string]any) error {
	if text(row, "Trigger") == "" {
		return nil // a continuation of a decision's facts
	}
	t.decisions++
	var actions []struct {
		Kind    string   `json:"kind"`
		Targets []string `json:"targets"`
	}
	if record := chunks(row, "Actions"); record != "" {
		if err := json.Unmarshal([]byte(record), &actions); err != nil {
			return fmt.Errorf("actions of decision %s: %w", text(row, "RowKey"), err)
		}
	}
	for _, a := range actions {
		t.actions[a.Kind] += len(a.Targets)
	}
	return nil
}

// chunks joins a long text that is spread over columns: Name, Name02, Name03, …
func chunks(row map[string]any, column string) string {
	var b strings.Builder
	b.WriteString(text(row, column))
	for n := 2; ; n++ {
		more := text(row, fmt.Sprintf("%s%02d", column, n))
		if more == "" {
			return b.String()
		}
		b.WriteString(more)
	}
}

func (t *tables) node(row map[string]any) error {
	if s := text(row, "Supply"); s != "absent" && s != "unknown" {
		t.present++
	}
	return nil
}

func (t *tables) command(row map[string]any) error {
	kind := text(row, "Kind")
	if kind != "power_down_asap" && kind != "release_jobs" || text(row, "State") != "ok" {
		return nil
	}
	var targets []string
	if err := json.Unmarshal([]byte(chunks(row, "Targets")), &targets); err != nil {
		return fmt.Errorf("targets of command %s: %w", text(row, "RowKey"), err)
	}
	if kind == "power_down_asap" {
		t.powerDowns += len(targets)
		return nil
	}
	for _, job := range targets {
		t.released[job] = true
	}
	return nil
}

func (t *tables) cluster(row map[string]any) error {
	switch key := text(row, "RowKey"); {
	case strings.HasPrefix(key, "intent|"):
		t.openIntents++
	case key == "heartbeat":
		var n json.Number
		raw, err := json.Marshal(row["Sequence"])
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(strings.Trim(string(raw), `"`)), &n); err != nil {
			return err
		}
		if t.lastSequence, err = n.Int64(); err != nil {
			return err
		}
	}
	return nil
}

// openIntents counts the intents that are not finished.
func openIntents(ctx context.Context, w *world.World) (int, error) {
	client, err := w.Tables()
	if err != nil {
		return 0, err
	}
	var t tables
	err = eachRow(ctx, client, "burstclusters", t.cluster)
	return t.openIntents, err
}

// statePage is one page of the state API.
type statePage struct {
	Items []json.RawMessage `json:"items"`
	Next  string            `json:"next"`
}

// askState reads one page of a table of the demo's cluster.
func askState(ctx context.Context, w *world.World, table, top, token string) (statePage, error) {
	q := url.Values{"cluster": {w.Cluster}, "top": {top}, "token": {token}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.StateURL()+"/"+table+"?"+q.Encode(), nil)
	if err != nil {
		return statePage{}, fmt.Errorf("ask the state API: %w", err)
	}
	req.Header.Set("x-functions-key", w.Key())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return statePage{}, fmt.Errorf("ask the state API: %w", err)
	}
	defer resp.Body.Close()
	var page statePage
	if resp.StatusCode != http.StatusOK {
		return page, fmt.Errorf("ask the state API: status %d", resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return page, fmt.Errorf("ask the state API: %w", err)
	}
	return page, nil
}

// countByAPI counts the rows that the state function gives, page by page.
func countByAPI(ctx context.Context, w *world.World, table string) (int, error) {
	n, token := 0, ""
	for {
		page, err := askState(ctx, w, table, "1000", token)
		if err != nil {
			return 0, err
		}
		n += len(page.Items)
		if token = page.Next; token == "" {
			return n, nil
		}
	}
}
