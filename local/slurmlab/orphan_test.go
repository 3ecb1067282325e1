package slurmlab_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/slurmburst/slurmburst/local/slurmlab"
)

// ownerRole makes this test binary play the owner of a lab: it starts one in the
// directory that the variable names, with a job that sleeps, and hangs.
const ownerRole = "SLURMLAB_TEST_OWNER"

func TestMain(m *testing.M) {
	dir := os.Getenv(ownerRole)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := ownLab(dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

func ownLab(dir string) error {
	ctx := context.Background()
	lab, err := slurmlab.Start(ctx, slurmlab.Config{Dir: dir, LocalNodes: 1})
	if err != nil {
		return err
	}
	_, err = lab.Submit(ctx, "--wrap=sleep 4715")
	return err
}

// A test that runs into its time limit dies without its clean-up functions.
func TestLabDiesWithAnOwnerThatIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owner := exec.CommandContext(t.Context(), os.Args[0])
	owner.Env = append(os.Environ(), ownerRole+"="+dir)
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	process := start(t, owner)
	t.Cleanup(process.Kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the owner said %q: %v", line, err)
	}
	eventually(t, "the job sleeps", func(context.Context) (bool, string) { return sleeps(t, "4715"), "" })
	process.Kill()
	eventually(t, "nothing of the lab is left", func(context.Context) (bool, string) {
		left := processesOf(t, dir)
		return len(left) == 0 && !sleeps(t, "4715"), strings.Join(left, "; ")
	})
}
