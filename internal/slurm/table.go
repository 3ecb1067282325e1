package slurm

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"strings"
)

const (
	// fieldEnd separates the fields of a record: the ASCII unit separator.
	fieldEnd = '\x1f'
	// maxRecordBytes bounds one record; a longer one is dropped.
	maxRecordBytes = 1 << 20
	// maxRepeatedBytes bounds a field that is kept to compare the next with.
	maxRepeatedBytes = 512
)

// newRecordEnd gives a mark that closes each record of one call. Slurm prints
// newlines and separators inside user-controlled text as they are (measured on
// 22.05.8 and 26.05.3), and without slurmdbd even an account may hold them. A
// mark that nobody can know beforehand makes a forged record impossible.
func newRecordEnd() string { return "\x1e" + rand.Text()[:12] }

// outputFormat builds the argument of -O. Width 0 prints each field whole and
// without padding, in 22.05 (measured) as in later releases (their source);
// any other width would cut the text.
func outputFormat(columns []string, recordEnd string) string {
	var format strings.Builder
	for i, column := range columns {
		if i > 0 {
			format.WriteString(":0\x1f,")
		}
		format.WriteString(column)
	}
	format.WriteString(":0" + recordEnd)
	return format.String()
}

// readRecords calls each for every record of the stream, without its end mark,
// and returns how many records were dropped for their length. Bytes after the
// last mark are a record that never ended: they are dropped and counted, too.
// The record is only valid during the call.
func readRecords(stream io.Reader, recordEnd string, each func(record []byte)) (dropped int, err error) {
	var (
		end      = []byte(recordEnd)
		skipping = false
		cut      = false
	)
	scanner := bufio.NewScanner(stream)
	scanner.Buffer(make([]byte, 64<<10), maxRecordBytes+len(end))
	scanner.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.Index(data, end); i >= 0 {
			if skipping {
				skipping = false
				return i + len(end), nil, nil
			}
			return i + len(end), data[:i], nil
		}
		if atEOF {
			cut = len(data) > 0 && !skipping
			return len(data), nil, bufio.ErrFinalToken
		}
		if len(data) < maxRecordBytes {
			return 0, nil, nil
		}
		if !skipping {
			skipping = true
			dropped++
		}
		return len(data) - len(end) + 1, nil, nil // the mark may lie across the border
	})
	for scanner.Scan() {
		if token := scanner.Bytes(); token != nil {
			each(token)
		}
	}
	if cut {
		dropped++
	}
	if err := scanner.Err(); err != nil && !errors.Is(err, bufio.ErrFinalToken) {
		return dropped, err
	}
	return dropped, nil
}

// column is one output field and what it sets; set reports whether the text
// made sense. What it sets depends on its own text alone, and it sets that
// whatever the row held before.
type column[T any] struct {
	name string
	set  func(p *tableParser[T], row *T, text []byte) bool
}

// tableParser turns records into rows.
type tableParser[T any] struct {
	columns []column[T]
	// openEnd lets the last field hold separators: for text that an
	// administrator wrote and that must not cost a row.
	openEnd bool
	// expect is about how many rows there will be; 0 is no guess.
	expect int
	// row is the row of the record before, and fields are that record's, each
	// with its separator: in a long queue most fields repeat those of the job
	// before, and what they set stands already. started is false while there
	// is no such row.
	row     T
	fields  [][]byte
	started bool
	// strings, partitions, states, totals and gpus are shared between rows: a
	// queue of 100,000 jobs has few different ones.
	strings    map[boundedText]string
	partitions map[string][]PartitionName
	states     map[string]NodeState
	totals     map[string]resourceTotals
	gpus       map[string]int
}

// boundedText is a text and how many bytes of it are wanted at most.
type boundedText struct {
	text string
	most int
}

func newTableParser[T any](columns []column[T]) *tableParser[T] {
	return &tableParser[T]{
		columns:    columns,
		fields:     make([][]byte, len(columns)),
		strings:    map[boundedText]string{},
		partitions: map[string][]PartitionName{},
		states:     map[string]NodeState{},
		totals:     map[string]resourceTotals{},
		gpus:       map[string]int{},
	}
}

// parse gives the record's row, which is valid until the next call, or reports
// false: wrong number of fields, or a field that cannot be what it should be.
func (p *tableParser[T]) parse(record []byte) (*T, bool) {
	known := p.started
	p.started = false
	last := len(p.columns) - 1
	for i := range p.columns {
		before := p.fields[i]
		if known && len(before) > 0 && bytes.HasPrefix(record, before) && (i < last || len(record) == len(before)) {
			record = record[len(before):]
			continue
		}
		text, size := record, len(record)
		if cut := bytes.IndexByte(record, fieldEnd); i < last {
			if cut < 0 {
				return nil, false
			}
			text, size = record[:cut], cut+1
		} else if cut >= 0 && !p.openEnd {
			return nil, false
		}
		if set := p.columns[i].set; set != nil && !set(p, &p.row, bytes.TrimRight(text, " ")) {
			return nil, false
		}
		p.fields[i] = before[:0]
		if size <= maxRepeatedBytes {
			p.fields[i] = append(before[:0], record[:size]...)
		}
		record = record[size:]
	}
	p.started = true
	return &p.row, true
}

func (p *tableParser[T]) names() []string {
	names := make([]string, len(p.columns))
	for i := range p.columns {
		names[i] = p.columns[i].name
	}
	return names
}

// intern gives the printable form of the text, one copy for all rows. Slurm's
// "(null)" and "N/A" are the empty text.
func (p *tableParser[T]) intern(text []byte, most int) string {
	if known, ok := p.strings[boundedText{string(text), most}]; ok {
		return known
	}
	value := ""
	if !isAbsent(text) {
		value = printable(text, most)
	}
	p.strings[boundedText{string(text), most}] = value
	return value
}

// partitionList reads "local,htc". The slice is shared between rows.
func (p *tableParser[T]) partitionList(text []byte) ([]PartitionName, bool) {
	if known, ok := p.partitions[string(text)]; ok {
		return known, true
	}
	var list []PartitionName
	for name := range strings.SplitSeq(string(text), ",") {
		if PartitionName(name).Validate() != nil {
			return nil, false
		}
		list = append(list, PartitionName(name))
	}
	p.partitions[string(text)] = list
	return list, true
}

// resourceTotals are what the TRES list of a job says about it.
type resourceTotals struct {
	memoryMB int64
	gpus     int
	// countsGPUs says that the site counts GPUs (AccountingStorageTRES=gres/gpu).
	countsGPUs bool
}

// resources reads "cpu=4,mem=1000M,node=1,gres/gpu=2".
func (p *tableParser[T]) resources(text []byte) resourceTotals {
	if known, ok := p.totals[string(text)]; ok {
		return known
	}
	list := p.intern(text, maxFeaturesBytes)
	var totals resourceTotals
	if memory, found := resourceValue(list, "mem"); found {
		totals.memoryMB, _ = parseMegabytes([]byte(memory))
	}
	if gpus, found := resourceValue(list, "gres/gpu"); found {
		if n, ok := parseSize([]byte(gpus)); ok && n <= math.MaxInt32 {
			totals.gpus, totals.countsGPUs = int(n), true
		}
	}
	p.totals[string(text)] = totals
	return totals
}

// countGPUs reads a list of generic resources, as parseGPUs.
func (p *tableParser[T]) countGPUs(text []byte) int {
	if known, ok := p.gpus[string(text)]; ok {
		return known
	}
	n := parseGPUs(p.intern(text, maxFeaturesBytes))
	p.gpus[string(text)] = n
	return n
}
