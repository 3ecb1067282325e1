package policy

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slurmburst/slurmburst/internal/burst"
	"github.com/slurmburst/slurmburst/internal/fault"
)

// maxFiles bounds a directory of policies: one per Slurm cluster.
const maxFiles = 256

// LoadPath reads the policy file at path or, if path is a directory, every
// *.yaml in it; hidden files are left alone. The documents are sorted by
// cluster. Two files for one cluster, or two clusters that would both drive
// one CycleCloud nodearray, are errors of kind fault.Invalid.
func LoadPath[N ~string](path string, expand func(string) ([]N, error)) ([]Document, error) {
	files, err := list(path)
	if err != nil {
		return nil, err
	}
	var (
		docs []Document
		errs []error
	)
	for _, file := range files {
		doc, err := load(file, expand)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		docs = append(docs, doc)
	}
	errs = append(errs, collisions(docs)...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(docs, func(a, b Document) int { return cmp.Compare(a.Cluster, b.Cluster) })
	return docs, nil
}

// list gives the policy files at path in order of their names.
func list(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.New(fault.Invalid, "find policy", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fault.New(fault.Invalid, "list policies", err)
	}
	var files []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case e.IsDir() || strings.HasPrefix(name, "."):
		case filepath.Ext(name) == ".yml":
			// Silently ignoring it would leave a cluster without a policy.
			return nil, fault.Newf(fault.Invalid, "list policies in %s: %s would be ignored (want the ending .yaml)", path, name)
		case filepath.Ext(name) == ".yaml":
			files = append(files, filepath.Join(path, name))
		}
	}
	if len(files) == 0 || len(files) > maxFiles {
		return nil, fault.Newf(fault.Invalid, "list policies in %s: got %d files, want 1 to %d *.yaml", path, len(files), maxFiles)
	}
	return files, nil
}

func load[N ~string](file string, expand func(string) ([]N, error)) (Document, error) {
	f, err := os.Open(file)
	if err != nil {
		return Document{}, fault.New(fault.Invalid, "open policy", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return Document{}, fault.New(fault.Invalid, "read policy "+file, err)
	}
	doc, err := Parse(data, expand)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", file, err)
	}
	doc.File = file
	return doc, nil
}

// collisions finds documents that would fight over one cluster or nodearray.
func collisions(docs []Document) []error {
	type target struct {
		url, cluster string
		array        burst.NodearrayName
	}
	var errs []error
	clusters := map[burst.ClusterName]string{}
	targets := map[target]string{}
	for _, d := range docs {
		if first, taken := clusters[d.Cluster]; taken {
			errs = append(errs, fault.Newf(fault.Invalid, "%s: cluster %s has a policy already, in %s", d.File, d.Cluster, first))
			continue
		}
		clusters[d.Cluster] = d.File
		for _, a := range d.Nodearrays {
			t := target{d.CycleCloud.URL, d.CycleCloud.Cluster, a.Name}
			if first, taken := targets[t]; taken {
				errs = append(errs, fault.Newf(fault.Invalid, "%s: nodearray %s of CycleCloud cluster %q is driven already, by %s",
					d.File, a.Name, t.cluster, first))
			}
			targets[t] = d.File
		}
	}
	return errs
}
