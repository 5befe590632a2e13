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
	policy := judge{span.Key{ID: span.RunCodeID}, "t1"}
	next, elsewhere := judge{span.Key{ID: span.RunCodeID, Seq: 1}, "t1"}, judge{policy.policy, "t2"}
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
	for _, other := range []judge{next, elsewhere} {
		if refusal, isSkipped := b.begin(other); refusal != nil || isSkipped {
			t.Errorf("%v rests, too: %v", other, refusal)
		}
	}
}

func TestAPolicyThatFailsOftenRests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		every   int // of so many spans it fails on one
		isRests bool
	}{{"always", 1, true}, {"every other span", 2, true}, {"one in ten", 10, true}, {"seldom", 30, false}} {
		var b breaker
		of, rests := judge{span.Key{ID: span.RunCodeID}, "t1"}, false
		for i := range policyFailures * c.every * 2 {
			if refusal, isSkipped := b.begin(of); refusal != nil || isSkipped {
				rests = true
			} else if (i+1)%c.every == 0 {
				b.failed(of)
			}
		}
		if rests != c.isRests {
			t.Errorf("%s: rests: %v, want %v", c.name, rests, c.isRests)
		}
	}
}
