package slurm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// noUnprintable fails on text that could break a log line or a terminal.
func noUnprintable(t *testing.T, value any) {
	t.Helper()
	text := fmt.Sprintf("%v", value)
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Fatalf("unprintable text got through: %q", text)
	}
}

func FuzzParseJobs(f *testing.F) {
	const end = "\x1eEND\n"
	f.Add(capture(f, "22.05.8", "squeue-product.txt"))
	f.Add(hugeQueue(2, end))
	for _, version := range versions {
		f.Add(capture(f, version, "hostile-squeue-O.txt"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		jobs, dropped, err := parseJobs(bytes.NewReader(data), newTableParser(jobColumns), end)
		if err != nil {
			t.Fatal(err)
		}
		records := bytes.Count(data, []byte(end))
		if !bytes.HasSuffix(data, []byte(end)) && len(data) > 0 {
			records++
		}
		if len(jobs)+dropped != records {
			t.Fatalf("%d jobs and %d dropped of %d records", len(jobs), dropped, records)
		}
		for _, job := range jobs {
			if job.ID == 0 || len(job.Partitions) == 0 || job.NodeCount < 0 || job.GPUs < 0 || job.TimeLimit < 0 {
				t.Fatalf("impossible job %+v", job)
			}
			noUnprintable(t, []any{job.State, job.Partitions, job.User, job.Account, job.QOS, job.Reason, job.Description, job.Features, job.Nodes})
		}
	})
}

func FuzzParseNodes(f *testing.F) {
	const end = "\x1eEND\n"
	f.Add([]byte("n1\x1flocal*\x1fidle+cloud\x1f0/4/0/4\x1f1000\x1f0\x1fa,b\x1fgpu:tesla:2\x1f127.0.0.1\x1fUnknown\x1fnone" + end))
	f.Add([]byte("n1\x1flocal\x1fidle\x1f0/4/0\x1f1000"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parser := newTableParser(nodeColumns)
		parser.openEnd = true
		nodes, _, err := parseNodes(bytes.NewReader(data), parser, end)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[NodeName]bool{}
		for _, node := range nodes {
			if node.Name.Validate() != nil || seen[node.Name] || node.State.Base == "" {
				t.Fatalf("impossible node %+v", node)
			}
			seen[node.Name] = true
			noUnprintable(t, []any{node.Name, node.Address, node.Partitions, node.State, node.Features, node.Gres, node.Reason})
		}
	})
}

func FuzzParseScontrol(f *testing.F) {
	for _, version := range versions {
		for _, name := range []string{"scontrol-o-show-partition.txt", "scontrol-show-config.txt", "scontrol-ping.txt", "sdiag.txt", "resume-file-2.json"} {
			f.Add(capture(f, version, name))
		}
		f.Add(capture(f, version, "scontrol-o-show-node.txt")[:2000])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if partitions, err := parsePartitions(string(data)); err == nil {
			for _, p := range partitions {
				noUnprintable(t, p)
			}
		}
		if config, err := parseConfig(string(data)); err == nil {
			config.values = nil
			noUnprintable(t, config)
		}
		if controllers, err := parsePing(bytes.NewReader(data)); err == nil {
			noUnprintable(t, controllers)
		}
		if counters, err := parseCounters(string(data)); err == nil && counters.Pending < 0 {
			t.Fatalf("%+v", counters)
		}
		if busy, err := parseLastBusy(string(data)); err == nil {
			for name := range busy {
				if name.Validate() != nil {
					t.Fatalf("name %q", name)
				}
			}
		}
		if jobs, err := ParseResumeFile(data); err == nil {
			noUnprintable(t, jobs)
		}
	})
}
