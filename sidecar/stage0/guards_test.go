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
		if refusal, isSkipped := b.begin(policy); refusal != nil || isSkipped {
			t.Fatalf("it rests though it did not run out of time %d times in a row: %v", policyStrikes, refusal)
		}
	}
	b.note(policy, timeout)
	if refusal, isSkipped := b.begin(policy); refusal == nil || refusal.Code != span.RunTimeout || isSkipped {
		t.Errorf("got %v, %v, want a rest", refusal, isSkipped)
	}
	if refusal, isSkipped := b.begin(policy); refusal != nil || !isSkipped {
		t.Errorf("a rest is told twice: %v, %v", refusal, isSkipped)
	}
	if refusal, isSkipped := b.begin(other); refusal != nil || isSkipped {
		t.Errorf("its next version rests, too: %v", refusal)
	}
}

func TestAPolicyThatFailsOnEverySpanRests(t *testing.T) {
	t.Parallel()
	var b breaker
	policy := span.Key{ID: span.RunCodeID}
	judge := func(fails bool) bool {
		refusal, isSkipped := b.begin(policy)
		if fails {
			b.failed(policy)
		}
		return refusal != nil || isSkipped
	}
	for i := range 3 * policyFailures {
		if judge(i%policyFailures != 0) {
			t.Fatalf("it rests after %d spans of which it judged one in %d well", i, policyFailures)
		}
	}
	judge(false)
	for i := range policyFailures {
		if judge(true) {
			t.Fatalf("it rests after %d failures", i)
		}
	}
	if !judge(false) {
		t.Error("it does not rest")
	}
}
