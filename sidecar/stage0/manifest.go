package stage0

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// governed is the manifest in force, in the forms that runs need.
type governed struct {
	*span.Manifest
	key  span.Key
	lazy map[string]json.RawMessage // ctx.manifest
	// since is when it took force, or could first have: by the database's clock.
	since time.Time
	// isSigned says that a key that leads to the root has signed it, by the keys in trust.
	isSigned bool
	trust    *sign.Trust
	// refusal is why nothing may run: it does not hold by the keys of now, and no other can stand in.
	refusal *span.RunError
}

// Manifest returns the manifest in force, or nil before the first Reload.
func (s *Stage0) Manifest() *span.Manifest {
	if current := s.manifest.Load(); current != nil {
		return current.Manifest
	}
	return nil
}

// ManifestSince returns from when the manifest in force is so, by the database's clock; zero before the first
// Reload.
func (s *Stage0) ManifestSince() time.Time {
	if current := s.manifest.Load(); current != nil {
		return current.since
	}
	return time.Time{}
}

// Reload reads the manifest and puts it in force. A manifest with a fault does not take force: the
// one before stays, and the fault is returned and recorded as an incident span.
func (s *Stage0) Reload(ctx context.Context) error {
	s.reload.Lock()
	defer s.reload.Unlock()
	now, err := s.databaseNow(ctx)
	if err != nil {
		return err
	}
	if err := s.reloadTrust(ctx); err != nil {
		return err
	}
	trust := s.trust.Load()
	candidates, err := s.candidates(ctx, trust, now)
	if err != nil {
		return fmt.Errorf("read the manifest: %w", err)
	}
	if len(candidates) == 0 {
		return &span.RunError{
			Code:    span.RunNotFound,
			Message: "the ledger has no manifest: run `logline bootstrap`",
		}
	}
	chosen, next := choose(trust, candidates, now)
	s.noteNext(next)
	for _, c := range candidates {
		if c.fault != nil && (!c.isWithdrawn() || c.isForbidden) && !s.faulty[c.row.Seq] {
			s.faulty[c.row.Seq] = s.incident(ctx, c.row, "manifest refused", c.fault)
		}
	}
	current := s.manifest.Load()
	switch {
	case chosen != nil && (current == nil || current.key != chosen.key || current.trust != trust):
		s.putInForce(chosen)
		s.config.Log.Info("manifest in force", "seq", chosen.key.Seq, "version", chosen.Version)
	case chosen == nil && current != nil && current.trust != trust:
		s.putInForce(current.judgedBy(trust, candidates))
	}
	for _, c := range candidates { // the newest first
		if chosen != nil && c.row.Seq <= chosen.key.Seq {
			break
		}
		if c.fault == nil {
			continue
		}
		refused := fmt.Errorf("take manifest version %d into force: %w", c.row.Seq, c.fault)
		if chosen == nil || current != nil {
			return refused
		}
		s.config.Log.Error("manifest refused; the one before stays in force", "error", refused)
		break
	}
	if chosen == nil && current == nil {
		return &span.RunError{Code: span.RunNotEffective, Message: "no manifest has taken force yet"}
	}
	return nil
}

// candidate is a version of the manifest, read or refused.
type candidate struct {
	row      *span.Span
	manifest *governed
	fault    error
	// isForbidden says that c would take the manifest out of force, and may not.
	isForbidden bool
}

// settled reports whether nothing before c matters any more: it is in force whatever timelock there was, and
// it says itself what must be signed. What no key has signed may be bound by one before it, however old, also
// where no root says which keys count.
func (c *candidate) settled(trust *sign.Trust, now time.Time) bool {
	if c.fault != nil || c.isWithdrawn() || c.dueAt(span.TimelockHoursMax).After(now) {
		return false
	}
	return !trust.HasRoot() && c.requiresSignatures() || trust.CheckSealed(c.row, sign.PurposeManifest) == nil
}

// isWithdrawn reports whether its governor took c back, or has not let it out yet.
func (c *candidate) isWithdrawn() bool { return c.row.StatusText() != "active" || c.row.IsDeleted }

// requiresSignatures reports whether c asks for any signature. One that cannot be read, since it is of
// another version of the form, asks unless it plainly does not.
func (c *candidate) requiresSignatures() bool {
	if c.manifest != nil {
		return c.manifest.Features.SignaturesRequired.IsAny()
	}
	var stated struct {
		Features struct {
			SignaturesRequired json.RawMessage `json:"signatures_required"`
		} `json:"features"`
	}
	if json.Unmarshal(c.row.Metadata, &stated) != nil {
		return false
	}
	switch string(stated.Features.SignaturesRequired) {
	case "", "false", "null", "[]":
		return false
	}
	return true
}

// dueAt is when c takes force under a timelock; ledger.InForce has the same rule.
func (c *candidate) dueAt(timelockHours int) time.Time {
	var at time.Time
	if c.row.EffectiveAt != nil {
		at = c.row.EffectiveAt.Time
	}
	if c.row.Seq > 0 && c.row.StatusText() == "active" {
		if end := acceptedAt(c.row).Add(time.Duration(timelockHours) * time.Hour); end.After(at) {
			at = end
		}
	}
	return at
}

// candidates reads versions of the manifest, the newest first, back to one that is settled.
func (s *Stage0) candidates(ctx context.Context, trust *sign.Trust, now time.Time) ([]candidate, error) {
	const page = 20
	var list []candidate
	for before := math.MaxInt32; ; {
		rows, err := s.config.Ledger.VersionsBefore(ctx, span.ManifestID, before, page)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			c := candidate{row: row}
			c.manifest, c.fault = readManifest(row)
			if list = append(list, c); c.settled(trust, now) {
				return list, nil
			}
			before = row.Seq
		}
		if len(rows) < page {
			return list, nil
		}
	}
}

// choose walks from the oldest candidate to the newest: each waits for the timelock of the last one that was
// in force before it, so none can shorten its own, nor get around it by taking the manifest out of force; and
// each needs the signature that one before it requires, to take it out of force, too. It returns which is in
// force at now, nil where none, and when the next one takes force.
// ledger_private.manifest_in_force has the same rule.
func choose(trust *sign.Trust, newestFirst []candidate, now time.Time) (chosen *governed, next time.Time) {
	isBound, hours := false, 0
	for i := len(newestFirst) - 1; i >= 0; i-- {
		c := &newestFirst[i]
		due := c.dueAt(hours)
		switch {
		case due.After(now):
			if next.IsZero() || due.Before(next) {
				next = due
			}
			continue
		case c.isWithdrawn():
			if c.judgeWithdrawal(trust, isBound); !c.isForbidden {
				chosen = nil
			}
			continue
		}
		isBound = c.judgeSignature(trust, isBound)
		switch {
		case c.fault == nil:
			chosen, hours = c.manifest, c.manifest.Timelocks["manifest"]
			if chosen.since = acceptedAt(c.row); due.After(chosen.since) {
				chosen.since = due
			}
		case isBound && (chosen != nil && !chosen.isSigned || c.hasFallenUnsigned(trust)):
			chosen = nil
		}
	}
	return chosen, next
}

// databaseNow asks the database for the time, which decides what is in force, and notes how far its clock
// is ahead of ours.
func (s *Stage0) databaseNow(ctx context.Context) (time.Time, error) {
	before := s.local()
	now, err := s.config.Ledger.Now(ctx)
	if err == nil {
		s.ahead.Store(int64(now.Sub(before.Add(s.local().Sub(before) / 2))))
	}
	return now, err
}

// now is the database's time, as of the last look at its clock.
func (s *Stage0) now() time.Time { return s.local().Add(time.Duration(s.ahead.Load())) }

// local is this machine's time, as it was at the start and has gone on since: who sets it changes nothing.
func (s *Stage0) local() time.Time { return s.started.Round(0).Add(time.Since(s.started)) }

// LookAtClock looks at the database's clock, which may have jumped: whoever leads asks for it each minute.
func (s *Stage0) LookAtClock(ctx context.Context) error {
	_, err := s.databaseNow(ctx)
	return err
}

// noteNext notes that something takes force at next; zero is never.
func (s *Stage0) noteNext(next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !next.IsZero() && (s.nextAt.IsZero() || next.Before(s.nextAt)) {
		s.nextAt = next
	}
}

// Refresh puts into force what has become effective since it was committed. Every row and every boot asks
// for it; where none comes, somebody else has to.
func (s *Stage0) Refresh(ctx context.Context) error {
	s.mu.Lock()
	at := s.nextAt
	isDue := !at.IsZero() && !s.now().Before(at)
	if isDue {
		s.nextAt = time.Time{}
		s.drops++
		clear(s.kernels)
	}
	s.mu.Unlock()
	if !isDue {
		return nil
	}
	err := s.tolerate(s.Reload(ctx))
	if err != nil {
		s.noteNext(at)
	}
	return err
}

// tolerate logs the refusal of a manifest, which leaves the one before in force, and returns other errors.
func (s *Stage0) tolerate(err error) error {
	var refusal *span.RunError
	var malformed *span.Refusal
	if errors.As(err, &refusal) || errors.As(err, &malformed) {
		s.config.Log.Error("manifest refused; the one before stays in force", "error", err)
		return nil
	}
	return err
}

func readManifest(row *span.Span) (*governed, error) {
	if row.StatusText() != "active" {
		return nil, &span.RunError{Code: span.RunRevoked,
			Message: fmt.Sprintf("the manifest has the status %q, not active: append a version that is (`logline "+
				"manifest --file FILE`, or docs/manifest.md)", row.StatusText())}
	}
	if err := verifyHash(row, true); err != nil {
		return nil, err
	}
	manifest, err := span.ParseManifest(row.Metadata)
	if err != nil {
		return nil, fmt.Errorf("parse the manifest: %w", err)
	}
	document, err := manifestJSON(manifest, row.Metadata)
	if err != nil {
		return nil, err
	}
	return &governed{
		Manifest: manifest,
		key:      row.Key(),
		lazy:     map[string]json.RawMessage{"manifest": document},
	}, nil
}

// manifestJSON is the document with the defaults that kernels read filled in.
func manifestJSON(m *span.Manifest, raw json.RawMessage) (json.RawMessage, error) {
	document := map[string]any{}
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, fmt.Errorf("decode the manifest: %w", err)
	}
	delete(document, "triggers") // the engine's business; leaves every run with less to parse
	grants := map[string][]string{}
	for holder, list := range m.Grants {
		for _, grant := range list {
			grants[holder] = append(grants[holder], grant.String())
		}
	}
	document["version"], document["kernels"], document["grants"] = m.Version, m.Kernels, grants
	document["callable"] = append([]string{}, m.Callable...)
	document["policy"] = map[string]int{"slow_ms": m.Policy.SlowMs, "timeout_ms": m.Policy.TimeoutMs,
		"circuit_breaker_threshold": m.Policy.CircuitBreakerThreshold}
	document["throttle"] = map[string]int{
		"per_tenant_daily_exec_limit": m.Throttle.PerTenantDailyExecLimit,
		"per_user_daily_exec_limit":   m.Throttle.PerUserDailyExecLimit}
	encoded, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return encoded, nil
}

// names reports whether id is a kernel of the manifest.
func (g *governed) names(id span.ID) bool {
	for _, kernel := range g.Kernels {
		if kernel == id {
			return true
		}
	}
	return false
}

// kernel returns the version of a kernel in force, verified. A refusal is a *span.RunError.
func (s *Stage0) kernel(ctx context.Context, manifest *governed, name string) (*kernel, error) {
	id, known := manifest.Kernels[name]
	if !known {
		return nil, &span.RunError{Code: span.RunNotFound, Message: "the manifest names no kernel " + name}
	}
	s.mu.Lock()
	found, drops := s.kernels[id], s.drops
	s.mu.Unlock()
	if found == nil {
		row, refusal, err := s.pick(ctx, manifest, name, id)
		if err != nil {
			return nil, fmt.Errorf("load kernel %s: %w", name, err)
		}
		found = &kernel{name: name, span: row, err: refusal}
		if refusal == nil {
			found.err = s.verifyKernel(manifest, id, row)
		}
		found.isForMany = found.err == nil && overMany.MatchString(*row.Code)
		s.mu.Lock()
		// What was read or judged before a change must not outlive it.
		if s.drops == drops && s.manifest.Load() == manifest {
			s.kernels[id] = found
		}
		s.mu.Unlock()
	}
	if found.err != nil {
		return nil, found.err
	}
	return found, nil
}

// pick reads the version of a kernel in force: the pinned one, or the newest whose time has come. Where
// the newest is revoked, a pin does not save it.
func (s *Stage0) pick(ctx context.Context, manifest *governed, name string,
	id span.ID) (*span.Span, *span.RunError, error) {
	hours := manifest.Timelocks[name]
	// Before the one in force is read, so that none falls between the two.
	next, err := s.config.Ledger.NextInForce(ctx, id, hours)
	if err != nil {
		return nil, nil, err
	}
	s.noteNext(next)
	row, err := s.config.Ledger.InForce(ctx, id, hours)
	seq, isPinned := manifest.Pins[name]
	if err != nil || !isPinned || row != nil && row.StatusText() == "revoked" {
		return row, nil, err
	}
	found, err := s.config.Ledger.Load(ctx, []span.Key{{ID: id, Seq: seq}})
	if err != nil {
		return nil, nil, err
	}
	row = found[span.Key{ID: id, Seq: seq}]
	switch {
	case row == nil:
		return nil, refuse(span.RunNotFound, "the manifest pins %s to version %d, which the ledger has not", name,
			seq), nil
	case row.EffectiveAt != nil && row.EffectiveAt.After(s.now()):
		return row, refuse(span.RunNotEffective,
			"version %d of kernel %s, which the manifest pins, takes force at %s", seq, name, row.EffectiveAt), nil
	}
	return row, nil, nil
}

// incident records a fault of the system's own documents, once for each version, and reports whether it
// is in the ledger. It is best effort: the fault itself is returned or logged by the caller.
func (s *Stage0) incident(ctx context.Context, cause *span.Span, what string, fault error) bool {
	incident, err := s.systemSpan(cause, "incident", what)
	if err == nil {
		incident.Status = new("open")
		incident.Error, err = json.Marshal(
			map[string]string{"code": "malformed", "message": clip(fault.Error(), 4000)})
	}
	if err == nil {
		err = s.appendOwn(ctx, incident)
	}
	if err != nil {
		s.config.Log.Error("incident not recorded", "what", what, "error", err)
	}
	return err == nil
}

// appendOwn appends one span of Stage-0's own; where it is there already, it stays as it is.
func (s *Stage0) appendOwn(ctx context.Context, row *span.Span) error {
	if err := s.config.Signer.Seal(row, nil); err != nil {
		return err
	}
	outcomes, err := s.config.Ledger.Append(ctx, []ledger.Group{{Rows: []*span.Span{row}}})
	if err != nil {
		return err
	}
	return outcomes[0].Err
}
