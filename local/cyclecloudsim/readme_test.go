package cyclecloudsim

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestREADMENamesEveryQuirkCallAndKind(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, q := range quirkTable {
		answers := strings.Trim(fmt.Sprint(q.answers), "[]")
		parts = append(parts, fmt.Sprintf("| %s | %s |", q.name, strings.ReplaceAll(answers, " ", ", ")))
	}
	for call := range controls {
		parts = append(parts, call)
	}
	for _, k := range failKinds {
		parts = append(parts, string(k))
	}
	for _, k := range outageKinds {
		parts = append(parts, string(k))
	}
	for _, part := range parts {
		if !strings.Contains(string(text), part) {
			t.Errorf("README.md lacks %q", part)
		}
	}
}
