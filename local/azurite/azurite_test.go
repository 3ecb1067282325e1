package azurite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"

	"github.com/slurmburst/slurmburst/local/azurite"
	"github.com/slurmburst/slurmburst/local/setup"
)

// startTimeout is generous: node needs more than a second of CPU to start.
const startTimeout = 2 * time.Minute

func start(t *testing.T) *azurite.Server {
	t.Helper()
	return started(t, func(ctx context.Context) (*azurite.Server, error) { return azurite.Start(ctx, t.TempDir()) })
}

func started(t *testing.T, start func(context.Context) (*azurite.Server, error)) *azurite.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	server, err := start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return server
}

// table makes one table through the unmodified SDK client, without retries so
// that a pause is seen as what it is.
func table(t *testing.T, server *azurite.Server) *aztables.Client {
	t.Helper()
	options := &aztables.ClientOptions{ClientOptions: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}}
	service, err := aztables.NewServiceClientFromConnectionString(server.ConnectionString(), options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.CreateTable(t.Context(), "facts", nil); err != nil {
		t.Fatal(err)
	}
	return service.NewClient("facts")
}

func TestSDKClientWritesAndReadsBack(t *testing.T) {
	t.Parallel()
	client := table(t, start(t))
	if _, err := client.AddEntity(t.Context(), []byte(`{"PartitionKey":"onprem","RowKey":"htc-1","Cores":4}`), nil); err != nil {
		t.Fatal(err)
	}
	got, err := client.GetEntity(t.Context(), "onprem", "htc-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.ETag == "" {
		t.Error("the entity has no ETag")
	}
	stale := got.ETag
	if _, err := client.UpdateEntity(t.Context(), []byte(`{"PartitionKey":"onprem","RowKey":"htc-1","Cores":8}`), nil); err != nil {
		t.Fatal(err)
	}
	action := aztables.TransactionAction{
		ActionType: aztables.TransactionTypeUpdateMerge,
		Entity:     []byte(`{"PartitionKey":"onprem","RowKey":"htc-1","Cores":16}`),
		IfMatch:    &stale,
	}
	if _, err := client.SubmitTransaction(t.Context(), []aztables.TransactionAction{action}, nil); err == nil {
		t.Error("a transaction with a stale ETag was accepted")
	}
}

func TestInMemoryNothingIsWrittenButTheLog(t *testing.T) {
	t.Parallel()
	build, err := setup.BuildDir(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	server := started(t, func(ctx context.Context) (*azurite.Server, error) { return azurite.StartInMemory(ctx, build, dir) })
	client := table(t, server)
	if _, err := client.AddEntity(t.Context(), []byte(`{"PartitionKey":"onprem","RowKey":"htc-1"}`), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := client.GetEntity(t.Context(), "onprem", "htc-1", nil); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(context.Background()); err != nil { // which writes the file, where there is one
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != "azurite.log" {
		t.Errorf("left %v, %v; want the log alone", files, err)
	}
}

func TestTwoServersAtOnceKeepTheirDataApart(t *testing.T) {
	t.Parallel()
	one, two := start(t), start(t)
	if one.Endpoint() == two.Endpoint() {
		t.Fatalf("both servers are at %s", one.Endpoint())
	}
	table(t, one)
	table(t, two) // creating the same table twice in one server would be refused
}

func TestPausedServerAnswersNothingUntilResumed(t *testing.T) {
	t.Parallel()
	server := start(t)
	client := table(t, server)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := client.AddEntity(ctx, []byte(`{"PartitionKey":"p","RowKey":"paused"}`), nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while paused: error %v, want a deadline exceeded", err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.AddEntity(t.Context(), []byte(`{"PartitionKey":"p","RowKey":"resumed"}`), nil); err != nil {
		t.Errorf("after resume: %v", err)
	}
}

func TestStopEndsTheProcessEvenWhenPaused(t *testing.T) {
	t.Parallel()
	server := start(t)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.Done():
	default:
		t.Error("the process still runs after Stop")
	}
}

func TestMissingToolIsNamed(t *testing.T) {
	t.Parallel()
	_, err := azurite.StartFrom(t.Context(), t.TempDir(), t.TempDir())
	if !errors.Is(err, setup.ErrNotInstalled) {
		t.Errorf("error %v, want ErrNotInstalled", err)
	}
}

func TestServerThatEndsAtOnceIsReportedWithItsOutput(t *testing.T) {
	t.Parallel()
	build := t.TempDir()
	script := filepath.Join(build, "tools", "node_modules", "azurite", "dist", "src", "table", "main.js")
	if err := os.MkdirAll(filepath.Dir(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, []byte(`console.error("no space"); process.exit(3)`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := azurite.StartFrom(t.Context(), build, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no space") {
		t.Errorf("error %v, want the exit status and the output", err)
	}
}
