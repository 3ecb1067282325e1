package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/slurmburst/slurmburst/internal/fault"
	"github.com/slurmburst/slurmburst/internal/ledger"
)

// transport answers the SDK's requests in a test.
type transport func(*http.Request) (*http.Response, error)

func (t transport) Do(r *http.Request) (*http.Response, error) { return t(r) }

// token is a credential that always gives the same token.
type token string

func (k token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(k), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// once is a client that neither waits nor retries.
func once(t transport) azcore.ClientOptions {
	return azcore.ClientOptions{Transport: t, Retry: policy.RetryOptions{MaxRetries: -1, TryTimeout: time.Minute}}
}

func mustOpen(t *testing.T, c ledger.Config) *ledger.Store {
	t.Helper()
	store, err := ledger.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestWhatIsTooLargeIsRefusedBeforeAnythingIsSent(t *testing.T) {
	store := mustOpen(t, ledger.Config{Endpoint: "https://tables.example", Credential: token("k"), Client: once(func(r *http.Request) (*http.Response, error) {
		t.Errorf("sent %s %s", r.Method, r.URL)
		return nil, errors.New("refused")
	})})
	ctx := t.Context()
	_, err := store.Commit(ctx, ledger.Commit{Cluster: ledger.Cluster{Cluster: "c1"}, NewIntents: make([]ledger.Intent, 91)})
	if !errors.Is(err, ledger.ErrTooLarge) || !strings.Contains(err.Error(), "burstclusters/c1") {
		t.Errorf("91 intents: %v", err)
	}
	_, err = store.Commit(ctx, ledger.Commit{Cluster: ledger.Cluster{Cluster: "c1"}, Snapshot: &ledger.Snapshot{Body: make([]byte, ledger.MaxSnapshot+1)}})
	if !errors.Is(err, ledger.ErrTooLarge) {
		t.Errorf("a snapshot that is too long: %v", err)
	}
	err = store.AppendDecision(ctx, "c1", ledger.Decision{ID: "d", At: moment(0), Facts: make([]byte, ledger.MaxFacts+1)})
	if !errors.Is(err, ledger.ErrTooLarge) || !strings.Contains(err.Error(), "burstdecisions/c1") {
		t.Errorf("facts that are too long: %v", err)
	}
	if _, _, err := store.PutNodes(ctx, "c1", []ledger.Node{{Name: "n"}, {Name: "n"}}); fault.Of(err) != fault.Bug {
		t.Errorf("a row that is twice in one write: %v", err)
	}
	if _, err := store.Load(ctx, strings.Repeat("x", 600)); fault.Of(err) != fault.Invalid {
		t.Errorf("a name that is too long: %v", err)
	}
}

func TestAnswersAreClassified(t *testing.T) {
	odata := func(code string) string {
		return fmt.Sprintf(`{"odata.error":{"code":%q,"message":{"lang":"en-US","value":"What happened.\nRequestId:1"}}}`, code)
	}
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   fault.Kind
	}{
		{"credentials that are not known", 401, "", fault.Denied},
		{"a missing role", 403, odata("AuthorizationPermissionMismatch"), fault.Denied},
		{"a row that changed", 412, odata("UpdateConditionNotSatisfied"), fault.Conflict},
		{"a row that exists", 409, odata("EntityAlreadyExists"), fault.Conflict},
		{"a row that is gone", 404, odata("ResourceNotFound"), fault.Conflict},
		{"a table that is being deleted", 409, odata("TableBeingDeleted"), fault.Transient},
		{"throttling", 429, "", fault.Transient},
		{"a busy server", 503, odata("ServerBusy"), fault.Transient},
		{"a proxy's page", 502, "<html>Bad gateway</html>", fault.Transient},
		{"a row that we should not have sent", 400, odata("PropertyNameInvalid"), fault.Bug},
		{"a row that is too large after all", 400, odata("EntityTooLarge"), fault.Invalid},
		{"a request that is too large after all", 413, odata("RequestBodyTooLarge"), fault.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			store := mustOpen(t, ledger.Config{Endpoint: "https://tables.example", Credential: token("sesame"), Client: once(func(r *http.Request) (*http.Response, error) {
				if got := r.Header.Get("Authorization"); got != "Bearer sesame" {
					t.Errorf("the request is authorized by %q", got)
				}
				return answer(r, tc.status, tc.body), nil
			})})
			err := store.NoteHeartbeat(t.Context(), "c1", ledger.Heartbeat{})
			if fault.Of(err) != tc.want {
				t.Errorf("got %v (%v), want %v", fault.Of(err), err, tc.want)
			}
			if errors.Is(err, ledger.ErrConflict) != (tc.want == fault.Conflict) || errors.Is(err, ledger.ErrTooLarge) != (tc.want == fault.Invalid) {
				t.Errorf("the error has the wrong mark: %v", err)
			}
			for _, part := range []string{"note heartbeat", "burstclusters/c1", fmt.Sprint(tc.status)} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %q", err, part)
				}
			}
			if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "sesame") {
				t.Errorf("the error holds several lines or the token: %q", err)
			}
		})
	}
}

func TestNetworkErrorsAreTransientAndNameTheRow(t *testing.T) {
	for name, cause := range map[string]error{"refused": errors.New("connection refused"), "cut off": io.ErrUnexpectedEOF} {
		store := mustOpen(t, ledger.Config{Endpoint: "https://tables.example", Credential: token("k"), Client: once(func(*http.Request) (*http.Response, error) {
			return nil, cause
		})})
		_, err := store.Load(t.Context(), "c1")
		if fault.Of(err) != fault.Transient || !errors.Is(err, cause) || !strings.Contains(err.Error(), "load burstclusters/c1") {
			t.Errorf("%s: got %v (%v)", name, err, fault.Of(err))
		}
	}
}

// broken is a credential that cannot work.
type broken struct{ error }

func (b broken) NonRetriable() {}

type brokenCredential struct{}

func (brokenCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, broken{errors.New("no managed identity")}
}

func TestACredentialThatCannotWorkIsDenied(t *testing.T) {
	store := mustOpen(t, ledger.Config{Endpoint: "https://tables.example", Credential: brokenCredential{}, Client: once(nil)})
	if _, err := store.Nodes(t.Context(), "c1"); fault.Of(err) != fault.Denied {
		t.Errorf("got %v (%v), want denied", err, fault.Of(err))
	}
}

// tokenEndpoint is a credential whose token endpoint answers with a status, or
// not at all where it is 0.
type tokenEndpoint int

func (status tokenEndpoint) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	failed := &azidentity.AuthenticationFailedError{}
	if status != 0 {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://login.example/token", http.NoBody)
		if err != nil {
			return azcore.AccessToken{}, err
		}
		failed.RawResponse = answer(r, int(status), `{"error":"invalid_client"}`)
	}
	return azcore.AccessToken{}, failed
}

func TestARefusedIdentityIsDeniedAndABrokenEndpointIsNot(t *testing.T) {
	for status, want := range map[tokenEndpoint]fault.Kind{
		400: fault.Denied, 401: fault.Denied, 429: fault.Transient, 500: fault.Transient, 503: fault.Transient, 0: fault.Transient,
	} {
		store := mustOpen(t, ledger.Config{Endpoint: "https://tables.example", Credential: status, Client: once(nil)})
		if _, err := store.Load(t.Context(), "c1"); fault.Of(err) != want || !strings.Contains(err.Error(), "load burstclusters/c1") {
			t.Errorf("token endpoint answers %d: got %v (%v), want %v", status, err, fault.Of(err), want)
		}
	}
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	secret := "AccountName=a;AccountKey=c2VjcmV0;x"
	for name, c := range map[string]ledger.Config{
		"nothing":                   {},
		"plain http":                {Endpoint: "http://tables.example", Credential: token("k")},
		"no credential":             {Endpoint: "https://tables.example"},
		"both ways":                 {Endpoint: "https://tables.example", ConnectionString: secret},
		"a broken string":           {ConnectionString: secret},
		"a prefix that is no name":  {Endpoint: "https://tables.example", Credential: token("k"), Prefix: "Burst-"},
		"a prefix that is too long": {Endpoint: "https://tables.example", Credential: token("k"), Prefix: strings.Repeat("x", 42)},
	} {
		_, err := ledger.Open(c)
		if fault.Of(err) != fault.Invalid || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestACommitWhoseAnswerWasLostIsFoundAgain cuts the connection after the
// service has committed. The SDK sends the transaction again, which the service
// refuses: the row has moved. The store has to see that it moved itself.
func TestACommitWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	t.Parallel()
	connection := startAzurite(t)
	var lose atomic.Bool
	var lost atomic.Int32
	lossy := transport(func(r *http.Request) (*http.Response, error) {
		// net/http may still read the body when the answer is there, and the SDK
		// rewinds its own at once: it gets a copy.
		own := r.Clone(r.Context())
		if r.Body != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			own.Body = io.NopCloser(bytes.NewReader(body))
		}
		got, err := http.DefaultClient.Do(own)
		if err == nil && strings.HasSuffix(r.URL.Path, "$batch") && lose.CompareAndSwap(true, false) {
			_ = got.Body.Close()
			lost.Add(1)
			return nil, io.ErrUnexpectedEOF
		}
		return got, err
	})
	store := mustOpen(t, ledger.Config{
		ConnectionString: connection, Prefix: ownPrefix(),
		Client: azcore.ClientOptions{Transport: lossy, Retry: policy.RetryOptions{MaxRetries: 2, TryTimeout: time.Minute, RetryDelay: time.Millisecond}},
	})
	w := world{Store: store}
	cluster := mustLoad(t, w, "c1").Cluster
	for n := range 3 { // a first commit, then two that follow
		lose.Store(true)
		intent := fullIntent(fmt.Sprintf("%d/01", cluster.Revision+1))
		done := mustCommit(t, w, ledger.Commit{Cluster: cluster, NewIntents: []ledger.Intent{intent}})
		if got := int(lost.Load()); got != n+1 {
			t.Fatalf("%d answers were lost, want %d", got, n+1)
		}
		if done.Cluster.Revision != cluster.Revision+1 {
			t.Errorf("revision %d follows %d", done.Cluster.Revision, cluster.Revision)
		}
		if _, err := store.UpdateIntent(t.Context(), "c1", done.Intents[0]); err != nil {
			t.Errorf("the intent came back with a wrong version: %v", err)
		}
		cluster = done.Cluster
	}
	if got := mustLoad(t, w, "c1"); len(got.Intents) != 3 || got.Cluster.Revision != cluster.Revision {
		t.Errorf("%d intents at revision %d", len(got.Intents), got.Cluster.Revision)
	}
	// Somebody else's commit is still a conflict, also with a lost answer.
	mustCommit(t, w, ledger.Commit{Cluster: cluster})
	lose.Store(true)
	_, err := store.Commit(t.Context(), ledger.Commit{Cluster: cluster, NewIntents: []ledger.Intent{fullIntent("1/99")}})
	mustConflict(t, err)
}

// TestColumnsOfANewerVersionSurvive proves that rows are merged.
func TestColumnsOfANewerVersionSurvive(t *testing.T) {
	t.Parallel()
	connection := startAzurite(t)
	client, err := aztables.NewServiceClientFromConnectionString(connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	prefix := ownPrefix()
	store := mustOpen(t, ledger.Config{ConnectionString: connection, Prefix: prefix})
	w := world{Store: store}
	mustPutNodes(t, w, "c1", []ledger.Node{fullNode("n1")})
	table := client.NewClient(prefix + "nodes")
	newer := []byte(`{"PartitionKey":"c1","RowKey":"n1","Zone":"2","Weight@odata.type":"Edm.Int64","Weight":"9007199254740993"}`)
	if _, err := table.UpdateEntity(t.Context(), newer, nil); err != nil {
		t.Fatal(err)
	}
	nodes := mustNodes(t, w, "c1")
	nodes[0].Reason = ""
	mustPutNodes(t, w, "c1", nodes)
	got, err := table.GetEntity(t.Context(), "c1", "n1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"Zone":"2"`, `"Weight":"9007199254740993"`, `"Reason":""`, `"CreatedSequence@odata.type":"Edm.Int64"`, `"IdleSince@odata.type":"Edm.DateTime"`} {
		if !strings.Contains(string(got.Value), want) {
			t.Errorf("the row lacks %s: %s", want, got.Value)
		}
	}
}

// answer is a response of the service.
func answer(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status), Request: r, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
	}
}
