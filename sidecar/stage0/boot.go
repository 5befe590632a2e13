package stage0

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"lukechampine.com/blake3"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// kernelWait bounds what a kernel may wait for its host calls.
const kernelWait = time.Hour

// Job asks for one run of a kernel over a batch of causes.
type Job struct {
	Kernel string
	// Batch holds the causes. A request carries in Attempt the attempt that this run is, and in Seq
	// and CurrHash the version that it continues.
	Batch []*span.Span
	Input json.RawMessage // ctx.input; nil is null
	// Emit takes what the run appends for one cause, hashed, as soon as it is complete; or why there
	// is nothing. It is called at most once per cause, from several goroutines.
	Emit func(cause span.Key, group ledger.Group, err *span.RunError)
	// Cancel returns a context that ends when what runs for this cause alone is to stop. It may be nil.
	Cancel func(cause span.Key) context.Context
	// Born waits until a cause that may not be committed yet is: its run is about to read. It may be nil.
	Born func(ctx context.Context, cause span.Key) error
}

// Boot runs a kernel. It returns nil when the kernel ended well; a *span.RunError when Stage-0
// refused it or it failed, which the same input would do again; and any other error when the fault
// lies in between (database, shutdown), so that trying again may help.
func (s *Stage0) Boot(ctx context.Context, job Job) error {
	if err := s.Refresh(ctx); err != nil {
		return err
	}
	manifest := s.manifest.Load()
	if manifest == nil {
		return errors.New("no manifest is in force")
	}
	if manifest.refusal != nil {
		return manifest.refusal
	}
	job.Emit = onceForEach(job.Emit)
	kernel, err := s.kernel(ctx, manifest, job.Kernel)
	if err != nil {
		return err
	}
	if kernel.isOlder() && len(job.Batch) > 1 {
		return s.bootEach(ctx, manifest, job)
	}
	_, err = s.boot(ctx, manifest, job, nil)
	return err
}

// onceForEach lets the first word on each cause through: of nested kernels that fail, each has one.
func onceForEach(emit func(span.Key, ledger.Group, *span.RunError)) func(
	span.Key, ledger.Group, *span.RunError) {
	var mu sync.Mutex
	told := map[span.Key]bool{}
	return func(cause span.Key, group ledger.Group, err *span.RunError) {
		mu.Lock()
		isFirst := !told[cause]
		told[cause] = true
		mu.Unlock()
		if isFirst {
			emit(cause, group, err)
		}
	}
}

func (s *Stage0) boot(ctx context.Context, manifest *governed, job Job,
	parent *invocation) (*sandbox.Result, error) {
	kernel, err := s.kernel(ctx, manifest, job.Kernel)
	if err != nil {
		return nil, err
	}
	if err := s.countBoot(ctx, manifest, kernel, job.Batch); err != nil {
		return nil, err
	}
	if kernel.isOlder() {
		if err := s.awaitReadable(ctx, job.Batch); err != nil {
			return nil, err
		}
	}
	inv := newInvocation(s, manifest, kernel, job, parent)
	result := s.config.Pool.RunKernel(ctx, inv.kernelRun(job))
	if err := outcome(ctx, "kernel "+kernel.name, result); err != nil {
		return nil, err
	}
	inv.emitAll()
	return &result, nil
}

func (inv *invocation) kernelRun(job Job) sandbox.Run {
	manifest := inv.manifest
	limits := sandbox.DefaultLimits()
	limits.Timeout = time.Duration(manifest.Policy.TimeoutMs) * time.Millisecond
	// A kernel waits for the runs that it starts, each with its own limits, and for the turn of each: behind
	// a tenant's own endless functions that may be long, and none of them may end for it.
	limits.IOTimeout = kernelWait
	// Each policy that is matched may act as often as it may, twice where a round is taken back.
	limits.HostCalls += len(inv.matched) * (2*manifest.Limits.Spans + 4)
	if inv.parent != nil { // what one cause may, each of several may
		limits.HostCalls *= len(job.Batch)
	}
	run := sandbox.Run{
		Program: programOf(inv.kernel.span, "kernel "+inv.kernel.name),
		Entry:   sandbox.EntryFunction,
		Data:    contextJSON(job.Input, job.Batch, job.Batch), Lazy: inv.manifest.lazy,
		DeferredCalls: []string{"insertSpan", "version", "again"},
		AsyncCalls:    []string{"find", "summarize", "sql", "run", "reserve", "fetch"}, ReadCalls: readCalls,
		Now: time.Now(), Seed: seedOf(inv.kernel.name, job.Batch), Limits: limits,
		Tenant: "system", Host: inv.host, Later: inv.later,
	}
	if len(job.Batch) > 0 {
		run.Globals = map[string]json.RawMessage{
			"SPAN_ID": json.RawMessage(strconv.Quote(job.Batch[0].ID.String())),
		}
	}
	return run
}

// contextJSON is what a run on behalf of causes finds in ctx: {"input": …, "env": …, "batch": [ … ]}.
// The input is JSON already and is not read again.
func contextJSON(input json.RawMessage, causes, batch []*span.Span) []byte {
	size := len(input) + 512
	for _, s := range batch {
		size += 1024 + len(s.Input) + len(s.Output) + len(s.Content) + len(s.Metadata)
	}
	encoded := append(make([]byte, 0, size), `{"input":`...)
	if input == nil {
		input = json.RawMessage("null")
	}
	encoded = append(encoded, input...)
	owner, tenant := ownerOf(causes)
	encoded = span.AppendText(append(encoded, `,"env":{"APP_TENANT_ID":`...), tenant)
	encoded = span.AppendText(append(encoded, `,"APP_USER_ID":`...), owner)
	encoded = append(encoded, `},"batch":[`...)
	for i, s := range batch {
		if i > 0 {
			encoded = append(encoded, ',')
		}
		encoded = s.AppendJSON(encoded)
	}
	return append(encoded, "]}"...)
}

// outcome turns the end of a run into Boot's errors.
func outcome(ctx context.Context, label string, result sandbox.Result) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case result.Cause != nil:
		return fmt.Errorf("%s: %w", label, result.Cause)
	case result.Err == nil:
		return nil
	case result.Err.Code == sandbox.CodeCancelled:
		return fmt.Errorf("%s was cancelled: %s", label, result.Err.Message)
	}
	return runError(result.Err)
}

func runError(e *sandbox.Error) *span.RunError {
	return &span.RunError{Code: span.RunCode(e.Code), Message: e.Message, Line: e.Line, Column: e.Column,
		Stack: e.Stack}
}

func programOf(row *span.Span, label string) sandbox.Program {
	language := "javascript"
	if row.Language != nil {
		language = *row.Language
	}
	return sandbox.Program{Name: fmt.Sprintf("%s@%d", label, row.Seq), Source: *row.Code, Language: language}
}

// ownerOf says on whose behalf a run is: its causes' owner, or, where they have several, the system.
func ownerOf(batch []*span.Span) (owner, tenant string) {
	owner, tenant = "system", "system"
	for i, s := range batch {
		if i == 0 {
			owner, tenant = s.OwnerID, s.TenantID
		} else if s.OwnerID != owner || s.TenantID != tenant {
			return "system", "system"
		}
	}
	return owner, tenant
}

// seedOf gives a run its randomness: the same for the same causes and attempts, so that it can be
// repeated.
func seedOf(kind string, causes []*span.Span) [32]byte {
	hash := sha256.New()
	fmt.Fprintf(hash, "loglineos seed 1\x00%s\x00", kind)
	for _, cause := range causes {
		attempt := 0
		if cause.Attempt != nil {
			attempt = *cause.Attempt
		}
		fmt.Fprintf(hash, "%s %d %d\x00", cause.ID, cause.Seq, attempt)
	}
	return [32]byte(hash.Sum(nil))
}

// recordBytes bounds the answers of host calls that one execution keeps.
const recordBytes = 64 << 10

// runRecord is metadata.run of an execution: the audit of what ran (docs/contract.md §6), and what Replay
// needs to run it again.
type runRecord struct {
	Function  *functionKey  `json:"function,omitempty"`
	Manifest  *int          `json:"manifest,omitempty"` // the seq of the one in force
	Kernels   []kernelRef   `json:"kernels"`
	Seed      string        `json:"seed,omitempty"`
	StartedAt *span.Time    `json:"started_at,omitempty"`
	Logs      []sandbox.Log `json:"logs,omitempty"`
	// Calls are the host calls of the function in their order.
	Calls  []sandbox.Call `json:"calls,omitempty"`
	Quota  *quotaRecord   `json:"quota,omitempty"`  // the execution counts; of several attempts one does
	Forced *forcedRecord  `json:"forced,omitempty"` // over the limit, once
}

// keptCalls is what an execution of this visibility keeps of the calls. What code has read, and what it was
// told on the way, is its caller's: where others read the execution, only the hashes are kept of that, and of
// spans that fewer may read.
func keptCalls(calls []sandbox.Call, visibility string) []sandbox.Call {
	if visibility == "private" {
		return calls
	}
	kept := slices.Clone(calls)
	for i := range kept {
		c := &kept[i]
		switch {
		case c.Name == "bucket", c.Name == "insertSpan" && !isNarrower(c.Answer, visibility):
		case c.Name == "insertSpan":
			c.Answer = nil
		default:
			c.Answer, c.Error = nil, nil
		}
	}
	return kept
}

// isNarrower reports whether fewer may read the span that was answered than what has this visibility.
func isNarrower(answer *string, visibility string) bool {
	var answered struct {
		Visibility string `json:"visibility"`
	}
	return answer != nil && (json.Unmarshal([]byte(*answer), &answered) != nil ||
		wider(visibility, answered.Visibility))
}

// count says in r what an execution has reserved.
func (r *runRecord) count(held *reservation) {
	if held != nil && held.key != (quotaKey{}) {
		r.Quota, r.Forced = &quotaRecord{held.key.day, held.user != ""}, held.forced
	}
}

// functionKey names the version of a function that ran. CodeHash, the hex BLAKE3 of its code, stands in for
// CurrHash where the version has none.
type functionKey struct {
	versionRef
	CodeHash string `json:"code_hash,omitempty"`
}

func functionRef(row *span.Span) *functionKey {
	ref := functionKey{versionRef: versionRef{row.ID, row.Seq, row.CurrHash}}
	if row.CurrHash == nil && row.Code != nil {
		ref.CodeHash = codeHash(*row.Code)
	}
	return &ref
}

func codeHash(code string) string {
	sum := blake3.Sum256([]byte(code))
	return hex.EncodeToString(sum[:])
}

type versionRef struct {
	ID       span.ID `json:"id"`
	Seq      int     `json:"seq"`
	CurrHash *string `json:"curr_hash,omitempty"`
}

type kernelRef struct {
	Name     string  `json:"name"`
	Seq      int     `json:"seq"`
	CurrHash *string `json:"curr_hash,omitempty"`
}

func (inv *invocation) kernelRefs() []kernelRef {
	var refs []kernelRef
	if inv.parent != nil {
		refs = inv.parent.kernelRefs()
	}
	return append(refs, kernelRef{inv.kernel.name, inv.kernel.span.Seq, inv.kernel.span.CurrHash})
}

func seedText(seed [32]byte) string { return hex.EncodeToString(seed[:]) }
