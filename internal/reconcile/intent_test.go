package reconcile

import "testing"

// A key that changed would make CycleCloud carry out a create twice; one that two
// ledgers share, the second after the first was lost, would make it swallow one.
func TestTheRequestIDIsThatOfLedgerIntentAndKind(t *testing.T) {
	const id = "5f0c4d0e-0000-4000-8000-000000000001"
	want := requestID(id, "1795468705423/01", kindCreate)
	if golden := "6d9ba2e7-969d-8600-a43f-c703138b4541"; want != golden {
		t.Errorf("requestID is %s, was %s when it was first written", want, golden)
	}
	for what, other := range map[string]string{
		"of another ledger": requestID("5f0c4d0e-0000-4000-8000-000000000002", "1795468705423/01", kindCreate),
		"of another intent": requestID(id, "1795468705423/02", kindCreate),
		"of another kind":   requestID(id, "1795468705423/01", kindTerminate),
	} {
		if other == want {
			t.Errorf("the key %s is the same", what)
		}
	}
}
