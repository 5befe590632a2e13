package app

import (
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
)

// A refusal or a timeout is not taken for a ledger without a boot_event.
func TestAnUnansweredQuestionIsNoAbsence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer ledger.Answer
		level  Level
		says   string
	}{
		{ledger.Answer{Rows: 1, Value: "2026-01-01 00:00:00+00"}, Fine, "of 2026-01-01"},
		{ledger.Answer{Rows: 1}, Skipped, "there is no boot_event yet"},
		{ledger.Answer{State: "57014", Message: "canceling statement due to statement timeout"}, Skipped,
			"57014 canceling"},
		{ledger.Answer{Barred: "permission denied", State: "42501"}, Skipped, "not tried"},
	} {
		if e := bootEvidence(c.answer); e.Level != c.level || !strings.Contains(e.Answer, c.says) {
			t.Errorf("of %+v it makes %+v", c.answer, e)
		}
	}
}
