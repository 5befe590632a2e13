package stage0

import (
	"context"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// A kernel runs another one for one cause, or, for what comes in large numbers, for several at once:
// ctx.run({id, causes}). Then each cause is complete, and handed on, as soon as its next version is made, so
// that a slow one holds up no other. What such a run leaves undone is done again for each cause alone: it
// costs no other where it was its fault, and a kernel that was written for one cause at a time stays right.

// causesOf returns the causes that a run is for: one, or those that target lists.
func (inv *invocation) causesOf(target runTarget) ([]*span.Span, error) {
	if target.Causes == nil {
		cause, err := inv.causeOf(target.Cause)
		return []*span.Span{cause}, err
	}
	if target.Cause != nil || len(target.Causes) == 0 {
		return nil, denied("run: state cause, or causes, of which there is at least one")
	}
	causes := make([]*span.Span, len(target.Causes))
	for i := range target.Causes {
		cause, err := inv.causeOf(&target.Causes[i])
		if err != nil {
			return nil, err
		}
		if slices.Contains(causes, cause) {
			return nil, denied("run: %s is listed twice in causes", cause.ID)
		}
		causes[i] = cause
	}
	return causes, nil
}

// refuseCall says why a request cannot call a kernel, or nil: only those that the manifest lists are called.
func (inv *invocation) refuseCall(ctx context.Context, name string, cause *span.Span) (
	*span.RunError, error) {
	if !inv.isCalled(name, cause) {
		return nil, nil
	}
	if !slices.Contains(inv.manifest.Callable, name) {
		return refuse(span.RunNotAllowed, "%s is a kernel: a request cannot call it", name), nil
	}
	return inv.verifyRequest(ctx, cause)
}

// isCalled reports whether cause is a request that calls the kernel of this name.
func (inv *invocation) isCalled(name string, cause *span.Span) bool {
	return cause.EntityType == "request" && cause.ParentID != nil &&
		*cause.ParentID == inv.manifest.Kernels[name]
}

// mayRun says whether a nested kernel may run for cause; where not, the refusal is for the caller.
func (inv *invocation) mayRun(ctx context.Context, name string, cause *span.Span) (*span.RunError, error) {
	refusal, err := inv.refuseCall(ctx, name, cause)
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		if inv.parent == nil { // nobody else will say it
			inv.emit(cause.Key(), ledger.Group{}, refusal)
		}
		return refusal, nil
	}
	return inv.overRate(name, cause), nil
}

// runKernel boots a nested kernel for one cause. Where it ends the request, what it appends is complete when
// it ends, and the outer kernel cannot add to it; else it goes with what the outer kernel appends.
func (inv *invocation) runKernel(ctx context.Context, name string, target runTarget,
	cause *span.Span, options runOptions) (*RunResult, error) {
	if inv.depth() >= 4 {
		return nil, denied("run: kernels are nested 4 deep at most")
	}
	refusal, err := inv.mayRun(ctx, name, cause)
	if refusal != nil || err != nil {
		return &RunResult{Spans: []*span.Span{}, Error: refusal}, err
	}
	answer := &RunResult{Spans: []*span.Span{}}
	if options.Reserve != nil {
		var err error
		if answer.Reserved, err = inv.reserve(ctx, options.Reserve, cause, nil); err != nil ||
			answer.Reserved.Granted == 0 {
			return answer, err
		}
	}
	return answer, inv.bootAlone(ctx, name, target, cause, answer)
}

// bootAlone boots a nested kernel for one cause and completes the answer.
func (inv *invocation) bootAlone(ctx context.Context, name string, target runTarget, cause *span.Span,
	answer *RunResult) error {
	started := time.Now()
	job := Job{Kernel: name, Batch: []*span.Span{cause}, Input: target.Input, Emit: inv.emit,
		Cancel: inv.cancel, Born: inv.born}
	result, err := inv.stage0.boot(ctx, inv.manifest, job, inv)
	answer.DurationMs = time.Since(started).Milliseconds()
	if refusal, ok := err.(*span.RunError); ok {
		if !inv.isCalled(inv.kernel.name, cause) { // who is called ends the request himself
			inv.emit(cause.Key(), ledger.Group{}, refusal)
		}
		answer.Error = refusal
		return nil
	}
	if err != nil {
		return err
	}
	answer.OK, answer.Output = true, result.Output
	return nil
}

// overMany finds where a kernel goes over ctx.batch.
var overMany = regexp.MustCompile(`\bof\s+ctx\.batch\b|\bctx\.batch\.(map|forEach)\(`)

// runForMany boots a nested kernel once for several causes.
func (inv *invocation) runForMany(ctx context.Context, name string, target runTarget, causes []*span.Span,
	options runOptions) (*RunResult, error) {
	switch {
	case inv.depth() >= 4:
		return nil, denied("run: kernels are nested 4 deep at most")
	case options.Reserve != nil:
		return nil, denied("run: what is reserved is for one cause")
	}
	answer := &RunResult{Spans: []*span.Span{}, OK: true}
	var may []*span.Span
	for _, cause := range causes {
		refusal, err := inv.mayRun(ctx, name, cause)
		if err != nil {
			return nil, err
		}
		if refusal == nil {
			may = append(may, cause)
		}
	}
	if len(may) == 0 {
		return answer, nil
	}
	kernel, err := inv.stage0.kernel(ctx, inv.manifest, name)
	if err == nil && len(may) > 1 && kernel.isForMany {
		if may, err = inv.bootMany(ctx, name, target, may); err != nil {
			return nil, err
		}
	}
	return answer, inv.bootEachAlone(ctx, name, target, may)
}

// bootMany boots a nested kernel for several causes and returns those that it left undone.
func (inv *invocation) bootMany(ctx context.Context, name string, target runTarget, causes []*span.Span) (
	[]*span.Span, error) {
	var mu sync.Mutex
	told := make(map[span.Key]bool, len(causes))
	job := Job{Kernel: name, Batch: causes, Input: target.Input, Cancel: inv.cancel, Born: inv.born,
		Emit: func(cause span.Key, group ledger.Group, failure *span.RunError) {
			mu.Lock()
			told[cause] = true
			mu.Unlock()
			inv.emit(cause, group, failure)
		}}
	_, err := inv.stage0.boot(ctx, inv.manifest, job, inv)
	if _, isRefusal := err.(*span.RunError); err != nil && !isRefusal {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	return slices.DeleteFunc(causes, func(cause *span.Span) bool { return told[cause.Key()] }), nil
}

// isForMany reports whether the run is a nested one for several causes: each is complete with its version.
func (inv *invocation) isForMany() bool { return inv.parent != nil && len(inv.order) > 1 }

// bootEachAlone boots a nested kernel for each of causes, at once.
func (inv *invocation) bootEachAlone(ctx context.Context, name string, target runTarget,
	causes []*span.Span) error {
	errs := make([]error, len(causes))
	var each sync.WaitGroup
	for i, cause := range causes {
		each.Go(func() { errs[i] = inv.bootAlone(ctx, name, target, cause, &RunResult{}) })
	}
	each.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (inv *invocation) depth() int {
	if inv.parent == nil {
		return 0
	}
	return 1 + inv.parent.depth()
}
