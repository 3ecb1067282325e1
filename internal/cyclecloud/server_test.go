package cyclecloud

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

var testCredential = Credential{User: "burst", Password: "pa55-w0rd-nobody-has"}

// reply is what the scripted server answers once.
type reply struct {
	status int
	header map[string]string
	body   string
}

// request is what the scripted server was asked.
type request struct{ Method, URI, Body string }

// scripted is a server that answers a list of replies in their order, and 418
// once they have run out.
type scripted struct {
	mu       sync.Mutex
	replies  []reply
	requests []request
	headers  []http.Header
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, request{r.Method, r.RequestURI, string(body)})
	s.headers = append(s.headers, r.Header.Clone())
	if len(s.replies) == 0 {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	next := s.replies[0]
	s.replies = s.replies[1:]
	w.Header().Set("Content-Type", "application/json")
	for key, value := range next.header {
		w.Header().Set(key, value)
	}
	w.WriteHeader(next.status)
	_, _ = io.WriteString(w, next.body)
}

func (s *scripted) asked() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]request(nil), s.requests...)
}

// fastRetries repeats as in production, without the delays.
func fastRetries() *ClientOptions {
	return &ClientOptions{ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{RetryDelay: -1}}}
}

func newScripted(t *testing.T, replies ...reply) (*Client, *scripted) {
	t.Helper()
	s := &scripted{replies: replies}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client, err := NewClient(server.URL, testCredential, fastRetries())
	if err != nil {
		t.Fatal(err)
	}
	return client, s
}

func testdata(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func ptr[T any](v T) *T { return &v }
