package servicebusemu

import (
	"errors"
	"fmt"
	"time"
)

// Annotations that Service Bus defines. What a sender puts there is dropped,
// except where it is the sender's to say: the client asserts their types without
// a check, so a wrong one would crash the receiver.
const (
	annSequence         symbol = "x-opt-sequence-number"
	annEnqueuedSequence symbol = "x-opt-enqueue-sequence-number"
	annEnqueuedTime     symbol = "x-opt-enqueued-time"
	annLockedUntil      symbol = "x-opt-locked-until"
	annLockToken        symbol = "x-opt-lock-token"
	annMessageState     symbol = "x-opt-message-state"
	annDeadLetterSource symbol = "x-opt-deadletter-source"
	annScheduled        symbol = "x-opt-scheduled-enqueue-time"
	annPartitionKey     symbol = "x-opt-partition-key"
	annViaPartitionKey  symbol = "x-opt-via-partition-key"
)

// content is a message as its sender wrote it. The bare message (properties to
// footer) stays in bytes, so that it comes out as it went in.
type content struct {
	durable  any // bool or null
	priority any // ubyte or null
	ttl      time.Duration

	annotations     []byte // encoded keys and values, without a list header
	annotationCount int
	properties      []byte // whole section; never empty
	appProperties   []byte // whole section, or empty
	body            []byte // body sections and footer

	id           string // encoded message-id, empty when it has none
	group        string
	hasGroup     bool
	scheduledFor time.Time
}

var emptyProperties = []byte{ctorDescribed, ctorSmallUlng, codeProperties, ctorList0}

func (c *content) size() int {
	return len(c.annotations) + len(c.properties) + len(c.appProperties) + len(c.body)
}

// parseContent reads an encoded message. The result keeps b.
func parseContent(b []byte) (content, error) {
	c := content{properties: emptyProperties}
	d := decoder{buf: b}
	last := uint64(0)
	for d.rest() > 0 {
		start := d.pos
		code, err := d.sectionCode()
		if err != nil {
			return content{}, err
		}
		if code < last || (code == last && code != codeData && code != codeSequence) {
			return content{}, fmt.Errorf("section 0x%02x is out of order", code)
		}
		last = code
		if err := c.section(code, &d, start); err != nil {
			return content{}, fmt.Errorf("section 0x%02x: %w", code, err)
		}
	}
	if len(c.body) == 0 {
		return content{}, errors.New("message has no body section")
	}
	return c, nil
}

// sectionCode reads the descriptor of the section that starts here.
func (d *decoder) sectionCode() (uint64, error) {
	b, err := d.byte()
	if err != nil {
		return 0, err
	}
	if b != ctorDescribed {
		return 0, fmt.Errorf("byte 0x%02x where a section should start", b)
	}
	v, err := d.value()
	if err != nil {
		return 0, err
	}
	code, ok := v.(uint64)
	if !ok || code < codeHeader || code > codeFooter {
		return 0, fmt.Errorf("%v is not a message section", v)
	}
	return code, nil
}

// section reads the value of one section; start is where its descriptor began.
func (c *content) section(code uint64, d *decoder, start int) error {
	switch code {
	case codeHeader:
		v, err := d.value()
		if err != nil {
			return err
		}
		return c.header(v)
	case codeMessageAnnotations:
		return c.messageAnnotations(d)
	case codeProperties:
		if err := c.readProperties(d); err != nil {
			return err
		}
		c.properties = d.buf[start:d.pos]
		return nil
	case codeAppProperties:
		if err := d.checkAppProperties(); err != nil {
			return err
		}
		c.appProperties = d.buf[start:d.pos]
		return nil
	case codeData:
		if err := d.checkData(); err != nil {
			return err
		}
	default:
		// Decoded to be checked: what is malformed inside would break receivers.
		if _, err := d.value(); err != nil {
			return err
		}
	}
	if code >= codeData {
		// Body sections and the footer follow each other: keep them as one run.
		c.body = d.buf[start-len(c.body) : d.pos]
	}
	return nil
}

func (d *decoder) checkAppProperties() error {
	in, n, err := d.mapBody()
	if err != nil {
		return err
	}
	for range n {
		key, err := in.value()
		if err != nil {
			return err
		}
		if _, ok := key.(string); !ok {
			return fmt.Errorf("key %v is not a string", key)
		}
		if _, err := in.value(); err != nil {
			return err
		}
	}
	if in.rest() != 0 {
		return errors.New("bytes left over in the map")
	}
	return nil
}

// checkData steps over the binary of a data section.
func (d *decoder) checkData() error {
	raw, err := d.raw()
	if err == nil && raw[0] != ctorBinary8 && raw[0] != ctorBinary32 {
		err = errors.New("not binary")
	}
	return err
}

func (c *content) header(v any) error {
	l, ok := v.([]any)
	if !ok {
		return errors.New("header is not a list")
	}
	f := fields(l)
	if durable, ok := field[bool](f, 0); ok {
		c.durable = durable
	}
	if priority, ok := field[uint8](f, 1); ok {
		c.priority = priority
	}
	if ms, ok := field[uint32](f, 2); ok {
		c.ttl = time.Duration(ms) * time.Millisecond
	}
	return nil
}

func (c *content) readProperties(d *decoder) error {
	v, err := d.value()
	if err != nil {
		return err
	}
	l, ok := v.([]any)
	if !ok {
		return errors.New("properties are not a list")
	}
	f := fields(l)
	if len(f) > 0 && f[0] != nil && f[0] != "" {
		c.id = string(appendValue(nil, f[0]))
	}
	c.group, c.hasGroup = field[string](f, 10)
	return nil
}

// mapBody opens the map that starts here and returns a decoder for its inside
// and the number of keys.
func (d *decoder) mapBody() (in decoder, keys int, err error) {
	raw, err := d.raw()
	if err != nil {
		return decoder{}, 0, err
	}
	switch raw[0] {
	case ctorMap8:
		in.buf = raw[2:]
	case ctorMap32:
		in.buf = raw[5:]
	default:
		return decoder{}, 0, errors.New("not a map")
	}
	n, err := in.count(raw[0])
	if err == nil && n%2 != 0 {
		err = fmt.Errorf("map with %d keys and values", n)
	}
	return in, n / 2, err
}

func (c *content) messageAnnotations(d *decoder) error {
	in, n, err := d.mapBody()
	if err != nil {
		return err
	}
	for range n {
		start := in.pos
		key, err := in.value()
		if err != nil {
			return err
		}
		keyEnd := in.pos
		if err := in.skip(); err != nil {
			return err
		}
		keep, err := c.annotation(key, in.buf[keyEnd:in.pos])
		if err != nil {
			return err
		}
		if keep {
			c.annotations = append(c.annotations, in.buf[start:in.pos]...)
			c.annotationCount++
		}
	}
	return nil
}

// annotation looks at one annotation of the sender and says whether to keep it.
func (c *content) annotation(key any, raw []byte) (keep bool, err error) {
	name, ok := key.(symbol)
	if !ok {
		return false, fmt.Errorf("annotation key %v is not a symbol", key)
	}
	switch name {
	case annSequence, annEnqueuedSequence, annEnqueuedTime, annLockedUntil, annLockToken, annMessageState, annDeadLetterSource:
		return false, nil
	case annScheduled, annPartitionKey, annViaPartitionKey:
	default:
		return true, nil
	}
	d := decoder{buf: raw}
	v, err := d.value()
	if err != nil {
		return false, err
	}
	if v == nil {
		return false, nil
	}
	if name == annScheduled {
		at, ok := v.(timestamp)
		if !ok {
			return false, fmt.Errorf("%s is not a timestamp", name)
		}
		c.scheduledFor = at.time()
		return true, nil
	}
	if _, ok := v.(string); !ok {
		return false, fmt.Errorf("%s is not a string", name)
	}
	return true, nil
}

func (t timestamp) time() time.Time { return time.UnixMilli(int64(t)).UTC() }

func timestampOf(t time.Time) timestamp { return timestamp(t.UnixMilli()) }

// amend sets application properties, keeping the others as they are.
func (c *content) amend(changes orderedMap) error {
	if len(changes) == 0 {
		return nil
	}
	replaced := make(map[string]bool, len(changes))
	for _, p := range changes {
		if name, ok := propertyName(p.key); ok {
			replaced[name] = true
		}
	}
	b := []byte{ctorDescribed, ctorSmallUlng, codeAppProperties, ctorMap32, 0, 0, 0, 0, 0, 0, 0, 0}
	count := 0
	if len(c.appProperties) > 0 {
		d := decoder{buf: c.appProperties}
		if _, err := d.sectionCode(); err != nil {
			return err
		}
		in, n, err := d.mapBody()
		if err != nil {
			return err
		}
		for range n {
			start := in.pos
			key, err := in.value()
			if err != nil {
				return err
			}
			if err := in.skip(); err != nil {
				return err
			}
			if name, _ := propertyName(key); !replaced[name] {
				b = append(b, in.buf[start:in.pos]...)
				count += 2
			}
		}
	}
	for _, p := range changes {
		if name, ok := propertyName(p.key); ok {
			b = appendValue(appendValue(b, name), p.value)
			count += 2
		}
	}
	c.appProperties = patchCompound(b, 4, count)
	return nil
}

// propertyName accepts both types that clients write names of properties in.
func propertyName(key any) (string, bool) {
	switch k := key.(type) {
	case string:
		return k, true
	case symbol:
		return string(k), true
	}
	return "", false
}
