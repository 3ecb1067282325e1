package main

import (
	"testing"

	"github.com/slurmburst/slurmburst/internal/burst"
)

func TestTheMeasuredSituationMeetsEveryKindOfRule(t *testing.T) {
	now, p, facts, err := everyRule(500)
	if err != nil {
		t.Fatal(err)
	}
	if err := showsEveryRule(burst.Decide(now, p, facts), 500); err != nil {
		t.Error(err)
	}
}
