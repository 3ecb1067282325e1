package functionshost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/slurmburst/slurmburst/local/child"
)

// caller runs the invocations of one worker.
type caller struct {
	cfg  Config
	file hostFile
	w    *worker
	// ctx ends when the handler has been killed for good. Nothing else cancels a
	// call: the real host passes no cancellation token to it.
	ctx   context.Context
	stats *counters
	// send carries out a call; tests of the triggers replace the wire with it.
	send func(f *function, body []byte, inv *Invocation) (*reply, error)
}

func newCaller(ctx context.Context, cfg Config, w *worker, stats *counters) *caller {
	c := &caller{cfg: cfg, file: w.file, w: w, ctx: ctx, stats: stats}
	c.send = c.post
	return c
}

// invocation starts the record of one call.
func (c *caller) invocation(f *function, trigger string) Invocation {
	c.stats.began()
	return Invocation{Function: f.name, Instance: c.w.name, ID: uuid.NewString(), Trigger: trigger, Start: time.Now()}
}

// finish closes the record, counts it and tells the world.
func (c *caller) finish(inv Invocation, err error) {
	inv.Duration = time.Since(inv.Start)
	inv.Err = err
	c.stats.ended(inv)
	level, text := slog.LevelDebug, "invocation succeeded"
	if err != nil {
		level, text = slog.LevelError, "invocation failed"
	}
	attrs := []slog.Attr{
		slog.String("function", inv.Function), slog.String("instance", inv.Instance), slog.String("invocation_id", inv.ID),
		slog.String("trigger", inv.Trigger), slog.Duration("duration", inv.Duration), slog.Int("status", inv.Status),
	}
	if inv.MessageID != "" {
		attrs = append(attrs, slog.String("message_id", inv.MessageID), slog.Uint64("delivery_count", uint64(inv.DeliveryCount)))
	}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	c.cfg.Logger.LogAttrs(context.Background(), level, text, attrs...) //nolint:sloglint // one of the two constants above
	c.cfg.OnInvocation(inv)
}

// post sends an envelope to POST /<function> and validates the reply. It waits
// while the handler starts.
func (c *caller) post(f *function, body []byte, inv *Invocation) (*reply, error) {
	if err := c.w.await(c.ctx); err != nil {
		return nil, err
	}
	guard := c.guard()
	defer guard.stop()
	chunked := func() io.ReadCloser { return io.NopCloser(bytes.NewReader(body)) }
	req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.w.base()+"/"+f.name, chunked())
	if err != nil {
		return nil, fmt.Errorf("make call of %s: %w", f.name, err)
	}
	// A reader of unknown length is sent chunked, as the real host does; redirects
	// 307 and 308 need it again.
	req.ContentLength = -1
	req.GetBody = func() (io.ReadCloser, error) { return chunked(), nil }
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	hostHeaders(req, inv.ID)
	resp, err := c.w.client.Do(req)
	if err != nil {
		return nil, guard.explain(fmt.Errorf("call %s: %w", f.name, err))
	}
	defer resp.Body.Close()
	inv.Status = resp.StatusCode
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return nil, guard.explain(fmt.Errorf("read reply of %s: %w", f.name, err))
	}
	r, err := f.readReply(resp, answer)
	if errors.Is(err, errEmptyReply) && c.cfg.HangOnEmptyReply {
		return nil, guard.hang(c.ctx)
	}
	if err != nil {
		return nil, err
	}
	for _, text := range r.warnings {
		c.cfg.Logger.Warn("reply is questionable", "function", f.name, "detail", text)
	}
	for _, text := range r.logs {
		c.cfg.Logger.Info("function logged", "function", f.name, "invocation_id", inv.ID, "text", text)
	}
	return r, nil
}

func hostHeaders(req *http.Request, id string) {
	req.Header.Set("X-Azure-Functions-InvocationId", id)
	req.Header.Set("X-Azure-Functions-HostVersion", hostVersion)
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "Azure-Functions-Host/"+hostVersion)
	}
}

// timeoutGuard kills the handler when a call reaches functionTimeout.
type timeoutGuard struct {
	w     *worker
	p     *child.Process
	timer *time.Timer
	fired atomic.Bool
	done  chan struct{}
}

func (c *caller) guard() *timeoutGuard {
	g := &timeoutGuard{w: c.w, p: c.w.running(), done: make(chan struct{})}
	if c.file.functionTimeout == 0 {
		return g
	}
	g.timer = time.AfterFunc(c.file.functionTimeout, func() {
		g.fired.Store(true)
		c.w.expire(g.p)
		close(g.done)
	})
	return g
}

func (g *timeoutGuard) stop() {
	if g.timer != nil {
		g.timer.Stop()
	}
}

// explain says of a broken call whether functionTimeout broke it.
func (g *timeoutGuard) explain(err error) error {
	g.w.noticed(g.p)
	if g.fired.Load() {
		return fmt.Errorf("%w: %w", errFunctionTimeout, err)
	}
	return err
}

// hang is what the real host does with an empty reply.
func (g *timeoutGuard) hang(ctx context.Context) error {
	select {
	case <-g.done:
		return fmt.Errorf("%w: %w", errFunctionTimeout, errEmptyReply)
	case <-ctx.Done():
		return errEmptyReply
	}
}
