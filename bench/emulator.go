package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/slurmburst/slurmburst/local/servicebusemu"
)

const (
	senders     = 16
	messageSize = 1024
)

// measureEmulator drives the emulator with the unmodified client over one
// connection. Client and emulator share the cores, and the client takes most.
func measureEmulator(ctx context.Context, b *bench) error {
	count := 200 * b.effort.samples
	var sends, receives, floors paces
	for i := range b.effort.runs {
		address, stop, err := startEmulator(ctx, servicebusemu.QueueConfig{Name: "q"})
		if err != nil {
			return err
		}
		err = func() error {
			client, err := azservicebus.NewClientFromConnectionString(servicebusemu.ConnectionString(address), nil)
			if err != nil {
				return fmt.Errorf("open client: %w", err)
			}
			defer func() { _ = client.Close(context.WithoutCancel(ctx)) }() // it has nothing left to lose
			if err := sendAll(ctx, client, count/10, nil); err != nil {     // warm-up
				return err
			}
			if err := sendAll(ctx, client, count, &sends); err != nil {
				return err
			}
			if err := receiveAll(ctx, client, count/10, nil); err != nil {
				return err
			}
			return receiveAll(ctx, client, count, &receives)
		}()
		if err := errors.Join(err, stop()); err != nil {
			return fmt.Errorf("run %d: %w", i+1, err)
		}
		if err := echo(ctx, count, &floors); err != nil {
			return err
		}
	}
	const floor = "1 KiB and an answer over one TCP connection, 16 at once, without any protocol"
	b.add(measure{
		what: "emulator: 1 KiB messages sent one by one, 16 goroutines, one connection", value: sends.rate, unit: "/s",
		target: atLeast(sends.rate.median(), 20_000, "/s"),
	}.rateUnder(floors.rate, floor))
	b.add(measure{
		what: "emulator: received and completed one by one, one connection", value: receives.rate, unit: "/s",
		target: atLeast(receives.rate.median(), 15_000, "/s"),
	}.rateUnder(floors.rate, floor))
	b.add(measure{key: "emulator_send_cpu", what: "emulator: CPU for 1,000 messages sent, with the client's", value: sends.cpu, unit: "ms"}.over(floors.cpu, floor))
	b.add(measure{key: "emulator_receive_cpu", what: "emulator: CPU for 1,000 messages received and completed, with the client's", value: receives.cpu, unit: "ms"}.over(floors.cpu, floor))
	return nil
}

// startEmulator serves queues on a free port.
func startEmulator(ctx context.Context, queues ...servicebusemu.QueueConfig) (address string, stop func() error, err error) {
	server, err := servicebusemu.New(servicebusemu.Config{Queues: queues})
	if err != nil {
		return "", nil, err
	}
	l, err := listen(ctx)
	if err != nil {
		return "", nil, err
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	return l.Addr().String(), func() error { return errors.Join(server.Close(), <-served) }, nil
}

func listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	return l, nil
}

// paces hold a number for each run.
type paces struct {
	rate series // per second
	cpu  series // milliseconds of this process for 1,000
}

// together calls do so often, from several goroutines. It keeps the pace unless
// into is nil.
func together(goroutines, count int, into *paces, do func() error) error {
	var left atomic.Int64
	left.Store(int64(count))
	errs := make([]error, goroutines)
	began := time.Now()
	cpu, err := spending(func() {
		var all sync.WaitGroup
		for i := range goroutines {
			all.Go(func() {
				for errs[i] == nil && left.Add(-1) >= 0 {
					errs[i] = do()
				}
			})
		}
		all.Wait()
	})
	if into != nil {
		into.rate = append(into.rate, float64(count)/time.Since(began).Seconds())
		into.cpu = append(into.cpu, cpu*1000/float64(count))
	}
	return errors.Join(append(errs, err)...)
}

func sendAll(ctx context.Context, client *azservicebus.Client, count int, into *paces) error {
	s, err := client.NewSender("q", nil)
	if err != nil {
		return fmt.Errorf("open sender: %w", err)
	}
	body := make([]byte, messageSize)
	err = together(senders, count, into, func() error {
		return s.SendMessage(ctx, &azservicebus.Message{Body: body}, nil)
	})
	if err := errors.Join(err, s.Close(ctx)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// receiveAll takes messages as they come and completes each by itself.
func receiveAll(ctx context.Context, client *azservicebus.Client, count int, into *paces) error {
	r, err := client.NewReceiverForQueue("q", nil)
	if err != nil {
		return fmt.Errorf("open receiver: %w", err)
	}
	received := make(chan *azservicebus.ReceivedMessage, 500)
	broken := make(chan error, 1)
	go func() {
		defer close(received)
		for n := 0; n < count; {
			messages, err := r.ReceiveMessages(ctx, min(500, count-n), nil)
			if err != nil {
				broken <- err
				return
			}
			n += len(messages)
			for _, m := range messages {
				received <- m
			}
		}
	}()
	err = together(4*senders, count, into, func() error {
		m, ok := <-received
		if !ok {
			return errors.New("the receiver ended early")
		}
		return r.CompleteMessage(ctx, m, nil)
	})
	select {
	case cause := <-broken:
		err = errors.Join(err, cause)
	default:
	}
	if err := errors.Join(err, r.Close(ctx)); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

// echo is the floor: requests of the same size, multiplexed over one
// connection, each answered by its number.
func echo(ctx context.Context, count int, into *paces) error {
	l, err := listen(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		request := make([]byte, messageSize)
		for {
			if _, err := io.ReadFull(conn, request); err != nil {
				return
			}
			if _, err := conn.Write(request[:8]); err != nil {
				return
			}
		}
	}()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return fmt.Errorf("dial echo: %w", err)
	}
	defer conn.Close()
	return multiplex(conn, count, into)
}

// multiplex sends numbered requests from many goroutines and hands each its
// answer.
func multiplex(conn net.Conn, count int, into *paces) error {
	var (
		mu      sync.Mutex
		next    uint64
		waiting = map[uint64]chan struct{}{}
	)
	go func() {
		answer := make([]byte, 8)
		for {
			if _, err := io.ReadFull(conn, answer); err != nil {
				return
			}
			n := binary.BigEndian.Uint64(answer)
			mu.Lock()
			close(waiting[n])
			delete(waiting, n)
			mu.Unlock()
		}
	}()
	return together(senders, count, into, func() error {
		request, done := make([]byte, messageSize), make(chan struct{})
		mu.Lock()
		next++
		waiting[next] = done
		binary.BigEndian.PutUint64(request, next)
		_, err := conn.Write(request)
		mu.Unlock()
		if err != nil {
			return fmt.Errorf("write echo: %w", err)
		}
		<-done
		return nil
	})
}
