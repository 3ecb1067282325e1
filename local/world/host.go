package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/slurmburst/slurmburst/local/functionshost"
)

// appSettings are the settings of the Functions app.
func (w *World) appSettings() map[string]string {
	settings := merged(w.busSettings(w.appBusAddress, appIdentity), w.tableSettings(appIdentity))
	settings["BURST_POLICY"] = w.policyPath
	settings["FUNCTIONS_WORKER_RUNTIME"] = "custom"
	settings["BURST_QUEUE_PRESSURE"] = "queue-pressure"
	settings["BURST_SCALE_DOWN"] = "scale-down"
	settings["BURST_RECLAIM_SCHEDULE"] = w.ReclaimSchedule
	settings["BURST_CREDENTIAL_CYCLECLOUD"] = simUser + ":" + simPassword
	return settings
}

// startHost starts the Functions host and ends it with the world.
func (w *World) startHost(ctx context.Context) error {
	if err := w.runHost(ctx); err != nil {
		return err
	}
	w.onStop(func(ctx context.Context) error { return w.takeHost()(ctx) })
	return nil
}

// runHost starts one Functions host and waits until its handlers are ready.
func (w *World) runHost(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	app, instances, err := w.hosted()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	w.functionKey = "only-on-loopback"
	host, err := functionshost.New(functionshost.Config{
		AppDir: app, Settings: w.appSettings(), Listener: listener, ServiceBusAddress: w.appBusAddress,
		Keys: functionshost.Keys{Function: w.functionKey, Master: w.functionKey},
		Flex: true, Instances: instances, StateDir: filepath.Join(w.Dir, "state"),
		HostRestartDelay: time.Second, DrainTimeout: 3 * time.Second, Logger: w.logger(), OnInvocation: w.OnInvocation,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := host.Run(running); err != nil && running.Err() == nil {
			w.logger().Error("functions host ended", "error", err)
		}
	}()
	w.mu.Lock()
	w.Host, w.frontURL = host, "http://"+listener.Addr().String()
	w.stopHost = func(ctx context.Context) error {
		stop()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stop functions host: %w", ctx.Err())
		}
	}
	w.mu.Unlock()
	select {
	case <-host.Ready():
		return nil
	case <-done:
		return fmt.Errorf("the functions host ended before it was ready; see %s", w.log.Name())
	case <-time.After(60 * time.Second):
		return fmt.Errorf("the functions host was not ready in 60 s; see %s", w.log.Name())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hosted gives the app folder and how many hosts each function gets. Without
// sessions it is a copy of the packaged app whose bindings ask for none, with
// two hosts for each of the functions that decide.
func (w *World) hosted() (app string, instances map[string]int, err error) {
	if !w.NoSessions {
		return w.appDir(), map[string]int{"queue_pressure": w.PressureHosts}, nil
	}
	app = filepath.Join(w.Dir, "app")
	if err := os.RemoveAll(app); err != nil {
		return "", nil, err
	}
	if err := os.CopyFS(app, os.DirFS(w.appDir())); err != nil {
		return "", nil, err
	}
	if err := os.Chmod(filepath.Join(app, "handler"), 0o755); err != nil {
		return "", nil, err
	}
	for _, function := range []string{"queue_pressure", "scale_down"} {
		file := filepath.Join(app, function, "function.json")
		text, err := os.ReadFile(file)
		if err != nil {
			return "", nil, err
		}
		text = bytes.ReplaceAll(text, []byte(`"isSessionsEnabled": true`), []byte(`"isSessionsEnabled": false`))
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return "", nil, err
		}
	}
	return app, map[string]int{"queue_pressure": w.PressureHosts, "scale_down": 2}, nil
}

// takeHost gives what stops the present host, which then counts as stopped.
func (w *World) takeHost() func(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	stop := w.stopHost
	w.stopHost = nil
	if stop == nil {
		return func(context.Context) error { return nil }
	}
	return stop
}

// KillHost ends the Functions host and all its handlers as SIGKILL would, with
// their connections, and starts another on a new port.
func (w *World) KillHost(ctx context.Context) error {
	w.appBusGate.cut()
	w.CurrentHost().Kill()
	err := w.takeHost()(ctx)
	w.appBusGate.open()
	if err != nil {
		return err
	}
	return w.runHost(ctx)
}

// StateURL is the base of the HTTP state API, and Key its function key.
func (w *World) StateURL() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frontURL + "/api/state/v1"
}

// CurrentHost is the Functions host that runs now.
func (w *World) CurrentHost() *functionshost.Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Host
}
