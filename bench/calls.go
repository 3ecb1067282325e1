package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/slurmburst/slurmburst/local/functionshost"
)

// calls hears of each call of a function.
type calls struct {
	mu      sync.Mutex
	waiting map[string]chan functionshost.Invocation // by message id
	all     func(functionshost.Invocation)
}

func newCalls() *calls { return &calls{waiting: map[string]chan functionshost.Invocation{}} }

func (c *calls) ended(i functionshost.Invocation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all != nil && i.Function == "queue_pressure" {
		c.all(i)
	}
	if waiting, ok := c.waiting[i.MessageID]; ok {
		waiting <- i
		delete(c.waiting, i.MessageID)
	}
}

// expect is called before a message is sent; the channel gives its call.
func (c *calls) expect(messageID string) <-chan functionshost.Invocation {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := make(chan functionshost.Invocation, 1)
	c.waiting[messageID] = waiting
	return waiting
}

// hear sets who hears of every call of queue_pressure.
func (c *calls) hear(all func(functionshost.Invocation)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = all
}

// roundTrips times requests of about a kilobyte to an HTTP server in this
// process: the floor of every call between host, handler and vendors.
func roundTrips(ctx context.Context, count int) ([]float64, error) {
	l, err := listen(ctx)
	if err != nil {
		return nil, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = new(bytes.Buffer).ReadFrom(r.Body) // what arrived is what counts
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() { _ = server.Serve(l) }()   // ends with Close
	defer func() { _ = server.Close() }() // nobody is connected
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	body := make([]byte, messageSize)
	var took []float64
	for range count {
		began := time.Now()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.Addr().String(), bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(request)
		if err != nil {
			return nil, fmt.Errorf("measure a round trip: %w", err)
		}
		if err := answer.Body.Close(); err != nil {
			return nil, err
		}
		took = append(took, milliseconds(time.Since(began)))
	}
	return took, nil
}
