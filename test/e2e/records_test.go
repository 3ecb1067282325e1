//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/slurmburst/slurmburst/local/cyclecloudsim"
)

// eachRow reads one of the product's tables as any OData client would.
func (s *site) eachRow(ctx context.Context, table string, take func(map[string]any)) error {
	client, err := s.Tables()
	if err != nil {
		return err
	}
	pager := client.NewClient(table).NewListEntitiesPager(nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("read %s: %w", table, err)
		}
		for _, raw := range page.Entities {
			row := map[string]any{}
			if err := json.Unmarshal(raw, &row); err != nil {
				return fmt.Errorf("read %s: %w", table, err)
			}
			take(row)
		}
	}
	return nil
}

// keepTables writes every table into the world's directory.
func (s *site) keepTables(ctx context.Context) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	client, err := s.Tables()
	if err != nil {
		s.Errorf("keep the tables: %v", err)
		return
	}
	for tables := client.NewListTablesPager(nil); tables.More(); {
		page, err := tables.NextPage(ctx)
		if err != nil {
			s.Errorf("keep the tables: %v", err)
			return
		}
		for _, table := range page.Tables {
			err := s.eachRow(ctx, *table.Name, func(row map[string]any) { _ = out.Encode(map[string]any{*table.Name: row}) }) // a buffer
			if err != nil {
				s.Errorf("keep the tables: %v", err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "tables.jsonl"), text.Bytes(), 0o600); err != nil {
		s.Errorf("keep the tables: %v", err)
	}
}

// regular hides what is no regular file or directory: sockets, links.
type regular struct{ fs.FS }

// ReadDir gives the entries that can be copied.
func (r regular) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(r.FS, name)
	var kept []fs.DirEntry
	for _, entry := range all {
		if entry.IsDir() || entry.Type().IsRegular() {
			kept = append(kept, entry)
		}
	}
	return kept, err
}

// page is one answer of the state API.
type page struct {
	Items []map[string]any `json:"items"`
	Next  string           `json:"next"`
	Error string           `json:"error"`
}

// ask sends one request to the state API.
func (s *site) ask(table string, query url.Values) (status int, answer page) {
	s.Helper()
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.StateURL()+"/"+table+"?"+query.Encode(), nil)
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("x-functions-key", s.Key())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatalf("ask the state API for %s: %v", table, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatalf("ask the state API for %s: %v", table, err)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		s.Fatalf("ask the state API for %s: status %d: %v: %.200s", table, resp.StatusCode, err, body)
	}
	return resp.StatusCode, answer
}

// rows reads a whole table by the state API, top rows a page.
func (s *site) rows(table string, top int, query url.Values) []map[string]any {
	s.Helper()
	q := url.Values{"cluster": {s.Cluster}, "top": {fmt.Sprint(top)}}
	for key, values := range query {
		q[key] = values
	}
	var all []map[string]any
	for {
		status, answer := s.ask(table, q)
		if status != http.StatusOK {
			s.Fatalf("ask the state API for %s: status %d: %s", table, status, answer.Error)
		}
		all = append(all, answer.Items...)
		if answer.Next == "" {
			return all
		}
		q.Set("token", answer.Next)
	}
}

// failures gives the rows of failures with a code.
func (s *site) failures(code string) []map[string]any {
	s.Helper()
	return s.rows("failures", 1000, url.Values{"code": {code}})
}

// ctl runs burstctl and gives what it printed.
func (s *site) ctl(args ...string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	cmd := s.Ctl(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("burstctl %v: %v: %s", args, err, stderr.String())
	}
	return string(out)
}

// mostNodes replays the simulator's journal: how many nodes of each nodearray
// CycleCloud had at most at any moment.
func (s *site) mostNodes() map[string]int {
	now, most := map[string]int{}, map[string]int{}
	for _, e := range s.Sim.Journal() {
		if e.Event == cyclecloudsim.Created {
			now[e.NodeArray]++
			most[e.NodeArray] = max(most[e.NodeArray], now[e.NodeArray])
		}
		if e.Event == cyclecloudsim.Terminated || e.Event == cyclecloudsim.Vanished {
			now[e.NodeArray]--
		}
	}
	return most
}

// abortedTwice names the nodes whose boot was aborted twice within five
// minutes, by slurmctld's log: a request to power down that is neither a drain
// nor a repeat was an abort.
func (s *site) abortedTwice() []string {
	s.Helper()
	last := map[string]time.Time{}
	var found []string
	for _, p := range s.log().PowerDowns {
		if p.Drained || p.Repeated {
			continue
		}
		if before, ok := last[p.Node]; ok && p.Time.Sub(before) < 5*time.Minute {
			found = append(found, p.Node)
		}
		last[p.Node] = p.Time
	}
	return found
}
