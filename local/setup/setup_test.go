package setup

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeMachine is a machine of which the test decides what apt-get, sudo and npm
// do. Each of them writes its arguments into the file calls.
type fakeMachine struct {
	machine
	dir, build string
	out        *bytes.Buffer
}

func newFakeMachine(t *testing.T) fakeMachine {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	t.Setenv("FAKE", dir)
	out := &bytes.Buffer{}
	return fakeMachine{
		machine: machine{out: out, programDirs: []string{bin}, policyFile: filepath.Join(dir, "policy-rc.d"), isRoot: true, tick: time.Hour},
		dir:     dir, build: filepath.Join(dir, "build"), out: out,
	}
}

// program adds a program to the machine.
func (f fakeMachine) program(t *testing.T, name, script string) {
	t.Helper()
	text := "#!/bin/sh\necho \"" + name + " $*\" >>\"$FAKE/calls\"\n" + script
	if err := os.WriteFile(filepath.Join(f.dir, "bin", name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (f fakeMachine) slurm(t *testing.T) {
	t.Helper()
	for _, p := range debianPackages {
		for _, name := range p.programs {
			f.program(t, name, "")
		}
	}
}

// calls gives the calls so far, one a line.
func (f fakeMachine) calls(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

// aptInstalls is an apt-get that brings every program and notes whether services
// may start.
const aptInstalls = `
[ "$1" = install ] || exit 0
"$FAKE/policy-rc.d"; echo "policy $?" >>"$FAKE/calls"
echo "frontend $DEBIAN_FRONTEND" >>"$FAKE/calls"
for name in slurmctld slurmd slurmstepd sbatch scancel scontrol sinfo squeue srun munged; do
	printf '#!/bin/sh\n' >"$FAKE/bin/$name"; chmod 755 "$FAKE/bin/$name"
done
`

// npmInstalls is an npm that installs an Azurite of the version in $VERSION.
const npmInstalls = `
mkdir -p node_modules/azurite/dist/src/table
touch node_modules/azurite/dist/src/table/main.js
printf '{"packages":{"node_modules/azurite":{"version":"%s"}}}' "$VERSION" >node_modules/.package-lock.json
`

func TestBareMachineGetsEverythingAndASecondRunDoesNothing(t *testing.T) {
	f := newFakeMachine(t)
	t.Setenv("VERSION", AzuriteVersion)
	f.program(t, "apt-get", aptInstalls)
	f.program(t, "npm", npmInstalls)
	if err := f.install(t.Context(), f.build); err != nil {
		t.Fatal(err)
	}
	want := `apt-get update
apt-get install --yes --no-install-recommends slurmctld slurmd slurm-client munge
policy 101
frontend noninteractive
npm ci --loglevel=error --ignore-scripts --no-audit --no-fund --no-update-notifier
`
	if got := f.calls(t); got != want {
		t.Errorf("calls:\n%s\nwant:\n%s", got, want)
	}
	if _, err := os.Stat(f.policyFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the policy file is still there: %v", err)
	}
	f.out.Reset()
	if err := f.install(t.Context(), f.build); err != nil {
		t.Fatal(err)
	}
	if got := f.calls(t); got != want {
		t.Errorf("the second run did something:\n%s", got)
	}
	if got, want := f.out.String(), "setup: Slurm, munge and Azurite 3.37.0 are there\n"; got != want {
		t.Errorf("the second run said %q, want %q", got, want)
	}
}

func TestPolicyFileOfTheMachineIsKept(t *testing.T) {
	f := newFakeMachine(t)
	f.program(t, "apt-get", aptInstalls)
	own := []byte("#!/bin/sh\nexit 104\n")
	if err := os.WriteFile(f.policyFile, own, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.installPackages(t.Context(), []string{"munge"}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(f.policyFile); err != nil || !bytes.Equal(text, own) {
		t.Errorf("the policy file is %q: %v", text, err)
	}
}

func TestOnlyThePackagesWithMissingProgramsAreInstalled(t *testing.T) {
	f := newFakeMachine(t)
	f.slurm(t)
	if got := f.missingPackages(); len(got) != 0 {
		t.Fatalf("missing %v, want none", got)
	}
	for _, name := range []string{"slurmstepd", "munged"} {
		if err := os.Remove(filepath.Join(f.dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(f.missingPackages(), " "); got != "slurmd munge" {
		t.Errorf("missing %q, want slurmd and munge", got)
	}
}

func TestErrorsNameThePackageAndTheWayOut(t *testing.T) {
	tests := map[string]struct {
		prepare func(*testing.T, *fakeMachine)
		want    []string
	}{
		"no root and no sudo": {
			prepare: func(t *testing.T, f *fakeMachine) {
				f.isRoot = false
				f.program(t, "apt-get", "")
				t.Setenv("PATH", filepath.Join(f.dir, "bin"))
			},
			want: []string{"slurmctld", "neither root nor sudo", "run as root: apt-get update && apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"},
		},
		"no apt-get": {
			prepare: func(t *testing.T, f *fakeMachine) { t.Setenv("PATH", filepath.Join(f.dir, "bin")) },
			want:    []string{"slurmctld", "no Debian"},
		},
		"apt-get fails": {
			prepare: func(t *testing.T, f *fakeMachine) {
				f.program(t, "apt-get", "echo no route to the mirror >&2; exit 100")
			},
			want: []string{"exit status 100", "no route to the mirror", "by hand, as root"},
		},
		"apt-get brings nothing": {
			prepare: func(t *testing.T, f *fakeMachine) { f.program(t, "apt-get", "") },
			want:    []string{"apt-get said yes", "slurmctld, slurmd, slurm-client, munge are still missing"},
		},
		"no npm": {
			prepare: func(t *testing.T, f *fakeMachine) {
				f.slurm(t)
				t.Setenv("PATH", filepath.Join(f.dir, "bin"))
			},
			want: []string{"Azurite 3.37.0", "install Node.js"},
		},
		"npm brings another version": {
			prepare: func(t *testing.T, f *fakeMachine) {
				f.slurm(t)
				t.Setenv("VERSION", "3.36.0")
				f.program(t, "npm", npmInstalls)
			},
			want: []string{"npm said yes", "tools"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFakeMachine(t)
			test.prepare(t, &f)
			err := f.install(t.Context(), f.build)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want it to have %q", err, want)
				}
			}
		})
	}
}

func TestSudoIsUsedByOrdinaryUsers(t *testing.T) {
	f := newFakeMachine(t)
	f.isRoot = false
	f.program(t, "sudo", `exec "$@"`)
	f.program(t, "apt-get", aptInstalls)
	if err := f.installPackages(t.Context(), []string{"munge"}); err != nil {
		t.Fatal(err)
	}
	if got := f.calls(t); !strings.HasPrefix(got, "sudo /bin/sh -c ") || !strings.Contains(got, "recommends munge\n") {
		t.Errorf("calls %q, want sudo first", got)
	}
}

func TestLongStepShowsThatItGoesOn(t *testing.T) {
	f := newFakeMachine(t)
	f.tick = time.Millisecond
	f.program(t, "slow", `echo "unpacking munge"; while [ ! -e "$FAKE/shown" ]; do sleep 0.01; done`)
	shown := writerFunc(func(text []byte) {
		if strings.Contains(string(text), "s: unpacking munge") {
			if err := os.WriteFile(filepath.Join(f.dir, "shown"), nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	f.machine.out = shown
	if err := f.run(t.Context(), "installing", "", "slow"); err != nil {
		t.Fatal(err)
	}
}

type writerFunc func([]byte)

func (w writerFunc) Write(text []byte) (int, error) {
	w(text)
	return len(text), nil
}

func TestInterruptedInstallLeavesNoPolicyFile(t *testing.T) {
	f := newFakeMachine(t)
	f.program(t, "apt-get", `[ "$1" = install ] || exit 0
touch "$FAKE/started"; exec sleep 60 >/dev/null 2>&1`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.installPackages(ctx, []string{"munge"}) }()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for started := false; !started; {
		select {
		case <-ticker.C:
			_, err := os.Stat(filepath.Join(f.dir, "started"))
			started = err == nil
		case err := <-done:
			t.Fatalf("ended early: %v", err)
		}
	}
	cancel()
	if err := <-done; err == nil {
		t.Error("an interrupted install succeeded")
	}
	if _, err := os.Stat(f.policyFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the policy file is still there: %v", err)
	}
}

func TestLockFileNamesNoRegistryAndPinsByHash(t *testing.T) {
	text, err := npmFiles.ReadFile("npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(`"resolved"`)) {
		t.Error("the lock file has resolved addresses")
	}
	versions, hashes := bytes.Count(text, []byte(`"version":`)), bytes.Count(text, []byte(`"integrity":`))
	if versions == 0 || versions != hashes {
		t.Errorf("%d versions and %d hashes in the lock file", versions, hashes)
	}
}

func TestThisRepositoryHasWhatSetupInstalls(t *testing.T) {
	build, err := BuildDir(".")
	if err != nil {
		t.Fatal(err)
	}
	if !azuriteIsInstalled(build) {
		t.Errorf("Azurite %s is not in %s: run setup first", AzuriteVersion, build)
	}
}
