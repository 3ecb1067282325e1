package agent_test

import (
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/agent"
	"github.com/slurmburst/slurmburst/internal/event"
)

// Two agents of one cluster at a real broker: one leads, the other takes over
// what the first has left, and no command is carried out twice.
func TestTheStandbyTakesOver(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	w := newWorld(t)
	start := func(host string) (stop func(), network *line) {
		network = newLine(t, c.addr)
		options := w.options()
		options.Host, options.Bus = host, agent.ServiceBus(connect(t, network.listener.Addr().String()))
		options.Poll, options.Heartbeat, options.Pokes, options.Logger = 200*time.Millisecond, 2*time.Second, nil, testLogger(t)
		return runAgent(t, options), network
	}
	_, network := start("first")
	c.await("the first agent leads", 0, func(q event.QueuePressure) bool { return q.Epoch == 1 && q.AgentHost == "first" })
	stopSecond, _ := start("second")
	c.orderOK(event.SlurmCommand{ID: "once", Kind: event.FenceNodes, Nodes: "htc-1"})
	for _, q := range c.taken() {
		if q.AgentHost != "first" {
			t.Errorf("%s published beside the first agent", q.AgentHost)
		}
	}

	network.cut() // the broker sees the connection end, and frees the session
	q := c.await("the second agent leads", 0, func(q event.QueuePressure) bool { return q.AgentHost == "second" })
	if q.Epoch != 2 || len(q.CommandResults) != 1 || q.CommandResults[0].ID != "once" {
		t.Errorf("the second agent began with epoch %d and results %+v", q.Epoch, q.CommandResults)
	}
	network.mend()
	from := len(c.taken())
	c.send(event.SlurmCommand{ID: "once", Kind: event.FenceNodes, Generation: 1, Attempt: 2, Nodes: "htc-1"})
	c.orderOK(event.SlurmCommand{ID: "again", Kind: event.FenceNodes, Generation: 5, Nodes: "htc-2"})
	c.await("two more heartbeats of the second agent", from+2, func(q event.QueuePressure) bool { return true })
	for _, q := range c.taken()[from:] {
		if q.AgentHost != "second" {
			t.Errorf("%s, back on the line, published beside the second agent", q.AgentHost)
		}
	}
	if got := w.slurm.done(); len(got) != 2 {
		t.Errorf("carried out %v, want each command once", got)
	}
	stopSecond()
	c.await("the first agent leads again", from, func(q event.QueuePressure) bool { return q.Epoch == 3 && q.AgentHost == "first" })
}
