package cyclecloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/tracing"
	"github.com/google/go-cmp/cmp"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// wire is a transport in memory, so that delays pass in synctest's time. Each
// try takes the next step; the last one is used again.
type wire struct {
	steps  []func(*http.Request) (*http.Response, error)
	bodies []string
	times  []time.Time
}

func (w *wire) Do(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	w.bodies = append(w.bodies, string(body))
	w.times = append(w.times, time.Now())
	return w.steps[min(len(w.bodies), len(w.steps))-1](req)
}

// waits gives the time between tries.
func (w *wire) waits() []time.Duration {
	var waits []time.Duration
	for i := 1; i < len(w.times); i++ {
		waits = append(waits, w.times[i].Sub(w.times[i-1]))
	}
	return waits
}

func answers(status int, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		return streams(status, strings.NewReader(body), header...)(req)
	}
}

func streams(status int, body io.Reader, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"application/json"}}
		for i := 0; i+1 < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{
			StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)),
			Header: h, Body: io.NopCloser(body), Request: req,
		}, nil
	}
}

func breaks(err error) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// hangs never answers; the try's own deadline ends it.
func hangs(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func (w *wire) client(t *testing.T, options ClientOptions) *Client {
	t.Helper()
	options.Transport = w
	client, err := NewClient("https://cc.example.com", testCredential, &options)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

var (
	errReset  = errors.New("connection reset by peer")
	oneNode   = CreateRequest{RequestID: "r-1", Sets: []CreateSet{{NodeArray: "htc", Count: 1, NameFormat: "n1"}}}
	oneAdded  = `{"operationId":"op","sets":[{"added":1}]}`
	operation = `[{"action":"create","startTime":"2026-01-01T12:34:56Z"}]`
	cutOff    = func() io.Reader {
		return io.MultiReader(strings.NewReader(`{"operationId":`), errReader{io.ErrUnexpectedEOF})
	}
)

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestACreateIsRepeatedWithTheSameBytes(t *testing.T) {
	type steps = []func(*http.Request) (*http.Response, error)
	for _, tt := range []struct {
		name      string
		steps     steps
		wantTries int // of the POST
		accepted  bool
	}{
		{"after 500", steps{answers(500, "x"), answers(202, oneAdded)}, 2, false},
		{"after 502, 503 and 504", steps{answers(502, ""), answers(503, ""), answers(504, ""), answers(202, oneAdded)}, 4, false},
		{"after 408 and 429", steps{answers(408, ""), answers(429, ""), answers(202, oneAdded)}, 3, false},
		{"after a lost connection", steps{breaks(errReset), answers(202, oneAdded)}, 2, false},
		{"after a try that timed out", steps{hangs, answers(202, oneAdded)}, 2, false},
		{"after an answer that broke off", steps{streams(202, cutOff()), answers(202, oneAdded)}, 2, false},
		{"after a lost acceptance: the 409 of the repeat is a success", steps{breaks(errReset), answers(409, "request id was used"), answers(200, operation)}, 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{steps: tt.steps}
				got, err := w.client(t, ClientOptions{}).Create(t.Context(), "hpc10", oneNode)
				if err != nil || got.AlreadyAccepted != tt.accepted {
					t.Fatalf("got %+v, %v", got, err)
				}
				body, err := oneNode.Encode()
				if err != nil {
					t.Fatal(err)
				}
				want := slices.Repeat([]string{string(body)}, tt.wantTries)
				if diff := cmp.Diff(want, w.bodies[:tt.wantTries]); diff != "" {
					t.Error(diff)
				}
				for i, wait := range w.waits()[:tt.wantTries-1] {
					if wait <= 0 {
						t.Errorf("no wait before try %d", i+2)
					}
				}
			})
		})
	}
}

func TestAnActionIsRepeatedWithTheSameBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{steps: []func(*http.Request) (*http.Response, error){
			breaks(errReset), answers(503, ""), answers(409, "request id was used"), answers(200, operation),
		}}
		got, err := w.client(t, ClientOptions{}).Terminate(t.Context(), "hpc10", NodeRequest{RequestID: "r-2", IDs: []NodeID{"id-1"}})
		if diff := cmp.Diff(NodeResult{AlreadyAccepted: true}, got); err != nil || diff != "" {
			t.Fatalf("got %v %s", err, diff)
		}
		want := append(slices.Repeat([]string{`{"requestId":"r-2","ids":["id-1"]}`}, 3), "")
		if diff := cmp.Diff(want, w.bodies); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAWriteWithoutARequestIDIsSentOnce(t *testing.T) {
	for name, step := range map[string]func(*http.Request) (*http.Response, error){
		"503":                      answers(503, "", "Retry-After", "1"),
		"500":                      answers(500, ""),
		"a lost connection":        breaks(errReset),
		"a timeout":                hangs,
		"an answer that broke off": streams(202, cutOff()),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{steps: []func(*http.Request) (*http.Response, error){step}}
				// Not even if the caller asks for it.
				ctx := policy.WithRetryOptions(t.Context(), policy.RetryOptions{MaxRetries: 9})
				_, err := w.client(t, ClientOptions{}).Create(ctx, "hpc10", CreateRequest{Sets: oneNode.Sets})
				if !fault.Is(err, fault.Transient) || len(w.bodies) != 1 {
					t.Errorf("create: got %v after %d tries", err, len(w.bodies))
				}
				_, err = w.client(t, ClientOptions{}).Terminate(ctx, "hpc10", NodeRequest{IDs: []NodeID{"id-1"}})
				if !fault.Is(err, fault.Transient) || len(w.bodies) != 2 {
					t.Errorf("terminate: got %v after %d tries", err, len(w.bodies)-1)
				}
			})
		})
	}
}

func TestRetriesHonourRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().UTC().Add(7*time.Second + 20*time.Second).Format(time.RFC1123)
		w := &wire{steps: []func(*http.Request) (*http.Response, error){
			answers(429, "", "Retry-After", "7"),
			answers(503, "", "Retry-After", strings.Replace(at, "UTC", "GMT", 1)),
			answers(200, `{"nodes":[]}`),
		}}
		if _, err := w.client(t, ClientOptions{}).Nodes(t.Context(), "hpc10"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]time.Duration{7 * time.Second, 20 * time.Second}, w.waits()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestALongerRetryAfterThanTheLimitIsLeftToTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{steps: []func(*http.Request) (*http.Response, error){answers(503, "maintenance", "Retry-After", "3600")}}
		_, err := w.client(t, ClientOptions{}).Nodes(t.Context(), "hpc10")
		if !fault.Is(err, fault.Transient) || !strings.Contains(err.Error(), "503 Service Unavailable: maintenance") || len(w.times) != 1 {
			t.Errorf("got %v after %d tries", err, len(w.times))
		}
	})
}

func TestRetriesEndWithATransientFaultThatNamesTheCall(t *testing.T) {
	for name, tt := range map[string]struct {
		step func(*http.Request) (*http.Response, error)
		want string
	}{
		"the server is down":      {answers(503, "starting"), "answered 503 Service Unavailable: starting"},
		"the connection is lost":  {breaks(errReset), "connection reset by peer"},
		"the server says nothing": {hangs, "deadline exceeded"},
		"the answers break off":   {streams(200, errReader{io.ErrUnexpectedEOF}), "broke off"},
		"a proxy speaks for it":   {answers(502, "<html>\nBad  Gateway</html>", "Content-Type", "text/html"), "<html> Bad Gateway</html>"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{steps: []func(*http.Request) (*http.Response, error){tt.step}}
				start := time.Now()
				_, err := w.client(t, ClientOptions{Timeout: 10 * time.Second}).Status(t.Context(), "hpc10", true)
				if !fault.Is(err, fault.Transient) || !strings.HasPrefix(err.Error(), "read status of cluster hpc10: ") || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want fault.Transient saying %q", err, tt.want)
				}
				if len(w.times) != 4 {
					t.Errorf("%d tries", len(w.times))
				}
				if total := time.Since(start); total > 70*time.Second {
					t.Errorf("took %s", total)
				}
			})
		})
	}
}

func TestATryIsBoundedByTheTimeout(t *testing.T) {
	for name, tt := range map[string]struct {
		options ClientOptions
		want    time.Duration
	}{
		"60 s by default":            {ClientOptions{}, time.Minute},
		"as long as asked for":       {ClientOptions{Timeout: 5 * time.Second}, 5 * time.Second},
		"the pipeline's option wins": {ClientOptions{Timeout: 5 * time.Second, ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{TryTimeout: 2 * time.Second}}}, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.options.Retry.MaxRetries = -1
				w := &wire{steps: []func(*http.Request) (*http.Response, error){hangs}}
				start := time.Now()
				_, err := w.client(t, tt.options).Nodes(t.Context(), "hpc10")
				if !fault.Is(err, fault.Transient) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took != tt.want {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{steps: []func(*http.Request) (*http.Response, error){answers(503, "", "Retry-After", "30")}}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := w.client(t, ClientOptions{}).Nodes(ctx, "hpc10")
		if !fault.Is(err, fault.Transient) || !errors.Is(err, context.DeadlineExceeded) || len(w.times) != 1 {
			t.Errorf("got %v after %d tries", err, len(w.times))
		}
	})
}

func TestNoDelayMeansNoDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{steps: []func(*http.Request) (*http.Response, error){answers(503, "")}}
		start := time.Now()
		options := ClientOptions{ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{RetryDelay: -1}}}
		if _, err := w.client(t, options).Nodes(t.Context(), "hpc10"); !fault.Is(err, fault.Transient) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took > time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
}

func TestABodyBeyondTheBoundIsNotReadToItsEndAndNotAskedForAgain(t *testing.T) {
	endless := &counter{}
	w := &wire{steps: []func(*http.Request) (*http.Response, error){streams(200, endless, "Content-Type", "text/x-endless")}}
	_, err := w.client(t, ClientOptions{}).Nodes(t.Context(), "hpc10")
	if !fault.Is(err, fault.Transient) || !strings.Contains(err.Error(), "more than 32 MB") ||
		!strings.Contains(err.Error(), "text/x-endless") || !strings.HasPrefix(err.Error(), "list nodes of cluster hpc10") {
		t.Errorf("got %v", err)
	}
	if len(err.Error()) > 700 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	if endless.read > maxBody+1 || len(w.times) != 1 {
		t.Errorf("read %d bytes in %d tries", endless.read, len(w.times))
	}
}

func TestABodyAtTheBoundIsRead(t *testing.T) {
	w := &wire{steps: []func(*http.Request) (*http.Response, error){streams(200, io.LimitReader(&counter{}, maxBody))}}
	resp, err := boundedTransport{w}.Do(httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != maxBody {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

// counter is a body without end.
type counter struct{ read int }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	c.read += len(p)
	return len(p), nil
}

func TestEachCallAndEachTryIsASpan(t *testing.T) {
	var spans []string
	provider := tracing.NewProvider(func(string, string) tracing.Tracer {
		return tracing.NewTracer(func(ctx context.Context, name string, _ *tracing.SpanOptions) (context.Context, tracing.Span) {
			spans = append(spans, name)
			return ctx, tracing.NewSpan(tracing.SpanImpl{})
		}, nil)
	}, nil)
	synctest.Test(t, func(t *testing.T) {
		w := &wire{steps: []func(*http.Request) (*http.Response, error){answers(503, ""), answers(202, oneAdded)}}
		client := w.client(t, ClientOptions{ClientOptions: policy.ClientOptions{TracingProvider: provider}})
		if _, err := client.Create(t.Context(), "hpc10", oneNode); err != nil {
			t.Fatal(err)
		}
	})
	if diff := cmp.Diff([]string{"CycleCloud.Create", "HTTP POST", "HTTP POST"}, spans); diff != "" {
		t.Error(diff)
	}
}
