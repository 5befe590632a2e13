package stage0

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/loglineos/loglineos/sidecar/fetch"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// The verdicts of Replay.
const (
	ReplaySame          = "same"           // output, error, logs, spans and calls are those of the record
	ReplayDifferent     = "different"      // Differences say in what
	ReplayNotRepeatable = "not_repeatable" // Reason says why
)

// Replay is what a repeated run gave, beside what is recorded.
type Replay struct {
	Execution   span.ID         `json:"execution"`
	Function    *functionKey    `json:"function,omitempty"`
	StartedAt   *span.Time      `json:"started_at,omitempty"`
	Verdict     string          `json:"verdict"`
	Reason      string          `json:"reason,omitempty"`
	Differences []Difference    `json:"differences,omitempty"`
	Output      json.RawMessage `json:"output,omitempty"` // of the repeated run
	Error       *span.RunError  `json:"error,omitempty"`
	Logs        []sandbox.Log   `json:"logs,omitempty"`
	Calls       int             `json:"calls"` // host calls that it made
}

// Difference is one thing in which the repeated run is not the recorded one. A side that has nothing is nil.
type Difference struct {
	What     string          `json:"what"` // "output", "error", "log 1", "call 2 (insertSpan)", …
	Recorded json.RawMessage `json:"recorded,omitempty"`
	Replayed json.RawMessage `json:"replayed,omitempty"`
}

// ReplayCode is other code to run against the record of an execution.
type ReplayCode struct{ Source, Language string }

// recording is an execution and what made it.
type recording struct {
	execution *span.Span
	run       runRecord
	function  *span.Span
	manifest  *governed
	cause     *span.Span
}

// notRepeatable is an error that says why a run cannot be repeated.
type notRepeatable struct{ reason string }

// Error returns the reason.
func (e *notRepeatable) Error() string { return e.reason }

func unrepeatable(format string, args ...any) error {
	return &notRepeatable{fmt.Sprintf(format, args...)}
}

// Replay runs the function of an execution again, in this Stage-0's sandbox: the same version with the same
// input, seed, time and limits, and with host calls answered from the record. It reads the ledger, and
// neither writes nor calls anything. other, where it is not nil, runs in place of the function's code.
// Stage-0 need not have read its manifest. An error is a fault on the way; that a run cannot be repeated is
// a verdict.
func (s *Stage0) Replay(ctx context.Context, execution span.ID, other *ReplayCode) (*Replay, error) {
	report := &Replay{Execution: execution}
	r, err := s.readRecording(ctx, execution, other != nil)
	if r != nil {
		report.Function, report.StartedAt = r.run.Function, r.run.StartedAt
	}
	if err == nil {
		err = s.repeat(ctx, r, other, report)
	}
	var why *notRepeatable
	if errors.As(err, &why) {
		report.Verdict, report.Reason = ReplayNotRepeatable, why.reason
		return report, nil
	}
	return report, err
}

// readRecording reads the execution and all that its run was made of, and verifies that it is what ran.
func (s *Stage0) readRecording(ctx context.Context, id span.ID, otherCode bool) (*recording, error) {
	execution, err := s.loadOne(ctx, span.Key{ID: id})
	if err != nil {
		return nil, err
	}
	if execution != nil && execution.EntityType != "execution" {
		return nil, fmt.Errorf("%s is a %s and no execution: replay the execution of the same trace_id", id,
			execution.EntityType)
	}
	if execution == nil {
		return nil, fmt.Errorf("there is no execution %s that this login may read", id)
	}
	r := &recording{execution: execution}
	var metadata struct {
		Run    *runRecord       `json:"run"`
		Engine *span.EngineMeta `json:"engine"`
	}
	if execution.Metadata != nil {
		if err := json.Unmarshal(execution.Metadata, &metadata); err != nil {
			return r, unrepeatable("its metadata.run is not in this version's form: %s", err.Error())
		}
	}
	if metadata.Run != nil {
		r.run = *metadata.Run
	}
	if err := verifyHash(execution, true); err != nil {
		return r, unrepeatable("the record was changed: %s", err.Message)
	}
	switch {
	case r.run.Function == nil || r.run.Seed == "" || r.run.StartedAt == nil || metadata.Engine == nil:
		return r, unrepeatable("no code ran: Stage-0 refused the run before")
	case r.run.Manifest == nil:
		return r, unrepeatable("it was recorded by an older version, which kept no manifest")
	}
	if r.function, err = s.loadOne(ctx, span.Key{ID: r.run.Function.ID, Seq: r.run.Function.Seq}); err != nil {
		return r, err
	}
	if err := verifyRecorded(r.function, r.run.Function, otherCode); err != nil {
		return r, err
	}
	manifest, err := s.loadOne(ctx, span.Key{ID: span.ManifestID, Seq: *r.run.Manifest})
	if err != nil {
		return r, err
	}
	if manifest == nil {
		return r, unrepeatable("manifest version %d is not there, or not readable", *r.run.Manifest)
	}
	if r.manifest, err = readManifest(manifest); err != nil {
		return r, unrepeatable("manifest version %d: %s", manifest.Seq, err.Error())
	}
	return r, s.readCause(ctx, r, metadata.Engine)
}

func (s *Stage0) loadOne(ctx context.Context, key span.Key) (*span.Span, error) {
	found, err := s.config.Ledger.Load(ctx, []span.Key{key})
	if err != nil {
		return nil, fmt.Errorf("read %s version %d: %w", key.ID, key.Seq, err)
	}
	return found[key], nil
}

// verifyRecorded decides whether row is the version that the record names.
func verifyRecorded(row *span.Span, ref *functionKey, otherCode bool) error {
	switch {
	case row == nil || row.Code == nil:
		return unrepeatable("function %s version %d is not there, or not readable", ref.ID, ref.Seq)
	case otherCode:
		return nil
	case ref.CurrHash == nil && ref.CodeHash == "":
		return unrepeatable("the record has no hash of the function, so nothing tells what ran")
	case ref.CurrHash == nil:
		if codeHash(*row.Code) != ref.CodeHash {
			return unrepeatable("function %s version %d has other code than what ran", ref.ID, ref.Seq)
		}
		return nil
	case row.CurrHash == nil || *row.CurrHash != *ref.CurrHash:
		return unrepeatable("function %s version %d has another hash than what ran", ref.ID, ref.Seq)
	}
	if err := verifyHash(row, true); err != nil {
		return unrepeatable("%s", err.Message)
	}
	return nil
}

// readCause reads the request as the engine handed it over. Its moment of acceptance is taken from the id of
// the execution, which was derived from it.
func (s *Stage0) readCause(ctx context.Context, r *recording, meta *span.EngineMeta) error {
	cause, err := s.loadOne(ctx, meta.Cause)
	if err != nil {
		return err
	}
	first, err := s.loadOne(ctx, span.Key{ID: meta.Cause.ID})
	if err != nil {
		return err
	}
	if cause == nil || first == nil {
		return unrepeatable("request %s version %d is not there, or not readable", meta.Cause.ID, meta.Cause.Seq)
	}
	made := *cause
	made.Metadata, made.TraceID, made.Attempt = first.Metadata, r.execution.TraceID, r.execution.Attempt
	var millis int64
	for _, b := range r.execution.ID[:6] {
		millis = millis<<8 | int64(b)
	}
	made.AcceptedAt = new(span.NewTime(time.UnixMilli(millis)))
	r.cause = &made
	return nil
}

// onMachine are the ends of a run that another machine, or the same one on another day, need not come to.
var onMachine = map[span.RunCode]bool{span.RunTimeout: true, span.RunMemory: true, span.RunCrash: true,
	sandbox.CodeCancelled: true}

func (s *Stage0) repeat(ctx context.Context, r *recording, other *ReplayCode, report *Replay) error {
	var recorded *span.RunError
	if r.execution.Error != nil {
		if err := json.Unmarshal(r.execution.Error, &recorded); err != nil {
			return unrepeatable("its error is not in this version's form: %s", err.Error())
		}
	}
	if recorded != nil && onMachine[recorded.Code] && other == nil {
		return unrepeatable("it ended with %s, which depends on the machine and its load", recorded.Code)
	}
	row := *r.function
	if other != nil {
		row.Code, row.Language = &other.Source, &other.Language
	}
	inv := &invocation{stage0: s, manifest: r.manifest, causes: map[span.Key]*span.Span{r.cause.Key(): r.cause}}
	record := &runRecord{StartedAt: r.run.StartedAt}
	code := &codeRun{inv: inv, cause: r.cause, row: &row, record: record,
		calls: fetch.NewRun(r.manifest.Limits.NetCalls)}
	run := code.prepare(r.execution.Input, 0)
	seed, err := hex.DecodeString(r.run.Seed)
	if err != nil || len(seed) != len(run.Seed) {
		return unrepeatable("its seed is not in this version's form")
	}
	copy(run.Seed[:], seed)
	answers := newReplayAnswers(r.run.Calls, r.execution.Visibility, code)
	run.Host, run.Replay, run.RecordBytes = nil, answers.answer, math.MaxInt
	result := s.config.Pool.RunCode(ctx, run)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case result.Cause != nil:
		return result.Cause
	case answers.missing != "":
		return unrepeatable("%s", answers.missing)
	}
	if result.Err != nil {
		report.Error = runError(result.Err)
		if onMachine[report.Error.Code] && other == nil {
			return unrepeatable("here it ended with %s, which depends on the machine and its load", report.Error)
		}
	}
	report.Output, report.Logs, report.Calls = result.Output, result.Logs, len(result.Calls)
	report.compare(r, recorded, result)
	return nil
}
