package app

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/loglineos/loglineos/sidecar/engine"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/stage0"
)

// PolicyTry is a policy that is to be shown past spans, or, where it goes by time, the ticks that were due,
// without anything being written.
type PolicyTry struct {
	File      *FunctionFile
	When      json.RawMessage // nil: that of the policy of this name, else every span
	Metadata  json.RawMessage // nil: that of the policy of this name, with When
	Since     time.Duration
	Judged    int // how many spans, or ticks of one subject, it is shown at most
	Errors    int // after how many failures it ends
	TrustRoot string
	Signer    *sign.Key // nil: it is not signed
	// Tell is called after each page of spans, and each tick, with how many were read and how many it was
	// shown.
	Tell func(read, shown int)
}

// PolicyTried is what it did with one span, or one tick of one subject, which Span stands for then.
type PolicyTried struct {
	Span  *span.Span
	Tick  json.RawMessage // its ctx.input.tick; nil where it is a span
	Emits []*span.Span
	Err   *span.RunError
	Again bool // it asks for one more turn, which is not made: nothing of this one is there for it
}

// PolicySummary is how a try went.
type PolicySummary struct {
	IsTimed bool   `json:"-"`               // the policy goes by time
	Ticks   int    `json:"ticks,omitempty"` // boundaries of the time, of a policy that goes by time
	Read    int    `json:"read"`            // spans of the time that could concern it, or subjects of the ticks
	Shown   int    `json:"shown"`           // that it was shown
	Emitted int    `json:"emits"`           // spans that it would append
	Errors  int    `json:"errors"`          // spans for which it failed
	Stopped string `json:"stopped,omitempty"`
}

// policyBatch is how many spans one run of the kernel is given.
const policyBatch = 20

// TryPolicy shows the spans that actor may read, the oldest first, to his policy as if it had been in
// force, and hands each what it would have done. It reads in sessions that cannot write. What one span
// would have brought about is not there for the next.
func TryPolicy(ctx context.Context, databaseURL string, owner *ledger.Owner, actor ledger.Actor,
	try PolicyTry, each func(PolicyTried) error) (*PolicySummary, error) {
	policy, err := try.draft(ctx, owner, actor)
	if err != nil {
		return nil, err
	}
	judge, err := engine.NewJudge(policy)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	reader, err := ledger.OpenReader(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	pool, err := sandbox.New(sandbox.Options{Workers: 1})
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	defer pool.Close()
	s := stage0.New(stage0.Config{Ledger: reader, Pool: pool, Node: "try", TrustRoot: try.TrustRoot,
		Log: slog.New(slog.DiscardHandler)})
	if err := s.Reload(ctx); err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	run := &policyRun{try: try, judge: judge, policy: policy, stage0: s, each: each}
	if run.sum.IsTimed = judge.IsTimed(); run.sum.IsTimed {
		return &run.sum, run.ticks(ctx, reader)
	}
	filter := ledger.RowFilter{Types: judge.Types(), Statuses: judge.Statuses(), Since: try.Since}
	if !actor.IsOwner {
		filter.Tenant = actor.Tenant
	}
	for past := (ledger.Past{}); ; {
		var page []*span.Span
		err := owner.Look(ctx, actor, func(user *ledger.User) (err error) {
			page, past, err = user.Past(ctx, filter, past)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := run.page(ctx, page); err != nil || run.sum.Stopped != "" || past.IsOver() {
			return &run.sum, err
		}
	}
}

// draft is the policy as it would be published: the next version of actor's policy of that name, or a first
// one.
func (try *PolicyTry) draft(ctx context.Context, owner *ledger.Owner, actor ledger.Actor) (
	*span.Span, error) {
	now := span.NewTime(time.Now())
	policy := &span.Span{EntityType: "policy", Who: "user:" + actor.User, At: now, AcceptedAt: &now,
		OwnerID: actor.User, TenantID: actor.Tenant, Visibility: "private", Status: new("active"),
		Name: &try.File.Name, Code: &try.File.Source, Language: &try.File.Language}
	if actor.IsOwner {
		policy.OwnerID, policy.TenantID, policy.Visibility = "system", "system", "public"
	}
	rand.Read(policy.ID[:]) // never fails: crypto/rand
	policy.ID[6], policy.ID[8] = policy.ID[6]&0x0f|0x40, policy.ID[8]&0x3f|0x80
	err := owner.Look(ctx, actor, func(user *ledger.User) error {
		found, err := user.Named(ctx, "policy", try.File.Name)
		for _, current := range found {
			if current.OwnerID == policy.OwnerID && current.TenantID == policy.TenantID {
				policy.ID, policy.Seq, policy.Metadata = current.ID, current.Seq+1, current.Metadata
				policy.Visibility, policy.PrevHash = current.Visibility, current.CurrHash
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if try.Metadata != nil {
		policy.Metadata = try.Metadata
	}
	if policy.Metadata != nil {
		if policy.Metadata, err = withoutEngine(policy.Metadata); err != nil {
			return nil, err
		}
	}
	if try.When != nil {
		if policy.Metadata, err = span.SetMember(policy.Metadata, "when", try.When); err != nil {
			return nil, fmt.Errorf("state when: %w", err)
		}
	}
	if try.Signer != nil {
		if err := sign.NewSigner(try.Signer).Seal(policy, policy.PrevHash); err != nil {
			return nil, fmt.Errorf("sign the policy: %w", err)
		}
	}
	return policy, nil
}

// policyRun is one try under way.
type policyRun struct {
	try    PolicyTry
	judge  *engine.Judge
	policy *span.Span
	stage0 *stage0.Stage0
	each   func(PolicyTried) error
	sum    PolicySummary
}

// page shows the policy what concerns it of a page.
func (r *policyRun) page(ctx context.Context, page []*span.Span) error {
	r.sum.Read += len(page)
	var batch []*span.Span
	for i, s := range page {
		if r.judge.Sees(s) {
			batch = append(batch, s)
		}
		if len(batch) == policyBatch || i == len(page)-1 {
			if err := r.show(ctx, batch); err != nil || r.sum.Stopped != "" {
				return err
			}
			batch = nil
		}
	}
	if r.try.Tell != nil {
		r.try.Tell(r.sum.Read, r.sum.Shown)
	}
	return nil
}

func (r *policyRun) show(ctx context.Context, batch []*span.Span) error {
	if left := r.try.Judged - r.sum.Shown; len(batch) > left {
		batch = batch[:left]
		r.sum.Stopped = fmt.Sprintf("after %d spans (--limit)", r.try.Judged)
	}
	if len(batch) == 0 {
		return nil
	}
	done, err := r.stage0.Rehearse(ctx, r.policy, batch)
	if err != nil {
		return err
	}
	for _, s := range batch {
		result := done[s.Key()]
		err := r.tried(PolicyTried{Span: s, Emits: result.Rows, Err: result.Err})
		if err != nil || r.hasFailed() {
			return err
		}
	}
	return nil
}

// tried counts one and hands it on.
func (r *policyRun) tried(one PolicyTried) error {
	r.sum.Shown++
	r.sum.Emitted += len(one.Emits)
	if one.Err != nil {
		r.sum.Errors++
	}
	if r.hasFailed() {
		r.sum.Stopped = fmt.Sprintf("after %d errors (--errors)", r.try.Errors)
	}
	return r.each(one)
}

// hasFailed reports whether it has failed so often that it ends.
func (r *policyRun) hasFailed() bool { return r.sum.Errors >= r.try.Errors }

// ticks shows the policy the ticks that were due, the oldest first, each for those whom it was about. What it
// finds in the ledger is what stands there now.
func (r *policyRun) ticks(ctx context.Context, reader *ledger.Ledger) error {
	now, err := reader.Now(ctx)
	if err != nil {
		return err
	}
	limit := 0
	if manifest := r.stage0.Manifest(); manifest != nil {
		limit = manifest.Limits.Spans
	}
	ticks, areMore := r.judge.Ticks(now.Add(-r.try.Since), now, r.try.Judged)
	for _, tick := range ticks {
		subjects, err := tick.Subjects(func(search ledger.SubjectSearch) ([]ledger.Subject, error) {
			return reader.Subjects(ctx, search)
		})
		if err != nil {
			return err
		}
		r.sum.Ticks++
		r.sum.Read += len(subjects)
		for _, subject := range subjects {
			if r.sum.Shown == r.try.Judged {
				r.sum.Stopped = fmt.Sprintf("after %d ticks (--limit)", r.try.Judged)
				return nil
			}
			s, told := tick.For(subject, limit)
			done, err := r.stage0.RehearseTick(ctx, r.policy, s, told)
			if err != nil {
				return err
			}
			err = r.tried(PolicyTried{Span: s, Tick: told, Emits: done.Rows, Err: done.Err, Again: done.Again})
			if err != nil || r.hasFailed() {
				return err
			}
		}
		if r.try.Tell != nil {
			r.try.Tell(r.sum.Read, r.sum.Shown)
		}
	}
	if areMore {
		r.sum.Stopped = fmt.Sprintf("after %d ticks (--limit)", len(ticks))
	}
	return nil
}

// ActionOf says in a word what a span that a policy would append is to the one that it was shown.
func ActionOf(emitted *span.Span) string {
	switch {
	case emitted.EntityType == "request":
		return "runs"
	case emitted.Seq > 0:
		return "moves on"
	}
	return "emits"
}
