// Package sandbox runs strangers' JavaScript and TypeScript in re-executed child processes.
//
// It owns the children, the wire to them, every limit on a run, and translation. It refuses to know
// anything of the product: no spans, no database, no keys, no network. All that a script can reach
// outside its runtime is a named host call, answered by the Host of its Run in the parent.
//
//	parent (trusted)                                   child (may be hostile after a run)
//	┌───────────────────────────────┐   socketpair    ┌───────────────────────────────────┐
//	│ Pool                          │                 │ server: one reader, n tasks       │
//	│  RunCode   ─ slot ─ child ────┼── run ────────► │  task: goja.Runtime, fresh        │
//	│  RunKernel ─────── child ─────┼── reply ──────► │   translate ► call ► serialize    │
//	│   session: counts, kill timer │ ◄─ call, park ──┼─  ctx.find(…), waits              │
//	│    Host(ctx, name, args)      │ ◄─ result ──────┼─  output, error, logs             │
//	└───────────────────────────────┘                 └───────────────────────────────────┘
//
// Two kinds of children. A code worker runs one script of a stranger at a time. The kernel host runs many
// trusted kernels at once, each in its own runtime and goroutine, so that a kernel that waits for
// another run never waits for a slot. Both live by the same code.
//
// A run passes through these states; the parent's clock for JavaScript stands still while it is parked:
//
//	translate ─► running ─► parked (waits for calls, timers) ─► running ─► result
//	                │             │ 120 s: timeout
//	                └ 30 s: interrupt ─ 250 ms: exit ─ 500 ms: SIGKILL, timeout
//
// The time that a script sees is none of these clocks: it moves with answers and timers (events.go), so
// that a run is a function of what it is given, and Run.Replay repeats it.
//
// Who stops what: Interrupt stops JavaScript loops; the child's own end, or SIGKILL, stops native ones
// (regular expressions, huge joins); the heap watchdog, GOMEMLIMIT and RLIMIT_DATA stop memory;
// SetMaxCallStackSize stops recursion, debug.SetMaxStack stops parsers. A child that broke a limit in a way
// that JavaScript cannot do is replaced. The text of a run's error never comes from Go's own formatting of
// script values: getters and toString run inside the limits.
//
// Around each child stand walls of the kernel (walls.go, docs/sandbox.md), for what leaves goja all the same;
// nothing lowers them, and Pool.Walls names those that a machine lacks.
package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// ChildArg is os.Args[1] of a child. main(), and TestMain of tests that make a Pool, call Main when they see
// it.
const ChildArg = "sandbox-child"

// The codes of a run's error: docs/contract.md §5, and two that name an end which no script caused.
const (
	CodeSyntax          = "syntax"           // the source is no program of a known form
	CodeException       = "exception"        // the script threw, or its promise was rejected
	CodeTimeout         = "timeout"          // JavaScript time or waiting time is used up
	CodeMemory          = "memory"           // the child's memory limit was reached
	CodeStack           = "stack"            // recursion, in the script or in a parser
	CodeCrash           = "crash"            // the child or the host broke; the script may be innocent
	CodePending         = "pending"          // the promise cannot settle any more: no host call is open
	CodeDenied          = "denied"           // a host call that is refused, or too many of them
	CodeNotSerializable = "not_serializable" // the value has no JSON form that jsonb accepts
	CodeLimitOutput     = "limit.output"     // output, or the arguments of calls, are too large
	CodeLimitLogs       = "limit.logs"       // more log text than LogBytes
	CodeLimitSource     = "limit.source"     // more source than SourceBytes
	CodeCancelled       = "cancelled"        // the caller's context was cancelled
)

// Entry is the way in which a program is called.
type Entry int

const (
	// EntryFunction: a body with `return` that sees input and ctx, or main(ctx) as export default, as
	// globalThis.default, or as a function main at the top level. The returned value is the output.
	EntryFunction Entry = iota
	// EntryPolicy: on(span, ctx) in the same forms, called with (ctx.input.span, ctx).
	EntryPolicy
	// EntryNone: it is compiled, and nothing of it runs; the output is null.
	EntryNone
)

// Options make a Pool.
type Options struct {
	// Executable is the program that calls Main. "" is /proc/self/exe (os.Executable elsewhere).
	Executable string
	// Workers is the number of code workers. 0 is the number of CPUs.
	Workers int
	// HostMemoryBytes bounds the kernel host as a whole. 0 is 512 MiB. A code worker is bounded by the
	// run's Limits.MemoryBytes.
	HostMemoryBytes int64
	// Log receives deaths of children and errors of hosts. nil is silence.
	Log *slog.Logger
}

// Program is the source of a run. A child caches its compiled form by hash of source, language and entry.
type Program struct {
	Name     string // shown in errors, e.g. "function 018f…@3"
	Source   string
	Language string // "javascript" or "typescript"; "" is javascript
}

// Limits bound one run. A zero field means its default.
type Limits struct {
	Timeout      time.Duration // JavaScript time, translation included
	IOTimeout    time.Duration // sum of the time spent waiting for host calls
	MemoryBytes  int64         // heap of a code worker; the kernel host has Options.HostMemoryBytes
	StackFrames  int           // depth of calls in JavaScript
	SourceBytes  int
	OutputBytes  int // JSON of the result
	LogBytes     int // text of all log lines together
	FrameBytes   int // JSON of the arguments of one host call
	HostCalls    int // sync and async together
	ResultsBytes int // JSON of one host call's answer
}

// DefaultLimits returns the limits that a manifest may lower.
func DefaultLimits() Limits {
	return Limits{
		Timeout:      30 * time.Second,
		IOTimeout:    120 * time.Second,
		MemoryBytes:  128 << 20,
		StackFrames:  2000,
		SourceBytes:  256 << 10,
		OutputBytes:  256 << 10,
		LogBytes:     64 << 10,
		FrameBytes:   1 << 20,
		HostCalls:    1000,
		ResultsBytes: 8 << 20,
	}
}

// HostFunc answers a call that a script makes on ctx. args is a JSON array. It is called concurrently, from a
// goroutine of its own, and must return when its ctx ends, which is at the latest when the run
// ends: RunCode and RunKernel wait for it. A *HostError becomes an Error in the script with the same code;
// any other error is logged, returned as Result.Cause, and becomes an Error with the code "crash" that does
// not show its text.
type HostFunc func(ctx context.Context, name string, args json.RawMessage) (json.RawMessage, error)

// HostError is an error that the script may see and catch: an Error whose code is Code. Uncaught, it
// ends the run with that code.
type HostError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error returns "code: message".
func (e *HostError) Error() string { return e.Code + ": " + e.Message }

// Run is one call of a program.
type Run struct {
	Program Program
	Entry   Entry
	// Data is a JSON object; its keys become properties of ctx. `input` also is a name in the body form.
	Data json.RawMessage
	// SyncCalls and AsyncCalls name the functions of ctx that Host answers: sync ones return the value,
	// async ones a Promise. "sql" is a tagged template: ctx.sql`… ${v}` calls ("sql", [{text: "… $1", values:
	// [v]}]).
	SyncCalls, AsyncCalls []string
	// ReadCalls are those of AsyncCalls whose answers may be large: Host is asked for two of a run's at
	// once, and for the next one when an answer has gone to the child.
	ReadCalls []string
	// DeferredCalls answer an object that the script need not wait for: its members are fetched when the
	// script first reads one. A refusal is thrown then, or, where the script never looks, ends the run.
	// Host is asked for a run's deferred calls one after another, in their order; where there is a Later, it is
	// asked in Host's place, and need not encode what the script does not look at.
	DeferredCalls []string
	Later         LaterFunc
	Globals       map[string]json.RawMessage // extra globals, e.g. SPAN_ID
	// Lazy are further properties of ctx that are parsed when the script first reads them: for what is
	// large and rarely read.
	Lazy map[string]json.RawMessage
	// Now, whole microseconds, is where the script's time starts: Date, ctx.now and performance.now. It
	// stands still while script runs, and moves when an answer or a timer comes. Zero is the clock.
	Now time.Time
	// Seed makes Math.random, ctx.id and crypto.randomUUID.
	Seed   [32]byte
	Limits Limits
	// Tenant prefers a worker that served this tenant last; isolation within a process is the fresh
	// runtime. Alone demands a worker that never served another one.
	Tenant string
	Alone  bool
	Host   HostFunc
	// RecordBytes, where it is not 0, asks for Result.Calls, and bounds the answers that are kept in them.
	RecordBytes int
	// Replay, where it is not nil, repeats a recorded run: it answers in place of Host, and timers do not
	// wait. The same program, data, seed, Now and answers at the same moments give the same output, logs and
	// calls.
	Replay ReplayFunc
}

// Result is what a run gave. Output is set if Err is nil: JSON that jsonb accepts, null for undefined.
type Result struct {
	Output   json.RawMessage
	Err      *Error
	Cause    error         // the first error of Host that was no HostError; nil if none
	Logs     []Log         // empty if the child was killed
	Calls    []Call        // with Run.RecordBytes; of a child that was killed, without moments
	JSTime   time.Duration // time in JavaScript and translation
	Duration time.Duration // wall time in the child, without waiting for a slot
}

// Log is one line of ctx.log or console.
type Log struct {
	Level   string `json:"level"` // log, warn, error
	Message string `json:"message"`
	AtUs    int64  `json:"at_us"` // microseconds since the run's start, by the script's clock
}

// Error says why a run gave no output. Line and Column count from 1 in the author's own source; 0 is unknown.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	// Stack is the author's frames, "at name (line:column)" in a line each, where there are several.
	Stack string `json:"stack,omitempty"`
}

// Error returns "code: message".
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// prepare fills in defaults and refuses what needs no child to be refused.
func (r *Run) prepare() *Error {
	r.Limits = r.Limits.withDefaults()
	if len(r.Program.Source) > r.Limits.SourceBytes {
		return &Error{Code: CodeLimitSource, Message: fmt.Sprintf(
			"the source has %d bytes, the limit is %d", len(r.Program.Source), r.Limits.SourceBytes)}
	}
	switch r.Program.Language {
	case "":
		r.Program.Language = "javascript"
	case "javascript", "typescript":
	default:
		return &Error{Code: CodeSyntax, Message: fmt.Sprintf("unknown language %.40q", r.Program.Language)}
	}
	if r.Now.IsZero() {
		r.Now = time.Now()
	}
	r.Now = r.Now.UTC().Truncate(time.Microsecond)
	if len(r.Data) == 0 {
		r.Data = json.RawMessage("{}")
	}
	if len(r.Data) > maxToChild/2 {
		return &Error{Code: CodeDenied, Message: fmt.Sprintf("the data has %d bytes", len(r.Data))}
	}
	return nil
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	defaultTo(&l.Timeout, d.Timeout)
	defaultTo(&l.IOTimeout, d.IOTimeout)
	defaultTo(&l.MemoryBytes, d.MemoryBytes)
	defaultTo(&l.StackFrames, d.StackFrames)
	defaultTo(&l.SourceBytes, d.SourceBytes)
	defaultTo(&l.OutputBytes, d.OutputBytes)
	defaultTo(&l.LogBytes, d.LogBytes)
	defaultTo(&l.FrameBytes, d.FrameBytes)
	defaultTo(&l.HostCalls, d.HostCalls)
	defaultTo(&l.ResultsBytes, d.ResultsBytes)
	return l
}

func defaultTo[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}
