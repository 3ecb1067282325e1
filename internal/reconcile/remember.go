package reconcile

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"sync"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// maxMemory bounds the memory of a cluster when it is unpacked, in bytes.
const maxMemory = 64 << 20

// memoryOf reads what earlier decisions left behind. A row that cannot be read
// stops the cluster: going on without it would forget what is spent.
func memoryOf(budget ledger.Budget) (burst.Memory, error) {
	var m burst.Memory
	if len(budget.Body) == 0 {
		return m, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(budget.Body))
	if err != nil {
		return m, fault.New(fault.Bug, "unpack row budget", err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxMemory))
	if err != nil {
		return m, fault.New(fault.Bug, "unpack row budget", err)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, fault.New(fault.Bug, "read row budget", err)
	}
	return m, nil
}

// budget gives the row for a memory, or nil where the stored one says the same.
func (p *pass) budget(m burst.Memory) (*ledger.Budget, error) {
	before, err := json.Marshal(p.stored)
	if err != nil {
		return nil, fault.New(fault.Bug, "encode memory", err)
	}
	after, err := json.Marshal(m)
	if err != nil {
		return nil, fault.New(fault.Bug, "encode memory", err)
	}
	if bytes.Equal(before, after) {
		return nil, nil
	}
	body, err := zip(json.RawMessage(after))
	if err != nil {
		return nil, err
	}
	return &ledger.Budget{Body: body}, nil
}

// zippers are used again, because a new one costs a megabyte. The facts of a
// long queue are megabytes of JSON: a tighter fit would cost a pass more than
// all that it decides.
var zippers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level exists
	return z
}}

// zip gives the gzipped JSON of v.
func zip(v any) ([]byte, error) {
	var b bytes.Buffer
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(&b)
	if err := json.NewEncoder(z).Encode(v); err != nil {
		return nil, fault.New(fault.Bug, "encode", err)
	}
	if err := z.Close(); err != nil {
		return nil, fault.New(fault.Bug, "compress", err)
	}
	return b.Bytes(), nil
}
