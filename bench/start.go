package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// measureStart times the handler from the fork until its port answers,
// interleaved with a program that only listens.
func measureStart(ctx context.Context, b *bench) error {
	dir, err := b.scratch("start")
	if err != nil {
		return err
	}
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, policyText("bench", "https://127.0.0.1:1", strings.Repeat("ab", 32), 200), 0o600); err != nil {
		return err
	}
	// Nothing listens where these point: the handler connects to nothing at its start.
	env := environment(appSettings("Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=k;SharedAccessKey=k;UseDevelopmentEmulator=true",
		"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:1/a;", policy))
	var handlers, floors costs
	for range b.effort.runs {
		var handler, floor []cost
		for range max(5, b.effort.samples/5) {
			took, err := untilListening(ctx, filepath.Join(b.app(), "handler"), func(port string) ([]string, []string) {
				return []string{"handler"}, slices.Concat(env, []string{"FUNCTIONS_CUSTOMHANDLER_PORT=" + port, "FUNCTIONS_APP_ROOT_PATH=" + b.app()})
			})
			if err != nil {
				return err
			}
			handler = append(handler, took)
			if took, err = untilListening(ctx, b.bin("floor"), func(port string) ([]string, []string) { return []string{"floor", "listen", port}, nil }); err != nil {
				return err
			}
			floor = append(floor, took)
		}
		handlers.add(handler)
		floors.add(floor)
	}
	const floor = "a static Go program that only listens"
	b.add(measure{
		what: "handler: process start to listening", value: handlers.wall, unit: "ms", target: below(handlers.wall.median(), 50, "ms"),
	}.over(floors.wall, floor))
	b.add(measure{key: "start_cpu", what: "the same: CPU", value: handlers.cpu, unit: "ms"}.over(floors.cpu, floor))
	return nil
}

// untilListening starts a program that is told its port and measures until the
// port accepts a connection.
func untilListening(ctx context.Context, path string, command func(port string) (argv, env []string)) (cost, error) {
	l, err := listen(ctx)
	if err != nil {
		return cost{}, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return cost{}, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return cost{}, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return cost{}, err
	}
	defer null.Close()
	argv, env := command(port)
	began := time.Now()
	process, err := os.StartProcess(path, argv, &os.ProcAttr{Env: env, Files: []*os.File{null, null, os.Stderr}})
	if err != nil {
		return cost{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	err = dial(ctx, address, 10*time.Second)
	took := time.Since(began)
	_ = process.Kill() // it may have ended by itself
	state, waitErr := process.Wait()
	if err := errors.Join(err, waitErr); err != nil {
		return cost{}, fmt.Errorf("wait until %s listens: %w", argv[0], err)
	}
	return cost{wall: took, cpu: state.UserTime() + state.SystemTime()}, nil
}

// dial tries again and again until somebody listens.
func dial(ctx context.Context, address string, most time.Duration) error {
	var dialer net.Dialer
	for began := time.Now(); ; time.Sleep(100 * time.Microsecond) {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		if time.Since(began) > most {
			return fmt.Errorf("nobody listens after %s: %w", most, err)
		}
	}
}
