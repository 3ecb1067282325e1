package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/settings.md")

const pageHead = `# Settings

This page is made from the tables in internal/config (` + "`make docs`" + `). Every program reads its settings from the environment and reports all that is wrong at
once. An empty setting counts as unset. A ` + "`BURST_`" + ` name that no program knows is an error, so that a misspelt one cannot leave a default in force; a
setting of another program is not, so that programs may share one file. Secrets are never written to a log or an error.

Service Bus and the tables are each reached either by a connection string or by address and identity. The Functions host reads the ` + "`SERVICEBUS`" + `
settings too, for its triggers; with a user-assigned identity it also wants ` + "`SERVICEBUS__credential`" + ` = ` + "`managedidentity`" + `. On Linux without a managed
identity (the head node), the programs use the credentials that azidentity finds. The host does not read ` + "`SERVICEBUS__customEndpoint`" + `: its triggers
want a DNS that knows the namespace. To trust an authority of your own, name its file in ` + "`SSL_CERT_FILE`" + `, which every Go program honours on Linux.
`

func rows[T any](page *strings.Builder, table []setting[T]) {
	page.WriteString("\n| setting | default | form | meaning |\n|---|---|---|---|\n")
	for _, s := range table {
		def := "none"
		switch {
		case s.required:
			def = "required"
		case s.def != "" && s.defNote != "":
			def = "`" + s.def + "` " + s.defNote
		case s.def != "":
			def = "`" + s.def + "`"
		case s.defNote != "":
			def = s.defNote
		}
		fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", s.name, def, s.want, s.about)
	}
}

func TestSettingsPageIsUpToDate(t *testing.T) {
	var page strings.Builder
	page.WriteString(pageHead)
	page.WriteString("\n## The Functions app (cmd/handler)\n")
	rows(&page, appTable)
	page.WriteString("| `BURST_CREDENTIAL_<NAME>` | none | user:password | What CycleCloud asks for; a policy's `cyclecloud.credential` is NAME in lower case. |\n")
	page.WriteString("\n## The agent on the Slurm head node (cmd/burst-agent)\n")
	rows(&page, agentTable)
	page.WriteString("\n## The administrator's tool (cmd/burstctl)\n")
	rows(&page, ctlTable)

	const file = "../../docs/settings.md"
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page.String(), string(got)); diff != "" {
		t.Errorf("docs/settings.md is not up to date, run make docs (-want +got):\n%s", diff)
	}
}

func TestTablesAreSound(t *testing.T) {
	check(t, "app", appTable)
	check(t, "agent", agentTable)
	check(t, "ctl", ctlTable)
}

func check[T any](t *testing.T, program string, table []setting[T]) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range table {
		if seen[s.name] {
			t.Errorf("%s: %s is twice in the table", program, s.name)
		}
		seen[s.name] = true
		if s.want == "" || s.about == "" || !strings.HasSuffix(s.about, ".") {
			t.Errorf("%s: %s lacks its form or its sentence", program, s.name)
		}
		var into T
		if s.def != "" && s.parse(&into, s.def) != nil {
			t.Errorf("%s: the default of %s is refused", program, s.name)
		}
	}
}
