package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/slurmburst/slurmburst/internal/bus"
	"github.com/slurmburst/slurmburst/internal/fault"
)

// hold renews the lock at a quarter of its duration. When it did not succeed
// for three quarters, the broker may give the session away soon: it counts as
// lost then, whatever the reason.
func (t *term) hold(ctx context.Context, end context.CancelCauseFunc) {
	for {
		t.pause(ctx, t.Lock/4)
		if ctx.Err() != nil {
			return
		}
		asking := t.Clock.Now()
		left := t.Lock*3/4 - asking.Sub(*t.held.Load())
		err := t.renew(ctx, left)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			t.held.Store(&asking)
		case bus.Lost(err):
			end(fmt.Errorf("%w: %w", errSessionLost, err))
			return
		case !t.holds():
			end(fmt.Errorf("%w: it could not be renewed: %w", errSessionLost, err))
			return
		}
		t.conditions.report("renewing the command session", err)
	}
}

// holds reports whether the lock is certainly still ours. A process that was
// stopped for minutes finds out here, before the broker has told it.
func (t *term) holds() bool { return t.Clock.Now().Sub(*t.held.Load()) < t.Lock*3/4 }

// errLapsed is of the kind of a lost session.
var errLapsed = fault.Newf(fault.Conflict, "the lock of the command session may have run out")

func (t *term) renew(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := t.session.RenewLock(ctx); err != nil {
		return err
	}
	t.crash(pointRenewed)
	return t.verify(ctx)
}

// verify reads whether our epoch still stands. The client silently accepts a
// session again after its connection broke, and another agent may have been in
// charge meanwhile.
func (t *term) verify(ctx context.Context) error {
	stored, err := t.session.State(ctx)
	if err != nil {
		return err
	}
	c, err := readCharge(stored)
	if c.Epoch != t.charge.Epoch {
		return fault.New(fault.Conflict, fmt.Sprintf("epoch %d was followed by %d", t.charge.Epoch, c.Epoch), err)
	}
	return nil
}

// settleDoubt makes sure that our epoch still stands before anything is said or
// stored, after the process was stopped or over a connection that broke. The
// cloud would refuse an older epoch, but the spool would have been emptied into
// it, or its successor's state overwritten.
func (t *term) settleDoubt(ctx context.Context) error {
	if !t.holds() {
		return errLapsed
	}
	if !t.doubt.Swap(false) {
		return nil
	}
	if err := t.verify(ctx); err != nil {
		t.doubt.Store(true)
		return err
	}
	t.crash(pointCertain)
	return nil
}
