package servicebusemu

// link is an inbound or an outbound link, as seen by those who may end it.
type link interface {
	// path is the entity that the link leads to, in lower case.
	path() string
	// detachFor ends the link with an error. Any goroutine may call it; neither
	// an entity nor a connection may be locked.
	detachFor(r *refusal)
}

// links lists the links that wanted picks. It is called with the connection's
// mutex held.
func (c *connection) links(wanted func(link) bool) []link {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []link
	for _, s := range c.sessions {
		for _, l := range s.inbound {
			if !l.isDead() && wanted(l) {
				found = append(found, l)
			}
		}
		for _, l := range s.outbound {
			if !l.dead && wanted(l) {
				found = append(found, l)
			}
		}
	}
	return found
}

// change runs a change to the sessions or links of the connection. The reader
// goroutine alone makes them, and so may read without the mutex.
func (c *connection) change(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
}

func (l *inbound) path() string  { return l.to }
func (l *outbound) path() string { return l.from }

func (l *inbound) detachFor(r *refusal) {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.s.gone || l.isDead() {
		return
	}
	l.dead.Store(true)
	c.appendLocked(func(b []byte) []byte {
		return appendFrame(b, frameAMQP, l.s.channel, codeDetach, l.handle, true, r.amqp())
	})
}

func (l *inbound) isDead() bool { return l.dead.Load() }

func (l *outbound) detachFor(r *refusal) {
	l.leave()
	l.refuse(r)
}
