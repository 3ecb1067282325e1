package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

const (
	fileVersion = 2
	// maxHeaderBytes bounds the header, whose texts are all short.
	maxHeaderBytes = 4 << 10
	maxFileBytes   = maxHeaderBytes + MaxHostlistBytes + MaxResumeBytes
)

// header is the first line of a file. The hostlist and the resume file follow
// as they are, one right after the other: as JSON strings they would cost the
// hook more than all else it does, since Slurm may name 10,000 nodes four times.
type header struct {
	Version       int       `json:"version"`
	Kind          Kind      `json:"kind"`
	Time          time.Time `json:"time"`
	HostlistBytes int       `json:"hostlist_bytes"`
	ResumeBytes   int       `json:"resume_bytes"`
	Traceparent   string    `json:"traceparent,omitempty"`
}

// encode gives the file's header with its newline.
func encode(record Record) ([]byte, error) {
	switch {
	case !record.Kind.isKnown():
		return nil, fmt.Errorf("spool record: kind %q is not known", record.Kind)
	case record.Time.UnixNano() <= 0:
		return nil, fmt.Errorf("spool record: time %v is not set", record.Time)
	case len(record.Hostlist) > MaxHostlistBytes:
		return nil, fmt.Errorf("spool record: hostlist of %d bytes is longer than %d", len(record.Hostlist), MaxHostlistBytes)
	case len(record.ResumeJSON) > MaxResumeBytes:
		return nil, fmt.Errorf("spool record: resume file of %d bytes is longer than %d", len(record.ResumeJSON), MaxResumeBytes)
	}
	head, err := json.Marshal(header{
		Version:       fileVersion,
		Kind:          record.Kind,
		Time:          record.Time.UTC(),
		HostlistBytes: len(record.Hostlist),
		ResumeBytes:   len(record.ResumeJSON),
		Traceparent:   record.Traceparent,
	})
	if err != nil {
		return nil, fmt.Errorf("spool record: %w", err)
	}
	if len(head) >= maxHeaderBytes {
		return nil, fmt.Errorf("spool record: traceparent of %d bytes is too long", len(record.Traceparent))
	}
	return append(head, '\n'), nil
}

// decode reads a whole file. A byte too few or too many is an error: it is not
// what a writer wrote.
func decode(data []byte) (Record, error) {
	head, body, found := bytes.Cut(data, []byte("\n"))
	if !found {
		return Record{}, fmt.Errorf("it has no header line: %w", io.ErrUnexpectedEOF)
	}
	var h header
	if err := json.Unmarshal(head, &h); err != nil {
		return Record{}, fmt.Errorf("read header: %w", err)
	}
	switch {
	case h.Version != fileVersion:
		return Record{}, fmt.Errorf("version %d is not known", h.Version)
	case !h.Kind.isKnown():
		return Record{}, fmt.Errorf("kind %q is not known", h.Kind)
	case h.HostlistBytes < 0 || h.HostlistBytes > MaxHostlistBytes || h.ResumeBytes < 0 || h.ResumeBytes > MaxResumeBytes:
		return Record{}, fmt.Errorf("a hostlist of %d bytes or a resume file of %d is out of bounds", h.HostlistBytes, h.ResumeBytes)
	case len(body) != h.HostlistBytes+h.ResumeBytes:
		return Record{}, fmt.Errorf("%d bytes follow the header, which tells of %d", len(body), h.HostlistBytes+h.ResumeBytes)
	}
	record := Record{Kind: h.Kind, Time: h.Time, Hostlist: string(body[:h.HostlistBytes]), Traceparent: h.Traceparent}
	if h.ResumeBytes > 0 {
		record.ResumeJSON = body[h.HostlistBytes:]
	}
	return record, nil
}
