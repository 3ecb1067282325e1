package spool_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slurmburst/slurmburst/internal/spool"
)

func listen(t *testing.T, dir string) *spool.Listener {
	t.Helper()
	l, err := spool.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeListener(t *testing.T, l *spool.Listener) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func poke(t *testing.T, dir string) {
	t.Helper()
	if err := spool.Poke(dir); err != nil {
		t.Fatal(err)
	}
}

func expectPoke(t *testing.T, l *spool.Listener) {
	t.Helper()
	select {
	case <-l.Pokes():
	case <-time.After(30 * time.Second):
		t.Fatal("no poke arrived")
	}
}

func TestAPokeReachesTheListener(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	defer closeListener(t, l)
	for range 3 {
		poke(t, dir)
		expectPoke(t, l)
	}
}

func TestAPokeReachesADirectoryWithALongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := listen(t, dir)
	defer closeListener(t, l)
	poke(t, dir)
	expectPoke(t, l)
}

func TestPokingNobodyIsNoError(t *testing.T) {
	dir := t.TempDir()
	poke(t, dir) // no socket at all
	l := listen(t, dir)
	leave(t, dir, l)
	poke(t, dir) // a socket that nobody holds any more
}

// leave closes the listener but keeps its socket file, as a killed agent does.
func leave(t *testing.T, dir string, l *spool.Listener) {
	t.Helper()
	path := filepath.Join(dir, "agent.sock")
	if err := os.Rename(path, path+".kept"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".kept", path); err != nil {
		t.Fatal(err)
	}
}

func TestPokesThatNobodyTakesNeverBlock(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, dir)
	defer closeListener(t, l)
	done := make(chan error, 1)
	go func() {
		for range 2000 { // far more than a socket's queue holds
			if err := spool.Poke(dir); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a poke blocked")
	}
	expectPoke(t, l)
}

func TestAStaleSocketIsReplacedALivingOneIsNot(t *testing.T) {
	dir := t.TempDir()
	leave(t, dir, listen(t, dir))
	l := listen(t, dir)
	defer closeListener(t, l)
	if _, err := spool.Listen(dir); err == nil || !strings.Contains(err.Error(), "another agent listens there") {
		t.Errorf("a second listener got %v", err)
	}
	poke(t, dir)
	expectPoke(t, l)
}

func TestCloseKeepsTheSocketOfASuccessor(t *testing.T) {
	dir := t.TempDir()
	first := listen(t, dir)
	if err := os.Remove(filepath.Join(dir, "agent.sock")); err != nil {
		t.Fatal(err)
	}
	second := listen(t, dir)
	defer closeListener(t, second)
	closeListener(t, first)
	poke(t, dir)
	expectPoke(t, second)
}

func TestListenNamesAMissingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	if _, err := spool.Listen(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
}
