package stage0

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Reservation is what ctx.reserve answers (docs/contract.md §5): n executions are granted, or none, and why.
type Reservation struct {
	Granted int `json:"granted"`
	// Reason is tenant or user (a daily limit), rate (rate_limits) or breaker (the circuit is open).
	Reason  string     `json:"reason,omitempty"`
	RetryAt *span.Time `json:"retry_at,omitempty"`
	Limit   *int       `json:"limit,omitempty"`
	Today   *int       `json:"today,omitempty"`
	// Note says why a force that somebody states lets nothing through.
	Note string `json:"note,omitempty"`
}

// reserveCall answers ctx.reserve({name, n}, {cause}).
func (inv *invocation) reserveCall(ctx context.Context,
	raw, rawOrigin json.RawMessage) (*Reservation, error) {
	_, cause, err := inv.originOf(rawOrigin)
	if err != nil {
		return nil, err
	}
	return inv.reserve(ctx, raw, cause, nil)
}

// oneRun is the only reservation that there is, as run_code says it.
const oneRun = `{"name":"exec","n":1}`

// reserve grants one execution of cause, a request, or says why not. function is what it runs, nil where
// the kernel asks before it knows; then no force counts. Asked twice for one attempt it grants the same one.
func (inv *invocation) reserve(ctx context.Context, raw json.RawMessage, cause,
	function *span.Span) (*Reservation, error) {
	var wanted struct {
		Name string `json:"name"`
		N    int    `json:"n"`
	}
	switch {
	case !inv.manifest.Allows(inv.kernel.name, span.ActionReserve, ""):
		return nil, notGranted(inv.kernel.name, span.ActionReserve, "")
	case string(raw) != oneRun &&
		(json.Unmarshal(raw, &wanted) != nil || wanted.Name != "exec" || wanted.N != 1):
		return nil, denied(`reserve: want {name: "exec", n: 1}`)
	case cause.EntityType != "request" || cause.ParentID == nil:
		return nil, denied("reserve: a %s runs nothing: the cause must be a request", cause.EntityType)
	}
	if inv.cancel != nil && inv.cancel(cause.Key()).Err() != nil {
		return nil, denied("reserve: the request is to run no more")
	}
	now := inv.stage0.now()
	held := inv.stage0.quotas.held(cause.ID)
	var refused *Reservation
	var err error
	if held == nil {
		held, refused, err = inv.enter(ctx, cause, function, now)
	}
	if err != nil {
		return nil, err
	}
	if held != nil {
		inv.stage0.quotas.begin(held, begun{cause: cause, at: now, record: runRecord{Kernels: inv.kernelRefs()}})
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	group := inv.group(cause.Key())
	if refused != nil {
		inv.stage0.refusals.count(refused.Reason)
		group.refused = &violation{refused.Reason, now}
		return refused, nil
	}
	group.quota = held
	return &Reservation{Granted: 1}, nil
}

// enter passes a request's run through circuit, rate and quota, in this order: whoever is refused by one
// uses nothing of the next.
func (inv *invocation) enter(ctx context.Context, cause, function *span.Span,
	now time.Time) (*reservation, *Reservation, error) {
	s := inv.stage0
	if err := inv.recallGuards(ctx, cause, function, now); err != nil {
		return nil, nil, err
	}
	circuit := circuitOf(cause, *cause.ParentID)
	if until := s.circuits.enter(circuit, inv.manifest.Policy.CircuitBreakerThreshold, now); !until.IsZero() {
		s.rates.release(cause)
		return nil, refusedUntil("breaker", until), nil
	}
	if perMinute, isLimited := inv.manifest.RateLimits[inv.kernel.name]; isLimited {
		key := rateKey{inv.kernel.name, cause.TenantID}
		var at time.Time
		if function != nil && settingsOf(function).Quota == "drop" { // it will not come back
			at = s.rates.take(key, perMinute, now)
		} else {
			at = s.rates.book(key, perMinute, now, cause)
		}
		if !at.IsZero() {
			s.circuits.leave(circuit)
			refused := refusedUntil("rate", at)
			refused.Limit = &perMinute
			return nil, refused, nil
		}
	}
	held, refused, err := s.takeQuota(ctx, inv.manifest, cause, function, now)
	if refused != nil || err != nil {
		s.circuits.leave(circuit)
	}
	return held, refused, err
}

func refusedUntil(reason string, at time.Time) *Reservation {
	return &Reservation{Reason: reason, RetryAt: new(span.NewTime(at))}
}

// takeQuota counts a request's run against the day's limits, or says which one is reached. Where an earlier
// attempt has been counted it counts nothing. Without a manifest nothing limits it.
func (s *Stage0) takeQuota(ctx context.Context, manifest *governed, request, function *span.Span,
	now time.Time) (*reservation, *Reservation, error) {
	if request.Attempt != nil && *request.Attempt > 1 { // of several attempts one counts
		isCounted, err := s.config.Ledger.HasCounted(ctx, request)
		if err != nil {
			return nil, nil, err
		}
		if isCounted {
			return s.quotas.keep(request.ID), nil, nil
		}
	}
	begin := now.UTC().Truncate(24 * time.Hour)
	r := &reservation{key: quotaKey{request.TenantID, begin.Format(time.DateOnly)}}
	if _, isDerived := request.Engine(); !isDerived {
		r.user = request.OwnerID // somebody asked for this run; a scheduled one counts for the tenant alone
	}
	if manifest == nil {
		_, err := s.quotas.take(ctx, request.ID, r, begin, span.Throttle{}, true)
		return r, nil, err
	}
	over, err := s.quotas.take(ctx, request.ID, r, begin, manifest.Throttle, false)
	if err != nil || over == nil {
		return r, nil, err
	}
	var note string
	if r.forced, note, err = s.force(ctx, request, function); err != nil {
		return nil, nil, err
	}
	if r.forced != nil {
		_, err = s.quotas.take(ctx, request.ID, r, begin, manifest.Throttle, true)
		return r, nil, err
	}
	refused := refusedUntil(over.reason, begin.Add(24*time.Hour))
	refused.Limit, refused.Today, refused.Note = &over.limit, &over.today, note
	return nil, refused, nil
}

// executionID is the id of the execution of this attempt of a request.
func executionID(request *span.Span) span.ID {
	step := int64(request.Seq)
	if request.Attempt != nil {
		step = int64(*request.Attempt)
	}
	return span.Derive("execution", acceptedAt(request), []span.ID{request.ID}, step)
}

// force lets a run through a limit that an override key has signed for: over the request, whose metadata says
// force, or over the version of the function that says so, for its owner's own runs. Each signed span does so
// once. The text says why a force that is stated counts for nothing.
func (s *Stage0) force(ctx context.Context, request, function *span.Span) (*forcedRecord, string, error) {
	var note string
	if saysForce(request.Metadata) {
		found, err := s.config.Ledger.Load(ctx, []span.Key{{ID: request.ID}}) // as it was signed
		if err != nil {
			return nil, "", fmt.Errorf("read a request with force: %w", err)
		}
		if first := found[span.Key{ID: request.ID}]; first != nil {
			var record *forcedRecord
			if record, note = s.override(ctx, first, request); record != nil {
				return record, "", nil
			}
		}
	}
	if function == nil || function.EntityType != "function" || !saysForce(function.Metadata) {
		return nil, note, nil
	}
	if !sameOwner(request, function) {
		return nil, cmp.Or(note, "the function's metadata.force is for its owner's own runs"), nil
	}
	record, why := s.override(ctx, function, request)
	if record == nil {
		return nil, cmp.Or(note, why), nil
	}
	wasForced, err := s.config.Ledger.WasForced(ctx, function.Key())
	if err != nil || wasForced || !s.quotas.claimForce(function.Key(), request.ID) {
		return nil, "metadata.force of this version has let a run through already: sign the next version", err
	}
	return record, "", nil
}

// override returns whose signature over row lets request run, or nil and why not.
func (s *Stage0) override(ctx context.Context, row, request *span.Span) (*forcedRecord, string) {
	log := s.config.Log.With("id", row.ID.String(), "seq", row.Seq, "request", request.ID.String())
	if refusal := s.checkSignature(ctx, row, sign.PurposeOverride); refusal != nil {
		log.Warn("force does not count", "error", refusal.Message)
		return nil, "metadata.force of the " + row.EntityType + " does not count: " + refusal.Message
	}
	record := &forcedRecord{}
	if row.SigKeyID != nil {
		record.KeyID = *row.SigKeyID
	}
	log.Info("force counts where it is new", "key", record.KeyID)
	return record, ""
}

func saysForce(metadata json.RawMessage) bool {
	var members map[string]json.RawMessage
	return bytes.Contains(metadata, []byte(`"force"`)) && json.Unmarshal(metadata, &members) == nil &&
		string(members["force"]) == "true"
}

// Settled takes the end of a request's run: isKept says that what it gave is in the ledger. Whoever boots
// requests calls it for each, or their quota stays used until the next start.
func (s *Stage0) Settled(request span.ID, isKept bool) { s.quotas.settle(request, isKept) }

// violation is a daily limit that a request has met in this run.
type violation struct {
	reason string // of the Reservation
	at     time.Time
}

func (v *violation) isDaily() bool { return v != nil && (v.reason == "tenant" || v.reason == "user") }

// violate completes a policy_violation: one for each tenant (or user), limit and day, whoever meets it, so
// its cause is the manifest and not the request.
func (inv *invocation) violate(s, cause *span.Span, met *violation, who string) error {
	begin := met.at.UTC().Truncate(24 * time.Hour)
	this, subject := "quota.exec.per_tenant.daily", cause.TenantID
	if met.reason == "user" {
		this, subject = "quota.exec.per_user.daily", cause.TenantID+"\x00"+cause.OwnerID
	}
	s.This = &this
	sum := sha256.Sum256([]byte(this + "\x00" + subject))
	id := span.Derive("policy_violation", begin, []span.ID{span.ManifestID, span.ID(sum[:16])})
	if err := inv.complete(s, cause, "policy_violation", id, who); err != nil {
		return err
	}
	var err error
	s.Metadata, err = span.SetEngine(s.Metadata, span.EngineMeta{Cause: span.Key{ID: span.ManifestID},
		Root: span.ManifestID, Depth: 1, Kind: "policy_violation"})
	return err
}

// noteRun tells the circuit how a function's run ended. Where that opens it, the function's owner gets an
// incident, which says nothing of who called: one an hour, however many callers there are.
func (inv *invocation) noteRun(ctx context.Context, row, cause *span.Span, failure *sandbox.Error) {
	if row.EntityType != "function" || failure != nil && failure.Code == sandbox.CodeCancelled {
		return
	}
	s, now, threshold := inv.stage0, inv.stage0.now(), inv.manifest.Policy.CircuitBreakerThreshold
	if !s.circuits.note(circuitOf(cause, row.ID), failure != nil, threshold, now) {
		return
	}
	incident, err := s.systemSpan(row, "incident", "opened")
	if err == nil {
		incident.ID = span.Derive("circuit", now.UTC().Truncate(time.Hour), []span.ID{row.ID}, 0)
		incident.OwnerID, incident.TenantID, incident.This = row.OwnerID, row.TenantID, new("circuit")
		incident.Status, incident.RelatedTo = new("open"), []span.ID{row.ID}
		incident.Error, err = json.Marshal(&span.RunError{Code: span.RunCode(failure.Code), Message: fmt.Sprintf(
			"the function failed %d times in a row for one of its callers, whose calls are refused until %s",
			threshold, span.NewTime(now.Add(circuitRest)))})
	}
	if err == nil {
		err = s.appendOwn(ctx, incident)
	}
	if err != nil {
		s.config.Log.Error("incident not recorded", "what", "circuit", "function", row.ID.String(), "error", err)
	}
}
