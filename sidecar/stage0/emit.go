package stage0

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// spansSpare is what a kernel may append for a cause besides: where limits.spans is 0, it still says what
// became of the run.
const spansSpare = 10

// insertSpan completes a partial span and keeps it until the run ends well.
func (inv *invocation) insertSpan(ctx context.Context, raw, rawOrigin json.RawMessage) (*span.Span, error) {
	from, cause, err := inv.originOf(rawOrigin)
	if err != nil {
		return nil, err
	}
	draftSpan, err := readPartial(raw)
	if err != nil {
		return nil, err
	}
	if from.Policy != nil {
		return inv.act(ctx, draftSpan, cause, from.Policy.key(), from.Discard)
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	group := inv.group(cause.Key())
	if group.isEmitted {
		return nil, denied("insertSpan: %s has its next version: append before it is made", cause.ID)
	}
	var alias span.ID
	issued, ofFunction := group.issued[draftSpan.ID]
	if !ofFunction {
		if alias, err = inv.takeAlias(draftSpan, raw); err != nil {
			return nil, err
		}
	}
	if !ofFunction && !inv.manifest.Allows(inv.kernel.name, span.ActionInsert, draftSpan.EntityType) {
		return nil, notGranted(inv.kernel.name, span.ActionInsert, draftSpan.EntityType)
	}
	if most := 2*inv.manifest.Limits.Spans + spansSpare; len(group.rows) >= most {
		return nil, &sandbox.HostError{Code: string(span.RunLimitSpans),
			Message: fmt.Sprintf("more than %d spans for one cause", most)}
	}
	if inv.isAnothers(draftSpan, cause) {
		return draftSpan, nil
	}
	if ofFunction {
		delete(group.issued, draftSpan.ID)
		draftSpan = issued // as it was emitted: a kernel inserts or drops it, and changes nothing
	} else if err := inv.derive(draftSpan, cause, group); err != nil {
		return nil, err
	}
	inv.keepAlias(alias, draftSpan.ID)
	group.rows = append(group.rows, draftSpan)
	group.policies = append(group.policies, span.Key{})
	return draftSpan, nil
}

// group returns the draft of a cause. The caller holds inv.mu.
func (inv *invocation) group(cause span.Key) *draft {
	group := inv.groups[cause]
	if group == nil {
		group = &draft{ordinal: map[span.Key]int{}, issued: map[span.ID]*span.Span{},
			buckets: map[bucketKey]bool{}, judges: map[span.Key]*span.Span{}, loops: map[span.Key]bool{}}
		inv.groups[cause] = group
	}
	return group
}

// discard takes back what a policy version has inserted for this cause: the report of its failure stands at
// the fence then. For a tick, where some is inserted again, the ordinal goes on, so that no id is used twice.
func (d *draft) discard(policy span.Key, isTick bool) {
	if !isTick {
		delete(d.ordinal, policy)
	}
	for i := len(d.rows) - 1; i >= 0; i-- {
		if d.policies[i] == policy {
			d.rows = slices.Delete(d.rows, i, i+1)
			d.policies = slices.Delete(d.policies, i, i+1)
		}
	}
}

// derive gives a kernel's span its id and completes it (docs/contract.md §1).
func (inv *invocation) derive(s, cause *span.Span, group *draft) error {
	at := acceptedAt(cause)
	who := "kernel:" + inv.kernel.name
	step := int64(cause.Seq)
	if cause.Attempt != nil && cause.EntityType == "request" {
		step = int64(*cause.Attempt)
	}
	switch {
	case s.EntityType == "request" && isFunctionTick(cause):
		return inv.deriveTick(s, cause, who)
	case s.EntityType == "request" && cause.EntityType == "function":
		s.At = cause.At
		id := span.Derive("request", at, []span.ID{cause.ID}, int64(cause.Seq))
		return inv.complete(s, cause, "request", id, who)
	case isRecord(s) && cause.EntityType == "request":
		s.Attempt = cause.Attempt
		if group.quota != nil {
			s.At = span.NewTime(inv.stage0.now()) // by which the day's executions are found again
		}
		if err := group.audit(s, inv); err != nil {
			return err
		}
		// The call of a provider takes the place of the execution where the request asks for nothing else.
		if s.EntityType == "execution" || inv.isCalled(inv.kernel.name, cause) && !group.hasRecord {
			group.hasRecord = true
			return inv.complete(s, cause, "execution", executionID(cause), who)
		}
	}
	if s.EntityType == "policy_violation" && group.refused.isDaily() {
		return inv.violate(s, cause, group.refused, who)
	}
	ordinal := int64(group.ordinal[span.Key{}])
	group.ordinal[span.Key{}]++
	ordinal += int64(inv.nested[cause.Key()]) * nestedMax
	return inv.complete(s, cause, inv.kernel.name,
		span.Derive(inv.kernel.name, at, []span.ID{cause.ID}, step, ordinal), who)
}

// deriveTick makes the request of a function's tick. It has the tick's id: there is one, whoever makes it.
func (inv *invocation) deriveTick(s, cause *span.Span, who string) error {
	if s.ParentID == nil || *s.ParentID != *cause.ParentID {
		return denied("a tick of the function %s becomes a request of that function, or nothing", *cause.ParentID)
	}
	s.At = cause.At
	return inv.complete(s, cause, tickType, cause.ID, who)
}

// isRecord reports whether s says what ran.
func isRecord(s *span.Span) bool {
	return s.EntityType == "execution" || s.EntityType == "provider_execution"
}

// audit sets metadata.run from the host's own record, whatever the kernel wrote there.
func (d *draft) audit(s *span.Span, inv *invocation) error {
	record := runRecord{}
	if d.record != nil {
		record = *d.record
	}
	record.Kernels = inv.kernelRefs()
	record.count(d.quota)
	encoded, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode metadata.run: %w", err)
	}
	if s.Metadata, err = span.SetMember(s.Metadata, "run", encoded); err != nil {
		return denied("metadata must be an object")
	}
	return nil
}

// complete sets what no code decides, and counts the span against its root.
func (inv *invocation) complete(s, cause *span.Span, kind string, id span.ID, who string) error {
	// What a tick appends is bounded by its turns; what that triggers is counted.
	if !isTick(cause) && !isReport(s, kind) && !inv.stage0.roots.add(rootOf(cause)) {
		return denied("more than %d spans come from %s: %s", rootSpansMax, rootOf(cause), loopText)
	}
	return complete(s, cause, kind, id, who)
}

// isReport tells what says that something happened from what somebody wanted: it is not counted and may stand
// at any depth. What a policy appends is wanted whatever its type, but for the report of its failure.
func isReport(s *span.Span, kind string) bool {
	isActed := (kind == "policy" || kind == "bucket") && s.EntityType != "policy_error"
	return span.IsEngineType(s.EntityType) && !isActed
}

func rootOf(cause *span.Span) span.ID {
	if above, derived := cause.Engine(); derived {
		return above.Root
	}
	return cause.ID
}

// complete sets what no code decides: id, owner, tenant, visibility, who, at and metadata.engine.
func complete(s, cause *span.Span, kind string, id span.ID, who string) error {
	if (s.OwnerID != "" && s.OwnerID != cause.OwnerID) || (s.TenantID != "" && s.TenantID != cause.TenantID) {
		return denied("a span takes owner and tenant from its cause: leave owner_id and tenant_id out")
	}
	s.ID, s.Seq, s.Who, s.OwnerID, s.TenantID = id, 0, who, cause.OwnerID, cause.TenantID
	if wider(s.Visibility, cause.Visibility) || s.Visibility == "" {
		s.Visibility = cause.Visibility
	}
	if s.At.IsZero() {
		s.At = span.NewTime(time.Now())
	}
	if s.TraceID == nil {
		s.TraceID = cause.TraceID
	}
	meta := span.EngineMeta{Cause: cause.Key(), Root: cause.ID, Depth: 1, Kind: kind}
	if above, derived := cause.Engine(); derived {
		meta.Root, meta.Depth = above.Root, above.Depth+1
	}
	switch { // a tick stands in no ledger: whose it is caused what is made of it
	case isTick(cause):
		meta.Cause = span.Key{ID: *cause.PolicyID, Seq: cause.Seq}
	case isFunctionTick(cause):
		meta.Cause = span.Key{ID: *cause.ParentID, Seq: cause.Seq}
	}
	if meta.Depth > span.MaxDepth && !isReport(s, kind) {
		return denied("the chain of causes is %d deep, at most %d: %s", meta.Depth, span.MaxDepth, loopText)
	}
	var err error
	if s.Metadata, err = span.SetEngine(s.Metadata, meta); err != nil {
		return err
	}
	return s.Validate()
}

var widths = map[string]int{"private": 0, "tenant": 1, "public": 2}

func wider(visibility, than string) bool { return widths[visibility] > widths[than] }

func acceptedAt(cause *span.Span) time.Time {
	if cause.EntityType == "request" && cause.ID.Version() == 8 { // it may be committed with what it causes
		return cause.ID.Time()
	}
	if cause.AcceptedAt != nil {
		return cause.AcceptedAt.Time
	}
	return cause.At.Time
}

// version makes the next version of a request of the batch, or, on behalf of a policy, of a span that it may
// move on. Whoever commits a request's may still move its seq on, when a running mark came in between.
func (inv *invocation) version(ctx context.Context, rawID, raw, rawOrigin json.RawMessage) (
	*span.Span, error) {
	from, err := readOrigin(rawOrigin)
	if err != nil {
		return nil, err
	}
	id, isPlain := span.PlainID(rawID)
	if !isPlain && json.Unmarshal(rawID, &id) != nil {
		return nil, denied("version: want the id of a span")
	}
	if from.Policy != nil {
		cause, err := inv.causeOf(from.Cause)
		if err != nil {
			return nil, err
		}
		return inv.versionBy(ctx, id, raw, cause, from.Policy.key())
	}
	var cause *span.Span
	for _, key := range inv.order {
		if key.ID == id {
			cause = inv.causes[key]
		}
	}
	if cause == nil {
		return nil, denied("version: %s is not in the batch", id)
	}
	if !inv.manifest.Allows(inv.kernel.name, span.ActionVersion, cause.EntityType) {
		return nil, notGranted(inv.kernel.name, span.ActionVersion, cause.EntityType)
	}
	if cause.EntityType != "request" {
		return nil, denied("version: only requests can be moved on by this version of LogLineOS")
	}
	changes, err := readPartial(raw)
	if err != nil {
		return nil, err
	}
	if inv.isForMany() && inv.isBroken.Load() {
		return nil, denied("version: what this run appended was refused; %s is run again, alone", id)
	}
	next := cause.NextRequest("kernel:"+inv.kernel.name, changes.StatusText())
	if changes.ScheduledAt != nil {
		next.ScheduledAt = changes.ScheduledAt
	}
	next.Did, next.Reason, next.Error = changes.Did, changes.Reason, changes.Error
	if err := next.Validate(); err != nil {
		return nil, err
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	group := inv.group(cause.Key())
	if group.fence != nil {
		return nil, denied("version: %s has its next version already", id)
	}
	group.fence = next
	if !inv.isForMany() {
		return next, nil
	}
	answer := *next
	inv.emitOne(cause.Key(), group) // whoever is slower holds up nobody
	return &answer, nil
}

// emitAll hashes what the run appended and hands it on, a group per cause.
func (inv *invocation) emitAll() {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	for _, key := range inv.order {
		group := inv.groups[key]
		if group == nil || group.isEmitted || (group.fence == nil && len(group.rows) == 0 && !group.again) {
			continue
		}
		if inv.parent != nil && group.fence == nil {
			inv.parent.adopt(key, group)
			continue
		}
		inv.emitOne(key, group)
	}
}

// emitOne hands a complete group on. The caller holds inv.mu.
func (inv *invocation) emitOne(cause span.Key, group *draft) {
	group.isEmitted = true
	sealed := ledger.Group{Fence: group.fence, Rows: group.rows, Again: group.again}
	if of := inv.causes[cause]; !isTick(of) {
		sealed.Rows, sealed.Parts = inv.parts(group, of)
	}
	if err := sealed.Seal(inv.stage0.config.Signer.Seal); err != nil {
		inv.emit(cause, ledger.Group{}, refuse(span.RunNotSerializable, "%s", err.Error()))
		return
	}
	inv.emit(cause, sealed, nil)
}

// adopt takes over what a nested kernel appended that did not end the request.
func (inv *invocation) adopt(cause span.Key, nested *draft) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	group := inv.group(cause)
	group.rows = append(group.rows, nested.rows...)
	group.policies = append(group.policies, nested.policies...)
}

// Failure is the group that ends a request without a kernel: Stage-0 refused run_code, or the ledger
// refused what it appended. One execution, one terminal version.
func (s *Stage0) Failure(request *span.Span, failure *span.RunError) (ledger.Group, error) {
	who := "sidecar:" + s.config.Node
	shown := *failure
	shown.Message = clip(strings.ToValidUTF8(strings.ReplaceAll(failure.Message, "\x00", ""), ""), 4000)
	encoded, err := json.Marshal(shown)
	if err != nil {
		return ledger.Group{}, fmt.Errorf("encode the error: %w", err)
	}
	execution := &span.Span{
		EntityType: "execution",
		Did:        new("refused"),
		This:       new("run_code"),
		Status:     new("error"),
		ParentID:   request.ParentID,
		RelatedTo:  []span.ID{request.ID},
		Error:      encoded,
		Attempt:    request.Attempt,
	}
	if held := s.quotas.held(request.ID); held != nil { // it ran, or may have
		record := runRecord{Kernels: []kernelRef{}}
		record.count(held)
		if execution.Metadata, err = json.Marshal(map[string]any{"run": record}); err != nil {
			return ledger.Group{}, fmt.Errorf("encode metadata: %w", err)
		}
	}
	if err := complete(execution, request, "execution", executionID(request), who); err != nil {
		return ledger.Group{}, err
	}
	fence := request.NextRequest(who, "error")
	fence.Did = new("refused")
	group := ledger.Group{Fence: fence, Rows: []*span.Span{execution}}
	return group, group.Seal(s.config.Signer.Seal)
}

// readPartial reads a partial span in one pass. Null is absent; what the database or the host owns is
// dropped.
func readPartial(raw json.RawMessage) (*span.Span, error) {
	if len(raw) == 0 || raw[0] != '{' {
		return nil, denied("want a span: an object of columns")
	}
	var s span.Span
	if !s.ReadPlain(raw) {
		var err error
		if s, err = readAnyPartial(raw); err != nil {
			return nil, err
		}
	}
	s.Seq, s.AcceptedAt, s.Xact = 0, nil, nil
	s.PrevHash, s.CurrHash, s.Signature, s.PublicKey, s.SigAlg, s.SigKeyID = nil, nil, nil, nil, nil, nil
	for _, value := range []*json.RawMessage{&s.Links, &s.Content, &s.Input, &s.Output, &s.Error, &s.Metadata} {
		*value = present(*value)
	}
	return &s, nil
}

// readAnyPartial is readPartial for whatever encoding/json reads.
func readAnyPartial(raw json.RawMessage) (span.Span, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	var stated struct {
		span.Span
		When *span.Time `json:"when"` // at, as the views call it
	}
	if err := decoder.Decode(&stated); err != nil {
		return stated.Span, denied("this is no span: %s; what is no column belongs into metadata", err)
	}
	if stated.When != nil {
		if !stated.At.IsZero() && !stated.At.Equal(stated.When.Time) {
			return stated.Span, denied("when and at are two names of one time: state one of them")
		}
		stated.At = *stated.When
	}
	return stated.Span, nil
}

// originOf reads on whose behalf a call is, and returns that cause.
func (inv *invocation) originOf(raw json.RawMessage) (origin, *span.Span, error) {
	from, err := readOrigin(raw)
	if err != nil {
		return from, nil, err
	}
	cause, err := inv.causeOf(from.Cause)
	return from, cause, err
}

func readOrigin(raw json.RawMessage) (origin, error) {
	var from origin
	if raw == nil || from.readPlain(raw) {
		return from, nil
	}
	from = origin{}
	if err := json.Unmarshal(raw, &from); err != nil {
		return from, denied("the origin must be {cause: {id, seq}, policy: {id, seq}}")
	}
	return from, nil
}
