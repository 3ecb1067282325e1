// Command burst-hook is what slurm.conf names as ResumeProgram, SuspendProgram
// and ResumeFailProgram. It answers one question for burst-agent: which nodes
// did Slurm just ask to come up, go away, or give up? It writes the call into
// the spool, pokes the agent and ends within milliseconds.
//
// It must never wait for anything: not for the agent, the network, or Azure,
// whose SDK it does not even contain. slurmctld of 26.05 kills a slow hook; one
// of 22.05 never notices. It reads Slurm's files first, because the resume file
// vanishes with the program, and expects nothing of its process: no PATH, no
// HOME, no open descriptors.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/slurmburst/slurmburst/internal/spool"
)

const (
	exitOK = 0
	// exitFailed means that the call could not be kept. slurmctld logs it
	// and does nothing else: the nodes run into ResumeTimeout.
	exitFailed = 1
	exitUsage  = 2

	defaultSpool = "/var/lib/slurmburst/spool"
	// spoolFile beside slurm.conf names another spool directory, since
	// Slurm passes no option and no environment of ours.
	spoolFile    = "burst-spool"
	maxSpoolPath = 4096
	// patience bounds the whole run, for a disk that hangs. It is far below
	// the ResumeTimeout after which 26.05 would end the hook anyway.
	patience = 10 * time.Second
	// readPatience bounds the reading of a file that is a pipe.
	readPatience = time.Second
)

const usage = `usage: burst-hook [--spool DIR] resume|suspend|resume-fail HOSTLIST
       burst-resume HOSTLIST
       burst-suspend HOSTLIST
       burst-resume-fail HOSTLIST
`

func main() {
	giveUpAfter(patience, os.Stderr, os.Exit)
	// A file size limit inherited from slurmctld shall be an error that
	// names the spool, not a crash.
	signal.Ignore(syscall.SIGXFSZ)
	os.Exit(run(os.Args, os.Getenv, os.Stderr))
}

// giveUpAfter ends the program after so long, whatever it waits for: a write to
// a disk that hangs cannot be cut short in any other way.
func giveUpAfter(limit time.Duration, stderr io.Writer, exit func(code int)) {
	time.AfterFunc(limit, func() {
		said := make(chan struct{})
		go func() {
			fmt.Fprintf(stderr, "burst-hook: gave up after %v: the spool's disk does not answer\n", limit)
			close(said)
		}()
		select {
		case <-said:
		case <-time.After(100 * time.Millisecond): // stderr may hang, too
		}
		exit(exitFailed)
	})
}

// call is one hook call as the command line describes it.
type call struct {
	kind     spool.Kind
	hostlist string
	spoolDir string // from --spool; empty where not given
}

var errUsage = errors.New("wrong arguments")

func run(args []string, getenv func(string) string, stderr io.Writer) int {
	c, err := parseArgs(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "burst-hook: %v\n%s", err, usage)
		return exitUsage
	}
	record := spool.Record{
		Kind:        c.kind,
		Time:        time.Now(),
		Hostlist:    c.hostlist,
		Traceparent: newTraceparent(),
	}
	// The resume file only adds for which jobs the nodes boot. Without it
	// the call still counts.
	if path := getenv("SLURM_RESUME_FILE"); path != "" && c.kind == spool.Resume {
		record.ResumeJSON, err = readBounded(path, spool.MaxResumeBytes)
		if err != nil {
			fmt.Fprintf(stderr, "burst-hook: went on without SLURM_RESUME_FILE: %v\n", err)
		}
	}
	dir, err := spoolDir(c.spoolDir, getenv("SLURM_CONF"))
	if err != nil {
		fmt.Fprintf(stderr, "burst-hook: %v\n", err)
		return exitFailed
	}
	if _, err := spool.Write(dir, record); err != nil {
		fmt.Fprintf(stderr, "burst-hook: %s of %s is lost: %v\n", c.kind, bounded(c.hostlist), err)
		if errors.Is(err, os.ErrNotExist) {
			fmt.Fprintf(stderr, "burst-hook: hint: make this directory, or write the path of the one that burst-agent reads (its setting BURST_SPOOL) into the file %s beside slurm.conf\n", spoolFile)
		}
		return exitFailed
	}
	if err := spool.Poke(dir); err != nil {
		fmt.Fprintf(stderr, "burst-hook: the call is kept, the agent will find it: %v\n", err)
	}
	return exitOK
}

// parseArgs reads the kind from the name that the program was called by, or
// from the arguments.
func parseArgs(args []string, stderr io.Writer) (call, error) {
	if len(args) == 0 {
		return call{}, errUsage
	}
	var c call
	operands := args[1:]
	switch name := filepath.Base(args[0]); name {
	case "burst-resume":
		c.kind = spool.Resume
	case "burst-suspend":
		c.kind = spool.Suspend
	case "burst-resume-fail":
		c.kind = spool.ResumeFail
	default:
		flags := flag.NewFlagSet("burst-hook", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		flags.StringVar(&c.spoolDir, "spool", "", "")
		if err := flags.Parse(operands); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprint(stderr, usage)
			}
			return call{}, err
		}
		operands = flags.Args()
		if len(operands) == 0 {
			return call{}, errUsage
		}
		switch operands[0] {
		case "resume":
			c.kind = spool.Resume
		case "suspend":
			c.kind = spool.Suspend
		case "resume-fail":
			c.kind = spool.ResumeFail
		default:
			return call{}, fmt.Errorf("%s is neither resume, suspend nor resume-fail", bounded(operands[0]))
		}
		operands = operands[1:]
	}
	if len(operands) != 1 {
		return call{}, fmt.Errorf("want one hostlist, got %d arguments", len(operands))
	}
	c.hostlist = operands[0]
	if strings.TrimSpace(c.hostlist) == "" {
		return call{}, errors.New("the hostlist is empty")
	}
	return c, nil
}

// spoolDir finds the spool: the option, else the file burst-spool beside
// slurm.conf, else the usual place. A file that is there but says nothing
// usable is an error, so that no call goes where no agent looks.
func spoolDir(option, slurmConf string) (string, error) {
	if option != "" {
		return option, nil
	}
	if slurmConf == "" {
		return defaultSpool, nil
	}
	path := filepath.Join(filepath.Dir(slurmConf), spoolFile)
	data, err := readBounded(path, maxSpoolPath)
	if errors.Is(err, os.ErrNotExist) {
		return defaultSpool, nil
	}
	if err != nil {
		return "", fmt.Errorf("find spool: %w", err)
	}
	dir := strings.TrimSpace(string(data))
	if !filepath.IsAbs(dir) || strings.ContainsAny(dir, "\n\x00") {
		return "", fmt.Errorf("find spool: %s must hold one absolute path, it holds %s", path, bounded(dir))
	}
	return dir, nil
}

// readBounded reads a whole file of at most so many bytes. Neither a named pipe
// without a writer nor one whose writer is silent stops the hook.
func readBounded(path string, most int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(readPatience)) // a plain file has no deadlines and needs none
	var b bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		// One allocation of the right size: growing step by step costs more
		// than reading. ReadFrom wants MinRead bytes of room to see the end.
		b.Grow(min(int(info.Size()), most) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(f, int64(most)+1)); err != nil {
		return nil, err
	}
	data := b.Bytes()
	if len(data) > most {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return data, nil
}

// newTraceparent begins a W3C trace. The ids need to be unique, not secret, so
// the fast generator does.
func newTraceparent() string {
	return fmt.Sprintf("00-%016x%016x-%016x-01", rand.Uint64(), rand.Uint64()|1, rand.Uint64()|1)
}

// bounded quotes the beginning of a text for an error.
func bounded(text string) string {
	const most = 60
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q…", text[:most])
}
