package agent_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slurmburst/slurmburst/internal/event"
)

// The cloud is upgraded first. A command of the version to come is not ignored:
// the cloud hears that it was refused, and why, and an agent of the next version
// does not find it again as new.
func TestACommandOfTheVersionToComeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		runAgent(t, w.options())
		time.Sleep(time.Second)
		m, err := event.SlurmCommand{
			ID: cluster + "/12/01", Cluster: cluster, Kind: event.PowerUp, Generation: 12, Attempt: 1, Nodes: "htc-1", ExpiresAt: time.Now().Add(time.Minute),
		}.Encode(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		next := bytes.Replace(m.Body, []byte("slurm_command.v1"), []byte("slurm_command.v2"), 1)
		next = bytes.Replace(next, []byte(`"nodes":"htc-1"`), []byte(`"nodes":{"a":["htc-1"]}`), 1)
		w.bus.putBody(m.ID, next)
		w.bus.putBody("the same again", next)
		w.bus.putBody("another cluster's", bytes.ReplaceAll(next, []byte(cluster+"/12"), []byte("other/12")))
		w.bus.putBody("without an id", bytes.Replace(next, []byte(`"id":"`+cluster+`/12/01","cluster"`), []byte(`"cluster"`), 1))
		time.Sleep(5 * time.Second)
		q := w.bus.last(t)
		var mine []event.CommandResult
		for _, r := range q.CommandResults {
			if r.ID == cluster+"/12/01" {
				mine = append(mine, r)
			}
		}
		if len(mine) != 1 || mine[0].State != event.ResultRefused || mine[0].Generation != 12 ||
			!strings.Contains(mine[0].Error, "version 2") || !strings.Contains(mine[0].Error, "only version 1") {
			t.Errorf("results %+v, want one refusal that names both versions", q.CommandResults)
		}
		if len(of(w.bus, completed)) != 4 || len(w.slurm.done()) != 0 {
			t.Errorf("settled %v, done %v", of(w.bus, completed), w.slurm.done())
		}
		if len(q.Problems) != 1 || q.Problems[0].Code != "unreadable_command" {
			t.Errorf("problems %+v, want one: the command without an id cannot be answered", q.Problems)
		}
	})
}
