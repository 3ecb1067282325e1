// Command package answers one question: what exactly ships to Azure? It builds
// the handler and assembles build/app, the folder that the Functions host
// runs, and build/app.zip, the same folder for deployment. The laptop runs
// that very folder. It must never put a secret or local.settings.json into
// either, and equal sources must give equal bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
)

// job is one packaging run. Paths are relative to root unless absolute.
type job struct {
	root   string // of the repository: holds host.json, functions and cmd/handler
	out    string // gets app and app.zip
	policy string // a policy file or a directory of them; empty for none
	goarch string
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "package: error:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	var j job
	flags := flag.NewFlagSet("package", flag.ContinueOnError)
	flags.StringVar(&j.root, "root", ".", "the repository")
	flags.StringVar(&j.out, "out", "build", "directory that gets app and app.zip, relative to the repository")
	flags.StringVar(&j.policy, "policy", "", "policy file to ship as policy.yaml, or directory of policies to ship as policy/")
	flags.StringVar(&j.goarch, "goarch", runtime.GOARCH, "architecture of the handler; Azure Flex Consumption runs amd64 only")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if !filepath.IsAbs(j.out) {
		j.out = filepath.Join(j.root, j.out)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	files, err := j.assemble(ctx)
	if err != nil {
		return err
	}
	size, err := writeZip(filepath.Join(j.out, "app.zip"), filepath.Join(j.out, "app"), files)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "packaged %d files in %s and app.zip (%d KiB)\n", len(files), filepath.Join(j.out, "app"), size>>10)
	return nil
}
