package ledger

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// Config says how to reach a table service: by ConnectionString, or by Endpoint
// (https) and Credential.
type Config struct {
	ConnectionString string
	Endpoint         string
	Credential       azcore.TokenCredential
	// Prefix begins the name of every table; DefaultPrefix where it is empty.
	Prefix string
	// Client is given to the SDK. Retries are bounded where it leaves them open.
	Client azcore.ClientOptions
}

// Open makes a ledger on a table service. It sends nothing.
func Open(c Config) (*Store, error) {
	options := &aztables.ClientOptions{ClientOptions: c.Client}
	if options.Retry.MaxRetries == 0 && options.Retry.TryTimeout == 0 {
		// Everything has to end within the 60 s of a function's own deadline.
		options.Retry = policy.RetryOptions{
			MaxRetries: 4, TryTimeout: 15 * time.Second,
			RetryDelay: 200 * time.Millisecond, MaxRetryDelay: 4 * time.Second,
		}
	}
	switch {
	case c.ConnectionString != "" && c.Endpoint != "":
		return nil, fault.Newf(fault.Invalid, "open ledger: give a connection string or an endpoint, not both")
	case c.ConnectionString != "":
		client, err := aztables.NewServiceClientFromConnectionString(c.ConnectionString, options)
		if err != nil {
			// The cause may quote the string, and with it the key.
			return nil, fault.Newf(fault.Invalid, "open ledger: the connection string cannot be used")
		}
		return NewStore(client, c.Prefix)
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fault.Newf(fault.Invalid, "open ledger: the endpoint %q is not an https address", c.Endpoint)
	}
	if c.Credential == nil {
		return nil, fault.Newf(fault.Invalid, "open ledger at %s: a credential is missing", c.Endpoint)
	}
	client, err := aztables.NewServiceClient(c.Endpoint, c.Credential, options)
	if err != nil {
		return nil, fault.New(fault.Invalid, "open ledger at "+c.Endpoint, err)
	}
	return NewStore(client, c.Prefix)
}

// NewStore makes a ledger on a client of the SDK. The prefix begins the name of
// every table; DefaultPrefix where it is empty.
func NewStore(client *aztables.ServiceClient, prefix string) (*Store, error) {
	return newStore(azureTables{client}, prefix)
}

// azureTables is the table service of Azure, or Azurite.
type azureTables struct{ client *aztables.ServiceClient }

func (a azureTables) create(ctx context.Context, table string) error {
	_, err := a.client.CreateTable(ctx, table, nil)
	return refusalOf(err, nil)
}

func (a azureTables) query(ctx context.Context, table string, q query) (page, error) {
	filter := filterText(q.where)
	options := &aztables.ListEntitiesOptions{Filter: &filter}
	if len(q.columns) > 0 {
		columns := strings.Join(append([]string{partitionKey, rowKey}, q.columns...), ",")
		options.Select = &columns
	}
	if q.top > 0 {
		top := int32(min(q.top, MaxTop))
		options.Top = &top
	}
	if !q.from.isEnd() {
		options.NextPartitionKey, options.NextRowKey = &q.from.PK, &q.from.RK
	}
	got, err := a.client.NewClient(table).NewListEntitiesPager(options).NextPage(ctx)
	if err != nil {
		return page{}, refusalOf(err, nil)
	}
	answer := page{rows: make([]entity, len(got.Entities))}
	for i, raw := range got.Entities {
		if answer.rows[i], err = decode(raw, ""); err != nil {
			return page{}, err
		}
	}
	if got.NextPartitionKey != nil {
		answer.next.PK = *got.NextPartitionKey
	}
	if got.NextRowKey != nil {
		answer.next.RK = *got.NextRowKey
	}
	return answer, nil
}

func (a azureTables) get(ctx context.Context, table, pk, rk string) (entity, error) {
	got, err := a.client.NewClient(table).GetEntity(ctx, pk, rk, nil)
	if err != nil {
		return entity{}, refusalOf(err, nil)
	}
	return decode(got.Value, string(got.ETag))
}

func (a azureTables) submit(ctx context.Context, table string, ops []op) ([]string, error) {
	client := a.client.NewClient(table)
	if len(ops) == 1 {
		etag, err := submitOne(ctx, client, ops[0])
		return []string{etag}, refusalOf(err, nil)
	}
	actions := make([]aztables.TransactionAction, len(ops))
	for i, o := range ops {
		actions[i] = aztables.TransactionAction{Entity: o.body}
		etag := azcore.ETag(o.row.etag)
		switch o.verb {
		case insert:
			actions[i].ActionType = aztables.TransactionTypeAdd
		case merge:
			actions[i].ActionType, actions[i].IfMatch = aztables.TransactionTypeUpdateMerge, &etag
		case upsert:
			actions[i].ActionType = aztables.TransactionTypeInsertMerge
		case remove:
			actions[i].ActionType, actions[i].IfMatch = aztables.TransactionTypeDelete, &etag
		}
	}
	// aztables 1.4.1 drops the answers to the single operations, with the new
	// ETags and the reason of a refusal: read them from the raw response.
	var raw *http.Response
	_, err := client.SubmitTransaction(policy.WithCaptureResponse(ctx, &raw), actions, nil)
	parts := batchAnswer(raw)
	if err != nil {
		return nil, refusalOf(err, parts)
	}
	if len(parts) != len(ops) {
		return nil, fmt.Errorf("the service answered %d operations of %d", len(parts), len(ops))
	}
	etags := make([]string, len(parts))
	for i, p := range parts {
		etags[i] = p.etag
		if p.etag == "" && ops[i].verb != remove {
			return nil, fmt.Errorf("the service gave row %s no ETag", ops[i].row.rk)
		}
	}
	return etags, nil
}

func submitOne(ctx context.Context, client *aztables.Client, o op) (string, error) {
	etag := azcore.ETag(o.row.etag)
	switch o.verb {
	case insert:
		got, err := client.AddEntity(ctx, o.body, nil)
		return string(got.ETag), err
	case merge:
		got, err := client.UpdateEntity(ctx, o.body, &aztables.UpdateEntityOptions{IfMatch: &etag, UpdateMode: aztables.UpdateModeMerge})
		return string(got.ETag), err
	case upsert:
		got, err := client.UpsertEntity(ctx, o.body, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeMerge})
		return string(got.ETag), err
	case remove:
		_, err := client.DeleteEntity(ctx, o.row.pk, o.row.rk, &aztables.DeleteEntityOptions{IfMatch: &etag})
		return "", err
	}
	return "", fault.Newf(fault.Bug, "submit: unknown verb %v", o.verb)
}

// filterText writes conditions in OData's language. Every value is quoted here
// and nowhere else.
func filterText(where []condition) string {
	parts := make([]string, len(where))
	for i, c := range where {
		var value string
		switch v := c.value.(type) {
		case string:
			value = "'" + strings.ReplaceAll(v, "'", "''") + "'"
		case bool:
			value = strconv.FormatBool(v)
		case int32:
			value = strconv.FormatInt(int64(v), 10)
		case int64:
			value = strconv.FormatInt(v, 10) + "L"
		case time.Time:
			value = "datetime'" + v.UTC().Format("2006-01-02T15:04:05.000000Z") + "'"
		}
		parts[i] = fmt.Sprintf("%s %s %s", c.column, c.is, value)
	}
	return strings.Join(parts, " and ")
}

// partAnswer is the service's answer to one operation of a transaction.
type partAnswer struct {
	status  int
	etag    string
	code    string
	message string
}

// batchAnswer reads the answers in the response to a transaction. What cannot
// be read counts as missing.
func batchAnswer(raw *http.Response) []partAnswer {
	if raw == nil {
		return nil
	}
	body, err := runtime.Payload(raw)
	if err != nil {
		return nil
	}
	outer, err := firstPart(raw.Header.Get("Content-Type"), bytes.NewReader(body))
	if err != nil {
		return nil
	}
	_, params, err := mime.ParseMediaType(outer.Header.Get("Content-Type"))
	if err != nil {
		return nil
	}
	var parts []partAnswer
	for inner := multipart.NewReader(outer, params["boundary"]); ; {
		part, err := inner.NextPart()
		if err != nil {
			return parts
		}
		answer, err := http.ReadResponse(bufio.NewReader(part), nil)
		if err != nil {
			return parts
		}
		parts = append(parts, readPart(answer))
	}
}

func firstPart(contentType string, body io.Reader) (*multipart.Part, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, err
	}
	return multipart.NewReader(body, params["boundary"]).NextPart()
}

func readPart(answer *http.Response) partAnswer {
	p := partAnswer{status: answer.StatusCode, etag: answer.Header.Get("ETag")}
	body, _ := io.ReadAll(answer.Body) // as much as there is
	_ = answer.Body.Close()            // it reads from memory
	p.code, p.message = errorOf(body)
	return p
}

// errorOf reads the service's description of an error.
func errorOf(body []byte) (code, message string) {
	var described struct {
		Error struct {
			Code    string `json:"code"`
			Message struct {
				Value string `json:"value"`
			} `json:"message"`
		} `json:"odata.error"`
	}
	if json.Unmarshal(body, &described) != nil {
		return "", ""
	}
	message, _, _ = strings.Cut(described.Error.Message.Value, "\n") // what follows are ids and times
	return described.Error.Code, message
}

// refusalOf turns the SDK's error for an answer that is not a success into a
// refusal; parts are the answers to the operations of a transaction. Other
// errors stay as they are.
func refusalOf(err error, parts []partAnswer) error {
	var answered *azcore.ResponseError
	if !errors.As(err, &answered) {
		return err
	}
	r := &refusal{status: answered.StatusCode, code: answered.ErrorCode, index: -1}
	if answered.RawResponse != nil {
		if body, err := runtime.Payload(answered.RawResponse); err == nil {
			code, message := errorOf(body)
			if r.message = message; r.code == "" {
				r.code = code
			}
		}
	}
	for _, p := range parts {
		if p.status < 400 {
			continue
		}
		r.status, r.code, r.message = p.status, p.code, p.message
		// The message begins with the number of the operation: "2:The …".
		if number, rest, ok := strings.Cut(p.message, ":"); ok {
			if n, err := strconv.Atoi(number); err == nil {
				r.index, r.message = n, rest
			}
		}
	}
	return r
}
