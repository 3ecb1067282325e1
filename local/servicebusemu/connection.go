package servicebusemu

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// idleTimeout is what we ask the client to keep below; it then sends an empty
	// frame at least every half of it.
	idleTimeout = 2 * time.Minute
	// keepAlive is how often we send one: the client drops a silent connection
	// after twice the 30 s it announces.
	keepAlive = 15 * time.Second
	// channelMax bounds sessions per connection, as on the service.
	channelMax = 4999
	// maxUnsent is how much may wait for a slow reader before we stop reading from
	// it, so that it cannot make us hold replies without bound.
	maxUnsent = 8 << 20
	// lastWords is how long a closing connection may take to be told why.
	lastWords = 2 * time.Second
)

var (
	headerAMQP = []byte{'A', 'M', 'Q', 'P', 0, 1, 0, 0}
	headerSASL = []byte{'A', 'M', 'Q', 'P', 3, 1, 0, 0}
	emptyFrame = []byte{0, 0, 0, 8, 2, 0, 0, 0}
)

// connection is one client. Its reader goroutine owns r and frame; mu covers the
// rest. The reader goroutine alone changes sessions, see change.
type connection struct {
	srv *Server
	nc  net.Conn
	log *slog.Logger

	r        *bufio.Reader
	frame    []byte
	deadline time.Time
	sessions map[uint16]*session
	granted  grants

	mu      sync.Mutex
	out     []byte // frames to write
	encoded []byte // scratch for one delivery
	maxSend int    // largest frame the client takes
	closing bool   // nothing may be added to out
	wake    chan struct{}
	drained *sync.Cond    // signalled when out has been taken
	written chan struct{} // closed when the writer has ended
}

func newConnection(srv *Server, nc net.Conn) *connection {
	c := &connection{
		srv: srv, nc: nc, log: srv.log.With("peer", nc.RemoteAddr().String()),
		r: bufio.NewReaderSize(nc, maxFrameSize), sessions: make(map[uint16]*session),
		maxSend: 512, wake: make(chan struct{}, 1), written: make(chan struct{}),
	}
	c.drained = sync.NewCond(&c.mu)
	return c
}

// serve runs the connection until either side ends it.
func (c *connection) serve() {
	go c.writeLoop()
	err := c.handshake()
	if err == nil {
		err = c.readLoop()
	}
	c.forgetTokens()
	for _, s := range c.sessions {
		s.release()
	}
	var r *refusal
	switch {
	case errors.As(err, &r):
		c.log.Warn("closed a connection that broke the protocol", "error", err)
		c.send(0, codeClose, r.amqp())
	case err != nil:
		c.log.Debug("connection ended", "error", err)
	}
	c.stop()
	<-c.written
}

// stop lets the writer finish what is there and end.
func (c *connection) stop() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	_ = c.nc.SetWriteDeadline(time.Now().Add(lastWords))
	c.signal()
}

func (c *connection) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// writeLoop writes what others append to out, in as few writes as it comes to.
func (c *connection) writeLoop() {
	defer close(c.written)
	defer c.nc.Close()
	idle := time.NewTicker(keepAlive)
	defer idle.Stop()
	var b []byte
	for {
		alive := false
		select {
		case <-c.wake:
		case <-idle.C:
			alive = true
		}
		c.mu.Lock()
		b, c.out = c.out, b[:0]
		closing := c.closing
		c.drained.Broadcast()
		c.mu.Unlock()
		if alive && len(b) == 0 && !closing {
			b = append(b, emptyFrame...)
		}
		var err error
		if len(b) > 0 {
			// What the frames tell of must not be lost once they are read.
			if err = c.srv.persist(); err == nil {
				_, err = c.nc.Write(b)
			}
		}
		if err != nil || closing {
			c.abandon()
			return
		}
		if cap(b) > maxUnsent {
			b = nil
		}
	}
}

// abandon makes sure that nobody waits for a writer that is gone.
func (c *connection) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing, c.out = true, nil
	c.drained.Broadcast()
}

// append runs add on the write buffer, unless the connection is closing.
func (c *connection) append(add func(b []byte) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appendLocked(add)
}

// appendLocked is append for those who hold the mutex. It says whether add ran.
func (c *connection) appendLocked(add func(b []byte) []byte) bool {
	if c.closing {
		return false
	}
	c.out = add(c.out)
	c.signal()
	return true
}

// send queues one frame that is a performative alone.
func (c *connection) send(channel uint16, code byte, f ...any) {
	c.append(func(b []byte) []byte { return appendFrame(b, frameAMQP, channel, code, f...) })
}

// readFrame returns the next frame that is not empty; body is valid until the
// next call.
func (c *connection) readFrame() (kind byte, channel uint16, body []byte, err error) {
	for {
		if now := time.Now(); c.deadline.Sub(now) < idleTimeout+idleTimeout/2 {
			c.deadline = now.Add(2 * idleTimeout)
			_ = c.nc.SetReadDeadline(c.deadline)
		}
		var h [frameHeaderSize]byte
		if _, err := io.ReadFull(c.r, h[:]); err != nil {
			return 0, 0, nil, err
		}
		size, doff := binary.BigEndian.Uint32(h[:]), uint32(h[4])*4
		if size < frameHeaderSize || size > maxFrameSize || doff < frameHeaderSize || doff > size {
			return 0, 0, nil, refuse(condFraming, fmt.Sprintf("frame of %d bytes with its body at %d", size, doff))
		}
		if n := int(size) - frameHeaderSize; cap(c.frame) < n {
			c.frame = make([]byte, n, max(n, 4096))
		}
		b := c.frame[:size-frameHeaderSize]
		if _, err := io.ReadFull(c.r, b); err != nil {
			return 0, 0, nil, err
		}
		if body := b[doff-frameHeaderSize:]; len(body) > 0 {
			return h[5], binary.BigEndian.Uint16(h[6:]), body, nil
		}
	}
}

// protocolHeader expects the client to announce want, and announces it back.
func (c *connection) protocolHeader(want []byte) error {
	var got [8]byte
	if _, err := io.ReadFull(c.r, got[:]); err != nil {
		return err
	}
	c.append(func(b []byte) []byte { return append(b, want...) })
	if !bytes.Equal(got[:], want) {
		return fmt.Errorf("client announced protocol % x, want % x", got, want)
	}
	return nil
}

// handshake does SASL and open.
func (c *connection) handshake() error {
	_ = c.nc.SetReadDeadline(time.Now().Add(idleTimeout))
	if err := c.protocolHeader(headerSASL); err != nil {
		return err
	}
	if err := c.sasl(); err != nil {
		return err
	}
	if err := c.protocolHeader(headerAMQP); err != nil {
		return err
	}
	_, _, body, err := c.readFrame()
	if err != nil {
		return err
	}
	code, f, _, err := parseFrameBody(body)
	if err != nil || code != codeOpen {
		return refuse(condFraming, "the first frame must be open")
	}
	c.open(f)
	return nil
}

// sasl lets everybody in who does not offer a name and a password: the tokens
// that matter come later, to $cbs.
func (c *connection) sasl() error {
	c.append(func(b []byte) []byte {
		return appendFrame(b, frameSASL, 0, codeSASLMechanisms,
			array{ctorSymbol32, []any{symbol("MSSBCBS"), symbol("ANONYMOUS"), symbol("EXTERNAL")}})
	})
	kind, _, body, err := c.readFrame()
	if err != nil {
		return err
	}
	code, f, _, err := parseFrameBody(body)
	if err != nil || kind != frameSASL || code != codeSASLInit {
		return errors.New("client did not start SASL")
	}
	outcome := uint8(0)
	mechanism, _ := field[symbol](f, 0)
	switch mechanism {
	case "MSSBCBS", "ANONYMOUS", "EXTERNAL":
	default:
		outcome = 1
	}
	c.append(func(b []byte) []byte { return appendFrame(b, frameSASL, 0, codeSASLOutcome, outcome) })
	if outcome != 0 {
		return fmt.Errorf("client chose SASL mechanism %q, which was not offered", mechanism)
	}
	return nil
}

func (c *connection) open(f fields) {
	c.mu.Lock()
	c.maxSend = int(min(max(fieldOr[uint32](f, 2, maxFrameSize), 512), maxFrameSize))
	c.mu.Unlock()
	c.log.Debug("connection opened", "container", fieldOr(f, 0, ""))
	c.send(0, codeOpen, "servicebusemu", nil, uint32(maxFrameSize), uint16(channelMax),
		uint32(idleTimeout.Milliseconds()), nil, nil, nil, nil,
		orderedMap{{symbol("product"), "servicebusemu"}})
}

// readLoop handles frames until the connection ends; nil means the client closed.
func (c *connection) readLoop() error {
	for {
		c.waitForWriter()
		if err := c.srv.relieve(); err != nil {
			return err
		}
		kind, channel, body, err := c.readFrame()
		if err != nil {
			return err
		}
		if kind != frameAMQP {
			return refuse(condFraming, fmt.Sprintf("frame of type %d", kind))
		}
		code, f, payload, err := parseFrameBody(body)
		if err != nil {
			return refuse(condDecode, err.Error())
		}
		if code == codeClose {
			c.send(0, codeClose)
			return nil
		}
		if err := c.dispatch(channel, code, f, payload); err != nil {
			return err
		}
	}
}

func (c *connection) waitForWriter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > maxUnsent && !c.closing {
		c.drained.Wait()
	}
}

// dispatch gives a frame to its session. An error ends the connection.
func (c *connection) dispatch(channel uint16, code uint64, f fields, payload []byte) error {
	s := c.sessions[channel]
	switch {
	case code == codeBegin && s != nil:
		return refuse(condNotAllowed, fmt.Sprintf("channel %d is in use", channel))
	case code == codeBegin:
		if channel > channelMax {
			return refuse(condNotAllowed, fmt.Sprintf("channel %d is above channel-max", channel))
		}
		s := beginSession(c, channel, f)
		c.change(func() { c.sessions[channel] = s })
		return nil
	case s == nil:
		return refuse(condNotAllowed, fmt.Sprintf("performative 0x%02x on channel %d, where no session was begun", code, channel))
	case code == codeEnd:
		c.change(func() { delete(c.sessions, channel) })
		s.end()
		return nil
	}
	s.handle(code, f, payload)
	return nil
}
