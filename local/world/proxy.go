package world

import (
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
)

// proxyTables puts a proxy before Azurite, because it must never be killed: it
// loses what it acknowledged. It can be cut off instead.
func (w *World) proxyTables() error {
	endpoint, err := url.Parse(w.Azurite.Endpoint())
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.tablesGate = newGate(listener)
	w.tablesConnection = strings.ReplaceAll(w.Azurite.ConnectionString(), endpoint.Host, listener.Addr().String())
	w.tablesEndpoint = strings.ReplaceAll(w.Azurite.Endpoint(), endpoint.Host, listener.Addr().String())
	w.serve(func() error { return forward(w.tablesGate, endpoint.Host) })
	w.onStop(func(context.Context) error {
		w.tablesGate.cut()
		return listener.Close()
	})
	return nil
}

// forward passes every connection on to the target until the listener ends.
func forward(from net.Listener, target string) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		near, err := from.Accept()
		if err != nil {
			return err
		}
		far, err := net.Dial("tcp", target)
		if err != nil {
			near.Close()
			continue
		}
		running.Go(func() { join(near, far) })
	}
}

// join copies both ways until one side ends, and then ends the other.
func join(near, far net.Conn) {
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1]) // a cut connection is what the proxy is for
			near.Close()
			far.Close()
		})
	}
	both.Wait()
}

// CutTables takes Azurite off the app's network, and RestoreTables brings it
// back.
func (w *World) CutTables() { w.tablesGate.cut() }

// RestoreTables ends CutTables.
func (w *World) RestoreTables() { w.tablesGate.open() }

// CutCycleCloud takes the CycleCloud server off the network.
func (w *World) CutCycleCloud() { w.simGate.cut() }

// RestoreCycleCloud ends CutCycleCloud.
func (w *World) RestoreCycleCloud() { w.simGate.open() }
