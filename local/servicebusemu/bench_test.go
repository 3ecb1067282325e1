package servicebusemu

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// eachKeeping runs a benchmark in memory, with a journal, and with one that waits
// for the disk.
func eachKeeping(b *testing.B, run func(*testing.B, Config)) {
	queues := []QueueConfig{{Name: "q", MaxSize: 4 << 30}}
	b.Run("memory", func(b *testing.B) { run(b, Config{Queues: queues}) })
	b.Run("journal", func(b *testing.B) { run(b, Config{Queues: queues, Data: b.TempDir()}) })
	b.Run("fsync", func(b *testing.B) { run(b, Config{Queues: queues, Data: b.TempDir(), Fsync: true}) })
}

// BenchmarkSend sends 1 KB messages one by one from 16 goroutines over one
// connection.
func BenchmarkSend(b *testing.B) { eachKeeping(b, benchmarkSend) }

func benchmarkSend(b *testing.B, cfg Config) {
	_, addr := startServer(b, cfg)
	s, err := dial(b, addr).NewSender("q", nil)
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(strings.Repeat("x", 1024))
	send := func() {
		if err := s.SendMessage(context.Background(), &azservicebus.Message{Body: body}, nil); err != nil {
			b.Error(err)
		}
	}
	send() // opens the links
	b.ResetTimer()
	inParallel(16, b.N, send)
	perSecond(b)
}

// BenchmarkReceive receives messages of 1 KB in batches of 500 and completes them
// from 64 goroutines over one connection.
func BenchmarkReceive(b *testing.B) { eachKeeping(b, benchmarkReceive) }

func benchmarkReceive(b *testing.B, cfg Config) {
	srv, addr := startServer(b, cfg)
	client := dial(b, addr)
	fill(b, client, b.N)
	r, err := client.NewReceiverForQueue("q", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	received := make(chan *azservicebus.ReceivedMessage, 500)
	go func() {
		defer close(received)
		for n := 0; n < b.N; {
			ms, err := r.ReceiveMessages(context.Background(), min(500, b.N-n), nil)
			if err != nil {
				b.Error(err)
				return
			}
			n += len(ms)
			for _, m := range ms {
				received <- m
			}
		}
	}()
	var done sync.WaitGroup
	for range 64 {
		done.Go(func() {
			for m := range received {
				if err := r.CompleteMessage(context.Background(), m, nil); err != nil {
					b.Error(err)
				}
			}
		})
	}
	done.Wait()
	perSecond(b)
	if s := srv.Stats()["q"]; s.Completed != uint64(b.N) || s.Active+s.Locked != 0 {
		b.Errorf("stats: %+v", s)
	}
}

func fill(b *testing.B, client *azservicebus.Client, count int) {
	s, err := client.NewSender("q", nil)
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(strings.Repeat("x", 1024))
	for sent := 0; sent < count; {
		batch, err := s.NewMessageBatch(context.Background(), nil)
		if err != nil {
			b.Fatal(err)
		}
		for sent < count && batch.NumMessages() < 200 {
			if err := batch.AddMessage(&azservicebus.Message{Body: body}, nil); err != nil {
				b.Fatal(fmt.Errorf("fill batch: %w", err))
			}
			sent++
		}
		if err := s.SendMessageBatch(context.Background(), batch, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// inParallel calls f count times from several goroutines.
func inParallel(goroutines, count int, f func()) {
	var left atomic.Int64
	left.Store(int64(count))
	var done sync.WaitGroup
	for range goroutines {
		done.Go(func() {
			for left.Add(-1) >= 0 {
				f()
			}
		})
	}
	done.Wait()
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
