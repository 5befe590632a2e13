package stage0

import (
	"testing"

	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

func TestARootBringsAboutSoMuch(t *testing.T) {
	t.Parallel()
	var roots rootCounter
	for i := range rootSpansMax {
		if !roots.add(span.RunCodeID) {
			t.Fatalf("span %d is refused", i)
		}
	}
	if roots.add(span.RunCodeID) {
		t.Error("one more is taken")
	}
	if !roots.add(span.ObserverBotID) {
		t.Error("another root pays for it")
	}
}

func TestAPolicyThatRunsOutOfTimeRests(t *testing.T) {
	t.Parallel()
	var b breaker
	policy, other := span.Key{ID: span.RunCodeID}, span.Key{ID: span.RunCodeID, Seq: 1}
	timeout, thrown := &sandbox.Error{Code: sandbox.CodeTimeout}, &sandbox.Error{Code: sandbox.CodeException}
	for _, end := range []*sandbox.Error{timeout, timeout, nil, timeout, thrown, timeout, timeout} {
		b.note(policy, end)
		if refusal := b.refuse(policy); refusal != nil {
			t.Fatalf("it rests though it did not run out of time %d times in a row: %v", policyStrikes, refusal)
		}
	}
	b.note(policy, timeout)
	if refusal := b.refuse(policy); refusal == nil || refusal.Code != span.RunTimeout {
		t.Errorf("got %v, want a rest", refusal)
	}
	if refusal := b.refuse(other); refusal != nil {
		t.Errorf("its next version rests, too: %v", refusal)
	}
}
