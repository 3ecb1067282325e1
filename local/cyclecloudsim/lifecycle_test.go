package cyclecloudsim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLifeOfANode walks real timers in a bubble, one row per moment.
func TestLifeOfANode(t *testing.T) {
	type moment struct {
		after  time.Duration
		status string // Status State TargetState, "" when the node is not listed
	}
	up := []moment{
		{0, "Acquiring Acquiring Started"},
		{9 * time.Second, "Acquiring Acquiring Started"},
		{2 * time.Second, "Preparing Started Started"},
		{58 * time.Second, "Preparing Started Started"},
		{2 * time.Second, "Ready Started Started"},
	}
	for _, test := range []struct {
		name   string
		change func(*Config)
		before func(*Sim) error
		up     []moment
		act    func(*testing.T, *Sim)
		down   []moment
		vms    int
	}{
		{
			name: "a node boots, is terminated and leaves the list", up: up,
			act:  func(t *testing.T, s *Sim) { manage(t, s, "terminate", `{"names":["htc-1"]}`) },
			down: []moment{{0, "Terminating Started Terminated"}, {29 * time.Second, "Terminating Started Terminated"}, {2 * time.Second, ""}},
		},
		{
			name: "terminate during Acquiring makes no VM", up: up[:2],
			act:  func(t *testing.T, s *Sim) { manage(t, s, "terminate", `{"names":["htc-1"]}`) },
			down: []moment{{20 * time.Second, "Terminating Acquiring Terminated"}, {11 * time.Second, ""}},
		},
		{
			name:   "a node that matches never-ready stays Preparing and keeps its VM",
			before: func(s *Sim) error { return s.NeverReady("hpc-*", "htc-?") },
			up:     []moment{{72 * time.Second, "Preparing Started Started"}, {24 * time.Hour, "Preparing Started Started"}}, vms: 1,
		},
		{
			name:   "a failed cluster-init leaves a Failed node whose VM runs on",
			before: func(s *Sim) error { return s.FailNext("htc", FailInit) },
			up:     []moment{{72 * time.Second, "Failed Started Started"}, {time.Hour, "Failed Started Started"}}, vms: 1,
		},
		{
			name:   "a failed terminate leaves a Failed node with TargetState Terminated",
			before: func(s *Sim) error { return s.FailNext("htc", FailTerminate) }, up: up,
			act:  func(t *testing.T, s *Sim) { manage(t, s, "terminate", `{"names":["htc-1"]}`) },
			down: []moment{{31 * time.Second, "Failed Started Terminated"}, {time.Hour, "Failed Started Terminated"}}, vms: 1,
		},
		{
			name:   "an orphaned VM outlives its node",
			before: func(s *Sim) error { return s.FailNext("htc", FailOrphan) }, up: up,
			act:  func(t *testing.T, s *Sim) { manage(t, s, "terminate", `{"names":["htc-1"]}`) },
			down: []moment{{31 * time.Second, ""}}, vms: 1,
		},
		{
			name:   "a node without capacity is terminated by the server and vanishes",
			before: func(s *Sim) error { return s.FailNext("htc", FailCapacity) },
			up:     []moment{{11 * time.Second, "Terminating Started Terminated"}, {30 * time.Second, ""}},
		},
		{
			name:   "SKUNotAvailable vanishes like a capacity failure on new servers",
			before: func(s *Sim) error { return s.FailNext("htc", FailSKU) },
			up:     []moment{{11 * time.Second, "Terminating Started Terminated"}, {30 * time.Second, ""}},
		},
		{
			name:   "SKUNotAvailable stays Failed on old servers",
			change: func(c *Config) { c.Quirks.SKUNotAvailable = Stays },
			before: func(s *Sim) error { return s.FailNext("htc", FailSKU) },
			up:     []moment{{11 * time.Second, "Failed Acquiring Started"}, {time.Hour, "Failed Acquiring Started"}},
		},
		{
			name: "an evicted node is a ghost until the server notices", up: up,
			change: func(c *Config) { c.VanishLag = seconds(40) },
			act: func(t *testing.T, s *Sim) {
				if err := s.Vanish("htc-1", ReasonSpotEvicted); err != nil {
					t.Error(err)
				}
			},
			down: []moment{{0, "Ready Started Started"}, {39 * time.Second, "Ready Started Started"}, {2 * time.Second, ""}},
		},
		{
			name: "a deallocated node stays and has no VM", up: up,
			act:  func(t *testing.T, s *Sim) { manage(t, s, "deallocate", `{"names":["htc-1"]}`) },
			down: []moment{{0, "Stopping Started Deallocated"}, {31 * time.Second, "Deallocated Deallocated Deallocated"}, {time.Hour, "Deallocated Deallocated Deallocated"}},
		},
		{
			name: "shutdown follows the nodearray's policy", up: up,
			change: func(c *Config) { c.NodeArrays[0].Deallocates = true },
			act:    func(t *testing.T, s *Sim) { manage(t, s, "shutdown", `{"names":["htc-1"]}`) },
			down:   []moment{{0, "Stopping Started Deallocated"}, {31 * time.Second, "Deallocated Deallocated Deallocated"}},
		},
		{
			name: "start brings a deallocated node back", up: up,
			act: func(t *testing.T, s *Sim) {
				manage(t, s, "deallocate", `{"names":["htc-1"]}`)
				time.Sleep(31 * time.Second)
				synctest.Wait()
				manage(t, s, "start", `{"names":["htc-1"]}`)
			},
			down: []moment{{0, "Acquiring Acquiring Started"}, {71 * time.Second, "Ready Started Started"}}, vms: 1,
		},
		{
			name: "restart and reimage go through Preparing again", up: up,
			act:  func(t *testing.T, s *Sim) { manage(t, s, "reimage", `{"names":["htc-1"]}`) },
			down: []moment{{time.Second, "Preparing Started Started"}, {60 * time.Second, "Ready Started Started"}}, vms: 1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, test.change)
				if test.before != nil {
					if err := test.before(s); err != nil {
						t.Fatal(err)
					}
				}
				create(t, s, "htc", 1, "")
				check := func(moments []moment) {
					t.Helper()
					for i, m := range moments {
						time.Sleep(m.after)
						synctest.Wait()
						got := ""
						for _, n := range s.Nodes() {
							got = n.Status + " " + n.State + " " + n.TargetState
						}
						if got != m.status {
							t.Errorf("moment %d: got %q, want %q", i, got, m.status)
						}
					}
				}
				check(test.up)
				if test.act != nil {
					test.act(t, s)
				}
				check(test.down)
				if got := len(s.VMs()); test.down != nil && got != test.vms {
					t.Errorf("%d VMs are left, want %d", got, test.vms)
				}
			})
		})
	}
}

func TestRecordsAreFilledAsTheNodeGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, nil)
		create(t, s, "htc", 1, `,"nodeAttributes":{"Tags":{"burst":"7"},"NodeId":"mine","CoreCount":999}`)
		r := record(t, s, "htc-1")
		if r["InstanceId"] != "" || r["PrivateIp"] != "" || r["Hostname"] != "" {
			t.Errorf("a node without VM shows %v %v %v", r["InstanceId"], r["PrivateIp"], r["Hostname"])
		}
		if r["NodeId"] == "mine" || r["CoreCount"] != 4.0 {
			t.Errorf("the request overwrote the server's own attributes: %v", r)
		}
		if diff := cmp.Diff(map[string]any{"burst": "7"}, r["Tags"]); diff != "" {
			t.Error(diff)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		r = record(t, s, "htc-1")
		got := []any{r["InstanceId"], r["PrivateIp"], r["Hostname"], r["Template"], r["MachineType"], r["StatusMessage"]}
		if diff := cmp.Diff([]any{"htc_1", "127.64.0.4", "htc-1", "htc", "F4", "Awaiting node software installation"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNamesAndAddressesAreReusedAndNodeIDsAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, nil)
		ids, addresses := map[string]bool{}, map[string]bool{}
		for range 5 {
			create(t, s, "htc", 1, "")
			time.Sleep(71 * time.Second)
			synctest.Wait()
			n := s.Nodes()[0]
			if n.Name != "htc-1" || n.Status != "Ready" {
				t.Fatalf("got %s %s", n.Name, n.Status)
			}
			ids[n.NodeID], addresses[n.PrivateIP] = true, true
			manage(t, s, "terminate", `{"ids":["`+n.NodeID+`"]}`)
			time.Sleep(31 * time.Second)
			synctest.Wait()
		}
		if len(ids) != 5 || len(addresses) != 1 {
			t.Errorf("%d node ids and %d addresses in 5 lives", len(ids), len(addresses))
		}
	})
}

func TestTheJournalTellsEveryLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, nil)
		if err := s.FailNext("htc", FailCapacity); err != nil {
			t.Fatal(err)
		}
		create(t, s, "htc", 1, "")
		time.Sleep(time.Minute)
		synctest.Wait()
		create(t, s, "htc", 1, "")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		manage(t, s, "terminate", `{"names":["htc-1"]}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		var events []EventName
		for _, e := range s.Journal() {
			if e.Event != HTTP && e.Event != Chaos && e.Event != Started {
				events = append(events, e.Event)
			}
		}
		want := []EventName{
			Created, CapacityFailed, Vanished,
			Created, VMStarted, SoftwareOn, Ready, Terminating, VMStopped, Terminated,
		}
		if diff := cmp.Diff(want, events); diff != "" {
			t.Error(diff)
		}
		i := slices.IndexFunc(s.Journal(), func(e Entry) bool { return e.Event == Vanished })
		if e := s.Journal()[i]; e.Detail != "AllocationFailed" || e.Name != "htc-1" || e.NodeID == "" {
			t.Errorf("vanished as %+v", e)
		}
	})
}

// slowLauncher makes a VM only after a while.
type slowLauncher struct{ delay time.Duration }

func (l slowLauncher) Start(context.Context, VMSpec) (VM, error) {
	time.Sleep(l.delay)
	return new(paperVM), nil
}

func TestNoVMIsLeftWhenTheNodeEndsBeforeItsVMExists(t *testing.T) {
	for _, test := range []struct {
		name   string
		action string
		fixed  string
		delay  Range
		left   []string
	}{
		{"terminate is over before the VM exists", "terminate", "", seconds(5), []string{}},
		{"terminate is over after the VM exists", "terminate", "", seconds(60), []string{}},
		{"a fixed node is Terminated before the VM exists", "terminate", `,"nodeAttributes":{"Fixed":true}`, seconds(5), []string{"htc-1=Terminated"}},
		{"deallocate is over before the VM exists", "deallocate", "", seconds(5), []string{"htc-1=Deallocated"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, func(c *Config) {
					c.Launcher, c.TerminateDelay = slowLauncher{30 * time.Second}, test.delay
				})
				create(t, s, "htc", 1, test.fixed)
				time.Sleep(15 * time.Second)
				manage(t, s, test.action, `{"names":["htc-1"]}`)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if started, stopped := count(s, VMStarted), count(s, VMStopped); started != 1 || stopped != 1 || len(s.VMs()) > 0 {
					t.Errorf("%d VMs started, %d stopped, %d left", started, stopped, len(s.VMs()))
				}
				if diff := cmp.Diff(test.left, statuses(s)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestCloseWaitsForAVMThatIsBeingMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, func(c *Config) { c.Launcher = slowLauncher{30 * time.Second} })
		create(t, s, "htc", 1, "")
		time.Sleep(15 * time.Second)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if started, stopped := count(s, VMStarted), count(s, VMStopped); started != 1 || stopped != 1 {
			t.Errorf("%d VMs started, %d stopped", started, stopped)
		}
	})
}

// stubborn is a launcher whose VMs refuse to stop while it says so.
type stubborn struct{ refuses bool }

func (l *stubborn) Start(context.Context, VMSpec) (VM, error) { return &stubbornVM{l: l}, nil }

type stubbornVM struct {
	paperVM
	l *stubborn
}

func (v *stubbornVM) Stop() error {
	if v.l.refuses {
		return errors.New("still there")
	}
	return v.paperVM.Stop()
}

func TestAVMThatResistsKeepsItsNode(t *testing.T) {
	clock, launcher := newManual(), &stubborn{refuses: true}
	s := newSim(t, func(c *Config) { c.Clock, c.Launcher = clock, launcher })
	create(t, s, "htc", 1, "")
	clock.advance(2 * time.Minute)
	manage(t, s, "terminate", `{"names":["htc-1"]}`)
	clock.advance(time.Minute)
	n := s.Nodes()[0]
	if n.Status != "Failed" || n.TargetState != "Terminated" || !strings.Contains(n.StatusMessage, "still there") || len(s.VMs()) != 1 {
		t.Errorf("got %+v with %d VMs", n, len(s.VMs()))
	}
	if err := s.Vanish("htc-1", ReasonVMDisappeared); err == nil || !strings.Contains(err.Error(), "htc-1") {
		t.Errorf("vanish says %v", err)
	}
	launcher.refuses = false
	manage(t, s, "terminate", `{"names":["htc-1"]}`)
	clock.advance(time.Minute)
	if len(s.Nodes())+len(s.VMs()) > 0 {
		t.Errorf("left after the second terminate: %v and %d VMs", statuses(s), len(s.VMs()))
	}
}

func TestCloseNamesAVMThatResists(t *testing.T) {
	clock, launcher := newManual(), &stubborn{refuses: true}
	cfg := lab()
	cfg.Clock, cfg.Launcher = clock, launcher
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "htc", 1, "")
	clock.advance(2 * time.Minute)
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "stop VM of node htc-1: still there") {
		t.Errorf("Close says %v", err)
	}
	if len(s.VMs()) != 1 {
		t.Error("the VM is off the books")
	}
}

func TestCloseEndsEveryVMAndIsRepeatable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, nil)
		create(t, s, "htc", 4, "")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := len(s.VMs()); got != 4 {
			t.Fatalf("%d VMs before Close", got)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if vms, stopped := len(s.VMs()), count(s, VMStopped); vms != 0 || stopped != 4 {
			t.Errorf("after Close there are %d VMs and the journal has %d stopped", vms, stopped)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := count(s, SoftwareOn); got != 0 {
			t.Errorf("%d VMs booted after Close", got)
		}
	})
}
