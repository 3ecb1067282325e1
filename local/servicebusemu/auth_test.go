package servicebusemu

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/golang-jwt/jwt/v5"
)

const fqdn = "burst.servicebus.test"

// issuer signs tokens and publishes its keys, as an identity endpoint does.
type issuer struct {
	t      testing.TB
	key    crypto.Signer
	method jwt.SigningMethod
	url    string

	mu      sync.Mutex
	claims  jwt.RegisteredClaims // of the next tokens
	lasting time.Duration
	issued  atomic.Int32
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{
		t: t, key: key, method: jwt.SigningMethodRS256, lasting: time.Hour,
		claims: jwt.RegisteredClaims{Audience: jwt.ClaimStrings{ServiceBusAudience + "/"}, Issuer: "https://sts.test/tenant"},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{
			{"kid": "1", "kty": "RSA", "n": encodeInt(key.N), "e": encodeInt(big.NewInt(int64(key.E)))},
		}})
	}))
	t.Cleanup(s.Close)
	i.url = s.URL
	return i
}

func encodeInt(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

// GetToken implements azcore.TokenCredential.
func (i *issuer) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	claims := i.claims
	expires := time.Now().Add(i.lasting)
	claims.ExpiresAt = jwt.NewNumericDate(expires)
	i.issued.Add(1)
	token := jwt.NewWithClaims(i.method, claims)
	token.Header["kid"] = "1"
	text, err := token.SignedString(i.key)
	return azcore.AccessToken{Token: text, ExpiresOn: expires}, err
}

// overTLS starts an emulator that is reached as in production: by name and
// credential, plus one address and one authority.
func overTLS(t *testing.T, cfg Config, credential azcore.TokenCredential) (*namespace, *azservicebus.ClientOptions) {
	t.Helper()
	certificate, pool := selfSigned(t, fqdn)
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	n := &namespace{t: t}
	n.srv, n.addr = startServer(t, cfg)
	options := &azservicebus.ClientOptions{
		CustomEndpoint: n.addr, TLSConfig: &tls.Config{RootCAs: pool},
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 2, RetryDelay: 10 * time.Millisecond},
	}
	client, err := azservicebus.NewClient(fqdn, credential, options)
	if err != nil {
		t.Fatal(err)
	}
	n.client = client
	t.Cleanup(func() { _ = client.Close(context.Background()) })
	return n, options
}

func TestOnlyGoodTokensOpenAQueue(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(*issuer)
		want  string // in the error; empty: accepted
	}{
		"a good one":                        {func(*issuer) {}, ""},
		"the audience without its slash":    {func(i *issuer) { i.claims.Audience[0] = ServiceBusAudience }, ""},
		"one that has expired":              {func(i *issuer) { i.lasting = -time.Minute }, "ExpiredToken: The token is expired. Expiration time: "},
		"one that is not valid yet":         {func(i *issuer) { i.claims.NotBefore = jwt.NewNumericDate(time.Now().Add(time.Hour)) }, "InvalidSignature"},
		"one for something else":            {func(i *issuer) { i.claims.Audience[0] = "https://storage.azure.com" }, "InvalidAudience"},
		"one for nothing":                   {func(i *issuer) { i.claims.Audience = nil }, "InvalidAudience"},
		"one of another issuer":             {func(i *issuer) { i.claims.Issuer = "https://sts.test/other" }, "InvalidIssuer"},
		"one signed by somebody else":       {func(i *issuer) { i.key = other }, "InvalidSignature"},
		"one signed by another kind of key": {func(i *issuer) { i.key, i.method = curve, jwt.SigningMethodES256 }, "InvalidSignature"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			c.spoil(i)
			n, _ := overTLS(t, Config{
				Queues: []QueueConfig{{Name: "q"}},
				Auth:   &Auth{Tokens: &TokenAuth{Key: KeySet(i.url), Issuer: "https://sts.test/tenant"}},
			}, i)
			err := n.sender("q").SendMessage(n.ctx(), &azservicebus.Message{}, nil)
			if c.want == "" {
				n.must(err)
				return
			}
			if code(err) != azservicebus.CodeUnauthorizedAccess || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestTextThatIsNoTokenIsRefused(t *testing.T) {
	i := newIssuer(t)
	n, _ := overTLS(t, Config{Queues: []QueueConfig{{Name: "q"}}, Auth: &Auth{Tokens: &TokenAuth{Key: KeySet(i.url)}}}, anyToken{})
	err := n.sender("q").SendMessage(n.ctx(), &azservicebus.Message{}, nil)
	if code(err) != azservicebus.CodeUnauthorizedAccess || !strings.Contains(err.Error(), "MalformedToken") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyTheRightKeySigns(t *testing.T) {
	cfg := Config{Queues: []QueueConfig{{Name: "q"}, {Name: "s", RequiresSession: true}}, Auth: &Auth{Keys: map[string]string{"RootManageSharedAccessKey": "emulator", "listen": "k"}}}
	n := &namespace{t: t}
	n.srv, n.addr = startServer(t, cfg)
	n.client = n.newClient()
	n.send("q", "", "a")
	r := n.receiver("q", nil)
	n.must(r.CompleteMessage(n.ctx(), n.receiveOne(r, "a"), nil))
	n.must(r.Close(n.ctx()))
	n.accept("x")
	for name, connection := range map[string]string{
		"a wrong key":     strings.Replace(ConnectionString(n.addr), "SharedAccessKey=emulator", "SharedAccessKey=guess", 1),
		"an unknown name": strings.Replace(ConnectionString(n.addr), "SharedAccessKeyName=Root", "SharedAccessKeyName=Boot", 1),
	} {
		client, err := azservicebus.NewClientFromConnectionString(connection, nil)
		n.must(err)
		s, err := client.NewSender("q", nil)
		n.must(err)
		if err := s.SendMessage(n.ctx(), &azservicebus.Message{}, nil); code(err) != azservicebus.CodeUnauthorizedAccess || !strings.Contains(err.Error(), "InvalidSignature") {
			t.Errorf("%s: %v", name, err)
		}
		n.must(client.Close(n.ctx()))
	}
}

// sign makes a shared access signature.
func sign(name, key, resource string, until time.Time) string {
	sr, se := url.QueryEscape(resource), strconv.FormatInt(until.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(sr + "\n" + se))
	sig := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return "SharedAccessSignature sr=" + sr + "&sig=" + sig + "&se=" + se + "&skn=" + name
}

// putToken brings a token and returns the code of the answer.
func (w *wire) putToken(audience, kind, token string) int32 {
	w.t.Helper()
	w.send(1, codeBegin, nil, uint32(0), uint32(5000), uint32(5000))
	w.expect(codeBegin)
	w.send(1, codeAttach, "tokens", uint32(0), false, nil, nil, sourceOf(""), targetOf(cbsAddress))
	w.expect(codeAttach)
	w.send(1, codeAttach, "answers", uint32(1), true, nil, nil, sourceOf(cbsAddress), targetOf("me"))
	w.expect(codeAttach)
	w.send(1, codeFlow, uint32(firstOutgoing), uint32(5000), uint32(0), uint32(5000), uint32(1), uint32(0), uint32(10))
	b, start := beginFrame(nil, frameAMQP, 1)
	b = appendDescribedList(b, codeTransfer, uint32(0), uint32(0), []byte{1}, uint32(0), true)
	b = appendDescribedList(b, codeProperties, "id", nil, nil, nil, "me")
	b = append(b, ctorDescribed, ctorSmallUlng, codeAppProperties)
	b = appendValue(b, orderedMap{{"operation", "put-token"}, {"type", kind}, {"name", audience}})
	b = append(b, ctorDescribed, ctorSmallUlng, codeValue)
	w.write(endFrame(appendValue(b, token), start))
	answer := w.expect(codeTransfer)
	w.send(1, codeEnd)
	w.expect(codeEnd)
	d := decoder{buf: answer.payload}
	for d.rest() > 0 {
		v, err := d.value()
		if err != nil {
			w.t.Fatal(err)
		}
		if section := v.(described); section.descriptor == uint64(codeAppProperties) {
			code, _ := section.value.(orderedMap).get("statusCode").(int32)
			return code
		}
	}
	w.t.Fatal("an answer without properties")
	return 0
}

// A signature is for one resource and what lies below it.
func TestASignatureIsForItsResource(t *testing.T) {
	auth := &Auth{Keys: map[string]string{"k": "secret"}}
	now := time.Now()
	for name, c := range map[string]struct {
		resource, audience string
		lasting            time.Duration
		want               string
	}{
		"the same":            {"amqp://h/q", "amqp://h/q", time.Hour, ""},
		"with another scheme": {"sb://h/q", "amqps://h/q", time.Hour, ""},
		"below":               {"sb://h/q", "amqps://h/Q/$management", time.Hour, ""},
		"the whole namespace": {"sb://h/", "amqps://h/q", time.Hour, ""},
		"another":             {"sb://h/q", "amqps://h/q2", time.Hour, "InvalidAudience"},
		"above":               {"sb://h/q/$management", "amqps://h/q", time.Hour, "InvalidAudience"},
		"expired":             {"sb://h/q", "sb://h/q", -time.Second, "ExpiredToken"},
		"without an expiry":   {"sb://h/q", "sb://h/q", 0, "ExpiredToken"},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := auth.check(tokenSAS, sign("k", "secret", c.resource, now.Add(c.lasting)), c.audience, now)
			if c.want == "" && r != nil || c.want != "" && (r == nil || !strings.HasPrefix(r.text, c.want)) {
				t.Errorf("got %v, want %q", r, c.want)
			}
		})
	}
	for _, token := range []string{"", "SharedAccessSignature ", "SharedAccessSignature sr=%zz&se=1&skn=k&sig=x", "SharedAccessSignature sr=a&se=x"} {
		if _, r := auth.check(tokenSAS, token, "q", now); r == nil {
			t.Errorf("%q was accepted", token)
		}
	}
	if _, r := auth.check(tokenJWT, "x", "q", now); r == nil || !strings.HasPrefix(r.text, "InvalidTokenType") {
		t.Errorf("a token where keys are wanted: %v", r)
	}
}

// A client that goes round $cbs is refused at the link.
func TestALinkNeedsAToken(t *testing.T) {
	_, addr := startServer(t, Config{Queues: []QueueConfig{{Name: "q"}}, Auth: &Auth{Keys: map[string]string{"k": "secret"}}})
	for name, receives := range map[string]bool{"sending": false, "receiving": true} {
		for _, to := range []string{"q", "q/$management", "q/$DeadLetterQueue"} {
			w := openWire(t, addr, 5000)
			w.send(0, codeAttach, "l", uint32(0), receives, nil, nil, sourceOf(to), targetOf(to))
			w.expect(codeAttach)
			p := w.expect(codeDetach)
			_, e := listOf(p.fields[2])
			if got, _ := field[symbol](e, 0); got != condUnauthorized {
				t.Errorf("%s on %s: %v", name, to, e)
			}
		}
	}
}

// A link lives longer than any of its tokens: the client brings the next one while
// the last is good.
func TestTheClientRenewsItsToken(t *testing.T) {
	i := newIssuer(t)
	i.lasting = 15 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		key := func(string) (crypto.PublicKey, error) { return i.key.Public(), nil }
		srv, err := New(Config{Queues: []QueueConfig{{Name: "q"}}, Auth: &Auth{Tokens: &TokenAuth{Key: key}}})
		if err != nil {
			t.Fatal(err)
		}
		l := &pipes{server: make(chan net.Conn), closed: make(chan struct{})}
		go func() { _ = srv.Serve(l) }()
		client, err := azservicebus.NewClient(fqdn, i, &azservicebus.ClientOptions{NewWebSocketConn: l.dial})
		if err != nil {
			t.Fatal(err)
		}
		n := &namespace{t: t, srv: srv, client: client}
		ctx := context.Background()
		s, r := n.sender("q"), n.receiver("q", nil)
		_, err = s.ScheduleMessages(ctx, []*azservicebus.Message{{Body: []byte("a")}}, time.Now().Add(2*time.Hour), nil)
		n.must(err)
		ms, err := r.ReceiveMessages(ctx, 1, nil)
		n.must(err)
		n.must(r.CompleteMessage(ctx, ms[0], nil))
		n.must(s.SendMessage(ctx, &azservicebus.Message{}, nil))
		if got := l.dials.Load(); got != 1 {
			t.Errorf("the client dialled %d times", got)
		}
		n.must(client.Close(ctx))
		n.must(srv.Close())
	})
}

// New links come with tokens of their own.
func TestALinkIsMadeAgainWithAToken(t *testing.T) {
	i := newIssuer(t)
	n, _ := overTLS(t, Config{Queues: []QueueConfig{{Name: "q"}}, Auth: &Auth{Tokens: &TokenAuth{Key: KeySet(i.url)}}}, i)
	s := n.sender("q")
	n.must(s.SendMessage(n.ctx(), &azservicebus.Message{}, nil))
	before := i.issued.Load()
	if _, err := n.srv.DetachLinks("q"); err != nil {
		t.Fatal(err)
	}
	n.must(s.SendMessage(n.ctx(), &azservicebus.Message{}, nil))
	if i.issued.Load() == before {
		t.Error("new links came without a token")
	}
}

func TestAKeySetThatCannotBeReadOpensNothing(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON": "x", "no keys": "{}", "a key of an unknown kind": `{"keys":[{"kid":"1","kty":"OKP"}]}`,
		"a key without numbers": `{"keys":[{"kid":"1","kty":"RSA"}]}`, "numbers that are none": `{"keys":[{"kid":"1","kty":"RSA","n":"!","e":"AQAB"}]}`,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
		if k, err := KeySet(s.URL)("1"); err == nil {
			t.Errorf("%s: got %v", name, k)
		}
		s.Close()
		if _, err := KeySet(s.URL)("1"); err == nil || errors.Is(err, errNoKey) {
			t.Errorf("an endpoint that is gone: %v", err)
		}
	}
}
