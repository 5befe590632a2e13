package stage0

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// settings are what a function's metadata says about its runs.
type settings struct {
	Quota string `json:"quota,omitempty"` // drop: over the limit a request ends, and does not wait
	Retry *retry `json:"retry,omitempty"`
	fault error  // of metadata.retry: nothing is tried again, and the owner is told once a run has failed
}

// retry is metadata.retry: how often a run that failed is tried, and how long after the first failure.
type retry struct {
	MaxAttempts int `json:"max_attempts"`
	BaseMs      int `json:"base_ms"`
}

// The bounds of metadata.retry (what is above counts as the bound), and of the wait between two attempts.
const (
	retryAttemptsMax = 20
	retryBaseMs      = 1000 // where none is stated
	retryBaseMsMax   = 24 * 3600 * 1000
	retryWaitMax     = 24 * time.Hour
)

func settingsOf(row *span.Span) settings {
	var members map[string]json.RawMessage
	var s settings
	if row.Metadata == nil || json.Unmarshal(row.Metadata, &members) != nil {
		return s
	}
	if string(members["quota"]) == `"drop"` {
		s.Quota = "drop"
	}
	s.Retry, s.fault = readRetry(members["retry"])
	return s
}

// readRetry reads metadata.retry; nil where it is not stated. A key that is not read is refused: nobody would
// notice the slip.
func readRetry(raw json.RawMessage) (*retry, error) {
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	var stated struct {
		MaxAttempts *int `json:"max_attempts"`
		BaseMs      *int `json:"base_ms"`
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&stated) != nil || stated.MaxAttempts == nil {
		return nil, fmt.Errorf(`metadata.retry is %.80s: want {"max_attempts": 3, "base_ms": 1000}, whole `+
			`numbers; base_ms may be left out, other keys are not read`, raw)
	}
	r := &retry{min(*stated.MaxAttempts, retryAttemptsMax), retryBaseMs}
	if stated.BaseMs != nil {
		r.BaseMs = min(*stated.BaseMs, retryBaseMsMax)
	}
	switch {
	case r.MaxAttempts < 1:
		return nil, fmt.Errorf("metadata.retry: max_attempts is %d, want 1 to %d", r.MaxAttempts,
			retryAttemptsMax)
	case r.BaseMs < 1:
		return nil, fmt.Errorf("metadata.retry: base_ms is %d, want 1 to %d", r.BaseMs, retryBaseMsMax)
	case r.MaxAttempts == 1: // as without: its failure is final
		return nil, nil
	}
	return r, nil
}

// retried says when a request whose attempt failed is tried again, or how many attempts have failed and that
// there is none more; neither where another try would end as this one. A redrive begins to count anew.
func (s *Stage0) retried(ctx context.Context, of *retry, request *span.Span, failure *span.RunError) (
	at *span.Time, givenUp int, err error) {
	if of == nil || request.EntityType != "request" || failure.Code == span.RunSyntax ||
		failure.Code == span.RunLimitSource {
		return nil, 0, nil
	}
	attempt := 1
	if request.Attempt != nil {
		attempt = *request.Attempt
	}
	tried := attempt
	if attempt > 1 {
		before, err := s.config.Ledger.AttemptsBefore(ctx, request.ID)
		if err != nil {
			return nil, 0, err
		}
		tried -= before
	}
	if tried >= of.MaxAttempts {
		return nil, tried, nil
	}
	return new(of.after(request.ID, attempt, tried, s.now())), 0, nil
}

// after is when the next attempt is due. The wait doubles with each that was tried; its jitter, half of it,
// comes from the request, so that it is the same whoever asks.
func (r *retry) after(request span.ID, attempt, tried int, now time.Time) span.Time {
	wait := time.Duration(r.BaseMs) * time.Millisecond
	for range tried - 1 {
		wait = min(2*wait, retryWaitMax)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "retry %s %d", request, attempt))
	return span.NewTime(now.Add(wait/2 + wait/2*time.Duration(sum[0])/255))
}

// noteRetry tells a function's owner that its metadata.retry is malformed, where a run has failed and would
// have been tried again: one incident of his own for each version.
func (inv *invocation) noteRetry(ctx context.Context, row, cause *span.Span, fault error,
	failure *sandbox.Error) {
	if fault == nil || failure == nil || row.EntityType != "function" || cause.EntityType != "request" {
		return
	}
	s := inv.stage0
	incident, err := s.systemSpan(row, "incident", "refused")
	if err == nil {
		incident.ID = span.Derive("incident:retry", acceptedAt(row), []span.ID{row.ID}, int64(row.Seq))
		incident.OwnerID, incident.TenantID, incident.This = row.OwnerID, row.TenantID, new("function.retry")
		incident.Status, incident.ParentID, incident.RelatedTo = new("open"), &row.ID, []span.ID{row.ID}
		incident.Error, err = json.Marshal(&span.RunError{Code: span.RunSyntax, Message: fault.Error() +
			": until the next version says so, nothing is tried again"})
	}
	if err == nil {
		err = s.appendOwn(ctx, incident)
	}
	if err != nil {
		s.config.Log.Error("incident not recorded", "what", "retry", "function", row.ID.String(), "error", err)
	}
}
