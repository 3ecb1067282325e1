// Package spool hands hook calls from burst-hook to burst-agent through a
// directory: one file per call of ResumeProgram, SuspendProgram or
// ResumeFailProgram, which the agent removes once Service Bus has accepted what
// it says. It answers which calls were not dealt with yet, in their order.
//
// It must never lose a call that Write has confirmed, never show half a file,
// never block on the reader, and imports nothing of ours: slurmctld waits for
// the program that is built on it.
package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Kind says which program Slurm called.
type Kind string

// The three programs of Slurm's power saving.
const (
	Resume     Kind = "resume"
	Suspend    Kind = "suspend"
	ResumeFail Kind = "resume_fail"
)

func (k Kind) isKnown() bool {
	return k == Resume || k == Suspend || k == ResumeFail
}

// Record is one hook call.
type Record struct {
	Kind Kind
	// Time is the host's clock at the call.
	Time time.Time
	// Hostlist is the program's argument as Slurm gave it, unchecked, at
	// most MaxHostlistBytes.
	Hostlist string
	// ResumeJSON is the content of SLURM_RESUME_FILE, byte for byte and
	// unchecked (its keys changed in 23.02), at most MaxResumeBytes; empty
	// where there was none.
	ResumeJSON []byte
	// Traceparent is the W3C trace context that the call began.
	Traceparent string
}

const (
	// MaxResumeBytes bounds ResumeJSON.
	MaxResumeBytes = 4 << 20
	// MaxHostlistBytes bounds Hostlist. Linux passes at most 128 KB in one
	// argument.
	MaxHostlistBytes = 1 << 20

	fileSuffix    = ".call"
	tempSuffix    = ".tmp"
	corruptFolder = "corrupt"
)

// counter tells apart the records that one process writes in one nanosecond.
var counter atomic.Uint64

// Write stores the record in dir and returns the file's name. When it returns
// without an error the record survives a crash of the host: the file was
// written under a temporary name, synced, renamed, and the directory synced.
// The directory must exist. A full disk or quota is named in the error and
// matches syscall.ENOSPC or syscall.EDQUOT; nothing is left behind.
func Write(dir string, record Record) (name string, err error) {
	head, err := encode(record)
	if err != nil {
		return "", err
	}
	// The time has 19 digits until the year 2286: names sort by time.
	name = fmt.Sprintf("%019d-%d-%d%s", record.Time.UnixNano(), os.Getpid(), counter.Add(1), fileSuffix)
	temp := filepath.Join(dir, "."+name+tempSuffix)
	if err := writeSynced(temp, head, record); err != nil {
		_ = os.Remove(temp) // a leftover is removed by Sweep
		return "", explain(dir, err)
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		_ = os.Remove(temp)
		return "", explain(dir, err)
	}
	if err := syncDir(dir); err != nil {
		return "", explain(dir, err)
	}
	return name, nil
}

// writeSynced writes a new file, piece by piece as they are: putting them
// together first would touch all their memory once more.
func writeSynced(path string, head []byte, record Record) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(head); err != nil {
		return err
	}
	if _, err := f.WriteString(record.Hostlist); err != nil {
		return err
	}
	if _, err := f.Write(record.ResumeJSON); err != nil {
		return err
	}
	return f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// explain names the spool directory and, where it is so, the full disk.
func explain(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("write spool %s: the disk is full: %w", dir, err)
	case errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("write spool %s: the disk quota is used up: %w", dir, err)
	}
	return fmt.Errorf("write spool %s: %w", dir, err)
}

// Entry is one record in the spool.
type Entry struct {
	// Name is what Remove takes.
	Name   string
	Record Record
}

// ID names the call: no other call of this spool has it, before or after.
func (e Entry) ID() string { return strings.TrimSuffix(e.Name, fileSuffix) }

// CorruptFile is a file that could not be read as a record.
type CorruptFile struct {
	Name string
	// Err says what is wrong with it and, where that failed, why it could
	// not be moved to the folder corrupt.
	Err error
}

// Listing is what List found.
type Listing struct {
	// Entries are the oldest records, in the order of their names.
	Entries []Entry
	// Corrupt are files that hold no record. They were moved to the folder
	// corrupt inside the spool, for a person to look at.
	Corrupt []CorruptFile
	// More says that there are records beyond the bound.
	More bool
}

// List reads the oldest records, at most so many, at least one. Temporary files
// of a running or killed writer and files that are not the spool's own are
// passed over. Records that another process removes meanwhile are left out.
func List(dir string, most int) (Listing, error) {
	files, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return Listing{}, fmt.Errorf("list spool %s: %w", dir, err)
	}
	var listing Listing
	for _, f := range files {
		if !isRecordName(f.Name()) || !f.Type().IsRegular() {
			continue
		}
		if len(listing.Entries) >= max(most, 1) {
			listing.More = true
			break
		}
		record, err := read(filepath.Join(dir, f.Name()))
		var notRead *readError
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errors.As(err, &notRead):
			return listing, fmt.Errorf("read spool file %s: %w", f.Name(), notRead.err)
		case err != nil:
			listing.Corrupt = append(listing.Corrupt, CorruptFile{Name: f.Name(), Err: errors.Join(err, quarantine(dir, f.Name()))})
		default:
			listing.Entries = append(listing.Entries, Entry{Name: f.Name(), Record: record})
		}
	}
	return listing, nil
}

// readError is trouble with the disk, as opposed to the file's content.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

func read(path string) (Record, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Record{}, err
		}
		return Record{}, &readError{err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return Record{}, &readError{err}
	}
	if len(data) > maxFileBytes {
		return Record{}, fmt.Errorf("it is longer than %d bytes", maxFileBytes)
	}
	return decode(data)
}

func quarantine(dir, name string) error {
	folder := filepath.Join(dir, corruptFolder)
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	if err := os.Rename(filepath.Join(dir, name), filepath.Join(folder, name)); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}

// Remove deletes a record that was dealt with; one that is gone already is no
// error. The directory is not synced: a record that comes back after a crash is
// dealt with twice, which is harmless.
func Remove(dir, name string) error {
	if !isRecordName(name) {
		return fmt.Errorf("remove spool file: %q is not the name of one", name)
	}
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove spool file: %w", err)
	}
	return nil
}

// Sweep deletes temporary files that are older than age, counted from their
// last change: what killed writers left. It returns how many it deleted.
func Sweep(dir string, age time.Duration) (removed int, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("sweep spool %s: %w", dir, err)
	}
	var problems []error
	for _, f := range files {
		if !isTempName(f.Name()) || !f.Type().IsRegular() {
			continue
		}
		info, err := f.Info()
		if err != nil || time.Since(info.ModTime()) < age {
			continue // gone meanwhile, or still being written
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			problems = append(problems, fmt.Errorf("sweep spool: %w", err))
			continue
		}
		removed++
	}
	return removed, errors.Join(problems...)
}

// isRecordName recognises "1795441764000000000-4711-1.call".
func isRecordName(name string) bool {
	stem, found := strings.CutSuffix(name, fileSuffix)
	if !found {
		return false
	}
	parts := strings.Split(stem, "-")
	if len(parts) != 3 || len(parts[0]) != 19 {
		return false
	}
	for _, part := range parts {
		if part == "" || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}

func isTempName(name string) bool {
	stem, hidden := strings.CutPrefix(name, ".")
	stem, temp := strings.CutSuffix(stem, tempSuffix)
	return hidden && temp && isRecordName(stem)
}
