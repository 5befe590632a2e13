package stage0

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// act carries out emit_span and run: it completes a span on behalf of a policy, which the router matched with
// cause. report says that the kernel reports the policy's failure, and takes back what it did before.
//
// A tenant's policy acts in its own owner's name, or whoever shares a span would lend his name and his rights
// to every policy that reads it (docs/policies.md).
func (inv *invocation) act(ctx context.Context, s, cause *span.Span, key span.Key, report bool) (
	*span.Span, error) {
	policy, err := inv.policyOf(ctx, key, cause)
	if err != nil {
		return nil, err
	}
	behalf := behalfOf(cause, policy, s.EntityType)
	if s.EntityType == "request" {
		if err = inv.settleRequest(ctx, s, cause, behalf, policy); err != nil {
			return nil, err
		}
	}
	if err := mayEmit(s, policy, report); err != nil {
		return nil, err
	}
	if err := inv.recallRoot(ctx, cause); err != nil {
		return nil, err
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	group := inv.group(cause.Key())
	if report {
		group.discard(key, isTick(cause))
		group.again = false
		inv.stage0.breaker.failed(judgeOf(policy, cause))
	}
	if !inv.manifest.Allows(inv.kernel.name, span.ActionInsert, s.EntityType) {
		return nil, notGranted(inv.kernel.name, span.ActionInsert, s.EntityType)
	}
	if err := inv.room(group, key); err != nil {
		return nil, err
	}
	s.PolicyID = &policy.ID
	if report && group.loops[key] {
		if err := violateLoop(s, cause, behalf, whoOf(policy)); err != nil {
			return nil, err
		}
		return s, group.add(s, policy)
	}
	if s.ID.IsZero() {
		err = inv.complete(s, behalf, "policy", group.policyID(s, cause, key), whoOf(policy))
	} else {
		if !group.buckets[bucketKey{policy.ID, s.ID}] {
			return nil, denied("emit_span: the host derives the id: leave it out, or state one of ctx.bucket")
		}
		var isThere bool
		if s, isThere, err = inv.fill(ctx, s, behalf, whoOf(policy)); isThere && err == nil {
			return s, nil
		}
	}
	if err != nil {
		group.loops[key] = group.loops[key] || isLoop(err)
		return nil, err
	}
	return s, group.add(s, policy)
}

// policyOf returns the version of a policy that the router matched with cause.
func (inv *invocation) policyOf(ctx context.Context, key span.Key, cause *span.Span) (*span.Span, error) {
	if !inv.matched[[2]span.Key{key, cause.Key()}] {
		return nil, denied("policy %s version %d was not matched with %s", key.ID, key.Seq, cause.ID)
	}
	found, err := inv.stage0.versions.load(ctx, []span.Key{key}, false)
	if err != nil {
		return nil, err
	}
	if found[0] == nil || found[0].EntityType != "policy" {
		return nil, denied("%s version %d is no policy", key.ID, key.Seq)
	}
	return found[0], nil
}

// mayEmit decides which types a policy may append. What the engine keeps books of is the system's.
func mayEmit(s, policy *span.Span, report bool) error {
	switch {
	case span.IsGoverning(s.EntityType):
		return denied("a policy may not append a %s: it would act as the owner of what triggered it",
			s.EntityType)
	case report != (s.EntityType == "policy_error"):
		return denied("a policy may not append a policy_error: throw instead")
	case s.EntityType == "request" || report:
		return nil
	case span.IsEngineType(s.EntityType) && !isOfSystem(policy):
		return denied("a tenant's policy may not append a %s", s.EntityType)
	}
	return nil
}

// room refuses one span more than limits.spans of one policy for one cause. The caller holds inv.mu.
func (inv *invocation) room(group *draft, policy span.Key) error {
	count := 0
	for _, of := range group.policies {
		if of == policy {
			count++
		}
	}
	if most := inv.manifest.Limits.Spans; count >= most {
		return &sandbox.HostError{Code: string(span.RunLimitSpans),
			Message: fmt.Sprintf("more than %d actions for one span", most)}
	}
	return nil
}

// policyID derives the id of what a policy emits. Of a tick, the report of a failure stands beside what is
// kept. The caller holds inv.mu.
func (d *draft) policyID(s, cause *span.Span, policy span.Key) span.ID {
	if isTick(cause) && s.EntityType == "policy_error" {
		return span.Derive("policy_error", acceptedAt(cause), []span.ID{policy.ID, cause.ID}, int64(policy.Seq),
			int64(cause.Seq))
	}
	ordinal := d.ordinal[policy]
	d.ordinal[policy]++
	return span.Emission(policy.ID, cause.Key(), acceptedAt(cause), ordinal)
}

// add keeps a span that a policy has appended. The caller holds inv.mu.
func (d *draft) add(s, policy *span.Span) error {
	key := policy.Key()
	for i, row := range d.rows {
		if row.ID == s.ID && d.policies[i] == key { // of others' versions the key decides
			return denied("%s has its next version already in this run", s.ID)
		}
	}
	d.rows, d.policies = append(d.rows, s), append(d.policies, key)
	d.judges[key] = policy
	return nil
}

// whoOf is who acts: a policy of the system by its name, any other by its id.
func whoOf(policy *span.Span) string {
	if isOfSystem(policy) && policy.Name != nil {
		return "policy:" + *policy.Name
	}
	return "policy:" + policy.ID.String()
}

// behalfOf returns the span on whose behalf a policy acts: the cause where the policy is its owner's or the
// system's, else the cause as if it were the policy's owner's. Others see what a stranger's policy emits
// where they see the cause, but neither his runs nor his failures.
func behalfOf(cause, policy *span.Span, entityType string) *span.Span {
	if isOfSystem(policy) || sameOwner(policy, cause) {
		return cause
	}
	own := *cause
	own.OwnerID, own.TenantID = policy.OwnerID, policy.TenantID
	if entityType == "request" || entityType == "policy_error" {
		own.Visibility = "private"
	}
	return &own
}

// settleRequest makes s the request of a function that may be called by the policy's owner, and by behalf's.
func (inv *invocation) settleRequest(ctx context.Context, s, cause, behalf, policy *span.Span) error {
	if s.ParentID == nil {
		return denied("run: state span_id, the id of a function")
	}
	function, err := inv.current(ctx, *s.ParentID)
	if err != nil {
		return err
	}
	if function == nil || function.EntityType != "function" || function.IsDeleted ||
		inv.manifest.names(function.ID) ||
		function.StatusText() == "archived" || function.StatusText() == "revoked" ||
		!readable(function, policy.OwnerID, policy.TenantID) ||
		!readable(function, behalf.OwnerID, behalf.TenantID) {
		return refuse(span.RunNotFound, "run: there is no function %s that the policy may call", *s.ParentID)
	}
	*s = span.Span{
		EntityType: "request", Did: new("triggered"), This: new("run_code"), Status: new("scheduled"),
		At: span.NewTime(acceptedAt(cause)), ParentID: s.ParentID,
		RelatedTo: []span.ID{policy.ID, function.ID}, TraceID: cause.TraceID, Input: s.Input,
	}
	s.Metadata, err = json.Marshal(map[string]any{
		"policy_id": policy.ID, "trigger_span": cause.Key(),
		"function": map[string]any{"id": function.ID, "seq": function.Seq},
	})
	if err != nil {
		return fmt.Errorf("encode the request: %w", err)
	}
	return nil
}

// fill completes the span of a bucket: seq 0, or the next version where the content differs. Where it is
// equal, or the type has one version only, it returns the one that is there, and true.
func (inv *invocation) fill(ctx context.Context, s, cause *span.Span, who string) (*span.Span, bool, error) {
	found, err := inv.stage0.config.Ledger.Latest(ctx, []span.ID{s.ID})
	if err != nil {
		return nil, false, err
	}
	current := found[s.ID]
	if err := inv.complete(s, cause, "bucket", s.ID, who); err != nil || current == nil {
		return s, false, err
	}
	switch {
	case current.EntityType != s.EntityType || !sameOwner(current, s):
		return nil, false, denied("the bucket %s is a %s: state that entity_type", s.ID, current.EntityType)
	case span.HasOneVersion(s.EntityType) || sameContent(current, s):
		return current, true, nil
	}
	s.Seq, s.PrevHash = current.Seq+1, current.CurrHash
	return s, false, s.Validate()
}

// versionBy carries out version: the next version of a span, by a policy. A tenant's policy moves on what its
// owner owns; one of the system what stands in the tenant, in nothing but its life.
func (inv *invocation) versionBy(ctx context.Context, id span.ID, raw json.RawMessage, cause *span.Span,
	key span.Key) (*span.Span, error) {
	policy, err := inv.policyOf(ctx, key, cause)
	if err != nil {
		return nil, err
	}
	found, err := inv.stage0.config.Ledger.Latest(ctx, []span.ID{id})
	if err != nil {
		return nil, err
	}
	current := found[id]
	isOwn := current != nil && sameOwner(current, policy)
	if isOfSystem(policy) {
		isOwn = current != nil && current.TenantID == cause.TenantID &&
			(!isTick(cause) || cause.Visibility != "private" || current.OwnerID == cause.OwnerID)
	}
	if !isOwn { // the same for what is not there: a stranger learns nothing
		return nil, refuse(span.RunNotFound, "version: there is no span %s that this policy may move on", id)
	}
	if !inv.manifest.Allows(inv.kernel.name, span.ActionVersion, current.EntityType) {
		return nil, notGranted(inv.kernel.name, span.ActionVersion, current.EntityType)
	}
	next, err := inv.change(current, raw, cause, policy)
	if err != nil {
		inv.mu.Lock()
		defer inv.mu.Unlock()
		group := inv.group(cause.Key())
		group.loops[key] = group.loops[key] || isLoop(err)
		return nil, err
	}
	if sameContent(current, next) || sameJudgment(current, next) {
		return current, nil
	}
	may, err := inv.stage0.config.Ledger.MayFollow(ctx, current, next)
	if err != nil {
		return nil, err
	}
	if !may {
		return nil, denied("version: the status %q of a %s may not become %q", current.StatusText(),
			current.EntityType, next.StatusText())
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	group := inv.group(cause.Key())
	if err := inv.room(group, key); err != nil {
		return nil, err
	}
	return next, group.add(next, policy)
}

// again carries out {again: true}: a time-driven policy that has more to do than one turn may is judged once
// more for its tick.
func (inv *invocation) again(rawOrigin json.RawMessage) (map[string]span.ID, error) {
	_, cause, err := inv.originOf(rawOrigin)
	if err != nil {
		return nil, err
	}
	if !isTick(cause) {
		return nil, denied("again: only a time-driven policy has more than one turn")
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	inv.group(cause.Key()).again = true
	return map[string]span.ID{"id": cause.ID}, nil
}

// lifeColumns is what a policy of the system may change in a tenant's span.
var lifeColumns = []string{"status", "reason", "is_deleted", "ttl_at", "did"}

// closedColumns is what no policy may change: identity, and what the host and the database set.
var closedColumns = []string{
	"id", "seq", "entity_type", "who", "at", "owner_id", "tenant_id", "visibility", "accepted_at", "xact",
	"policy_id", "attempt", "idempotency_key", "prev_hash", "curr_hash", "signature", "public_key", "sig_alg",
	"sig_key_id",
}

// change lays the changes of raw over current.
func (inv *invocation) change(current *span.Span, raw json.RawMessage, cause, policy *span.Span) (
	*span.Span, error) {
	isPrompt := strings.HasPrefix(current.EntityType, "prompt_")
	if current.EntityType == "request" || span.HasOneVersion(current.EntityType) ||
		span.IsGoverning(current.EntityType) && !isPrompt {
		return nil, denied("version: a policy may not move a %s on", current.EntityType)
	}
	if err := mayChange(raw, isPrompt || isOfSystem(policy)); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(current)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", current.ID, err)
	}
	next, err := readPartial(encoded) // a copy: what follows writes through its pointers
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(next); err != nil {
		return nil, denied("version: this is no span: %s; what is no column belongs into metadata", err)
	}
	for _, value := range []*json.RawMessage{&next.Links, &next.Content, &next.Input, &next.Output, &next.Error,
		&next.Metadata} {
		*value = present(*value)
	}
	next.At, next.Attempt, next.PolicyID = span.Time{}, nil, &policy.ID
	bodies := *next
	isUnhashed := current.CurrHash == nil && isOfSystem(policy)
	if isUnhashed { // what its client wrote need have no canonical form; it is carried on as it stands
		next.Links, next.Content, next.Input, next.Output, next.Error, next.Metadata = nil, nil, nil, nil, nil, nil
	}
	if err := inv.complete(next, asOwned(cause, current), "policy", current.ID, whoOf(policy)); err != nil {
		return nil, err
	}
	next.Seq, next.PrevHash = current.Seq+1, current.CurrHash
	if !isUnhashed {
		return next, next.Validate()
	}
	meta, _ := next.Engine()
	next.Links, next.Content, next.Input = bodies.Links, bodies.Content, bodies.Input
	next.Output, next.Error = bodies.Output, bodies.Error
	next.Metadata, err = span.SetEngine(bodies.Metadata, *meta)
	return next, err
}

// mayChange refuses changes of columns that are not a policy's to change.
func mayChange(raw json.RawMessage, isLife bool) error {
	var stated map[string]json.RawMessage
	if err := json.Unmarshal(raw, &stated); err != nil || stated == nil {
		return denied("version: want an object of columns")
	}
	for name := range stated {
		switch {
		case slices.Contains(closedColumns, name):
			return denied("version: %s is not a policy's to change", name)
		case isLife && !slices.Contains(lifeColumns, name):
			return denied("version: here a policy may change %s, not %.40q", strings.Join(lifeColumns, ", "), name)
		}
	}
	return nil
}

// sameJudgment reports whether current was made by the judgment that makes next: it is told again.
func sameJudgment(current, next *span.Span) bool {
	made, derived := current.Engine()
	wanted, _ := next.Engine()
	return derived && current.PolicyID != nil && *current.PolicyID == *next.PolicyID &&
		made.Cause == wanted.Cause && made.Root == wanted.Root
}

// asOwned is cause as if it had the owner, tenant and visibility of s.
func asOwned(cause, s *span.Span) *span.Span {
	copied := *cause
	copied.OwnerID, copied.TenantID, copied.Visibility = s.OwnerID, s.TenantID, s.Visibility
	return &copied
}

// isTick reports whether a cause is no span of the ledger, but the time of a policy.
func isTick(cause *span.Span) bool {
	return cause.EntityType == tickType && cause.Xact == nil && cause.PolicyID != nil
}

// isFunctionTick reports whether a cause is no span of the ledger, but a time of a function's schedule.
func isFunctionTick(cause *span.Span) bool {
	return cause.EntityType == tickType && cause.Xact == nil && cause.PolicyID == nil && cause.ParentID != nil
}

// sameContent compares two versions in all that their author states: not who, at, trace and engine's marks.
func sameContent(a, b *span.Span) bool {
	first, err := contentOf(a)
	second, fault := contentOf(b)
	return err == nil && fault == nil && bytes.Equal(first, second)
}

func contentOf(s *span.Span) ([]byte, error) {
	copied := *s
	copied.Seq, copied.Who, copied.At, copied.TraceID, copied.PolicyID = 0, "", span.Time{}, nil, nil
	copied.AcceptedAt, copied.Xact, copied.PrevHash, copied.CurrHash = nil, nil, nil, nil
	copied.Signature, copied.PublicKey, copied.SigAlg, copied.SigKeyID = nil, nil, nil, nil
	for _, number := range []**span.Decimal{&copied.Value, &copied.Confidence, &copied.Cost} {
		if *number != nil {
			normal, err := (*number).Normal()
			if err != nil {
				return nil, fmt.Errorf("compare a decimal: %w", err)
			}
			*number = &normal
		}
	}
	encoded, err := json.Marshal(&copied)
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", s.ID, err)
	}
	var members map[string]any
	if err := json.Unmarshal(encoded, &members); err != nil {
		return nil, fmt.Errorf("compare %s: %w", s.ID, err)
	}
	if metadata, ok := members["metadata"].(map[string]any); ok {
		delete(metadata, "engine")
		if len(metadata) == 0 {
			delete(members, "metadata")
		}
	}
	return json.Marshal(members)
}
