// Package engine turns rows of the ledger into runs of kernels and their results into commits.
//
// It owns routing by the manifest's triggers, the set of open requests, the batches of each kernel,
// group commit, and what happens after a crash. It does not know what a kernel does: Boot runs one,
// and hands back groups of spans.
//
//	tail ─► Row ─┬─ trigger on a request ──► open requests ─► ready, by tenant ─┐
//	             └─ any other trigger ─────► lane of the kernel ────────────────┤
//	                                                                            ▼
//	   done: the slot may move on ◄── outcome ◄── commit, in groups ◄── group ◄── Boot
//
// One goroutine, the loop, owns all state; everything else sends it closures. A request moves by
// appending (id, seq+1), and that primary key is the fence: whoever loses it writes nothing. So nothing
// here needs to be right about who else works: it only needs to be fast when nobody does.
//
//	scheduled ─► [running, after 100 ms or at once] ─► complete | error | cancelled
//	     ├── found open at a take-over ─► running, attempt + 1 ─► … ─► dead after three
//	     ├── retry: its run failed, and is due again with the next attempt ─► running …
//	     └── blocked: over a limit ─► due when that begins anew, or when a manifest changes it ─► running …
package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loglineos/loglineos/sidecar/failpoint"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Bounds of the engine.
const (
	itemsMax       = 10_000                // rows taken from the tail and not disposed of
	laneBatchMax   = 100                   // spans per run of a kernel other than the requests' one
	laneRunsMax    = 2                     // runs of such a kernel at once; of an owner's policies one
	requestBatch   = 16                    // requests per run of their kernel
	commitRowsMax  = 500                   // rows per commit
	commitsMax     = 2                     // commits at once
	commitRowsMany = 250                   // so many rows do not wait for the commit that is under way
	commitWait     = 10 * time.Millisecond // other rows wait for it no longer
	lateAfter      = 100 * time.Millisecond
	loadBatchMax   = 64       // requests that are read at once, of up to 1 MiB each
	queuedBytesMax = 32 << 20 // bodies of the requests in a queue; those of others are read in their turn
	backoffMin     = 100 * time.Millisecond
	trustPause     = 20 * time.Millisecond // between two looks whether this sidecar leads for certain
	backoffMax     = 5 * time.Second
	laneBytesMax   = 2 << 20 // bodies of the spans of one run of another kernel
	crashTries     = 5       // runs of one span that lose their process, before it ends as an incident
	transientTries = 3       // runs of a request that fail for no fault of its own
)

// Job asks for one run of a kernel; the fields are those of stage0.Job.
type Job struct {
	Kernel string
	Batch  []*span.Span
	Input  json.RawMessage
	Emit   func(cause span.Key, group ledger.Group, err *span.RunError)
	Cancel func(cause span.Key) context.Context
	Born   func(ctx context.Context, cause span.Key) error
}

// Config is what the engine works with. Every function may be called concurrently.
type Config struct {
	Ledger *ledger.Ledger
	// Manifest returns the manifest in force; nil before there is one.
	Manifest func() *span.Manifest
	// ManifestSince returns from when it is so, by the database's clock: what was blocked before may not have
	// been asked about its limits. nil, or a zero time, is unknown: then all that is blocked is asked again.
	ManifestSince func() time.Time
	// Boot runs a kernel. A *span.RunError says that the same input would fail again.
	Boot func(ctx context.Context, job Job) error
	// Failure makes the group that ends a request without its kernel.
	Failure func(request *span.Span, failure *span.RunError) (ledger.Group, error)
	// Cancelled makes the group that ends a request which its owner cancelled. lost is the running version
	// before that wish, where another sidecar wrote it, who is gone; else nil.
	Cancelled func(ctx context.Context, request, lost *span.Span) (ledger.Group, error)
	// Load reads versions through the cache; nil where there is none. Prefetch starts to.
	Load     func(ctx context.Context, keys []span.Key) ([]*span.Span, error)
	Prefetch func(ctx context.Context, keys []span.Key)
	// IsTrusted reports whether this sidecar leads for certain. Commits wait while it does not: a process that
	// was frozen writes nothing that the next leader's counts do not know. nil is always.
	IsTrusted func() bool
	// Settled hears how the run of a request ended: isKept says that what it gave is in the ledger. nil is
	// nobody.
	Settled func(request span.ID, isKept bool)
	// Seal hashes, and signs where there is a key, what the engine appends by itself. nil only hashes.
	Seal ledger.Sealer
	// Node names this sidecar in who (sidecar:<node>).
	Node string
	// InFlightMax is how many requests run or wait for their commit at once, and as many again of those that
	// may reach the network. 0 is 64.
	InFlightMax int
	Log         *slog.Logger
}

// Engine is one engine. Make it with New, run it once with Run.
type Engine struct {
	config Config
	events chan func()
	slots  chan struct{} // one per item that is not disposed of
	inbox  inbox
	hurry  chan struct{} // closed by Hurry
	once   sync.Once
	work   sync.WaitGroup
	ctx    context.Context // of the work; set by Run before anything is started

	// All below belongs to the loop.
	spare       []arrival // of inbox
	draining    bool
	term        atomic.Int64 // see term.go; it changes in the loop alone
	isDeposed   bool         // another sidecar may lead: start nothing
	lanes       map[laneKey]*lane
	kernelLanes []*lane // those of other kernels than policy_agent
	kinds       kinds
	backlog     backlog
	crowded     crowded
	open        map[span.ID]*request
	ready       *fair // requests that may run
	outward     *fair // those that may reach the network
	paces       *paces
	inFlight    map[span.ID]*request
	own         map[span.Key]bool // requests appended here whose row has not come back yet
	marks       marks
	loading     loads
	memory
	isLoading   bool
	pending     commits
	committing  int
	committedAt time.Time // when the last commit began
	flushArmed  bool
	// isCommittingApart: a tenant that was held up is committing.
	isCommittingApart bool
	unborn            map[span.ID]*request // those that may not stand in the ledger yet
	begotten          begotten
	birthsArmed       bool
	lateArmed         bool
	due               *agenda
	policies          *rules
	judging           judging
	ticks             ticks
	schedules         *schedules
	clock             databaseClock
	isClockKnown      bool // it is the database's
	isClockRead       bool // it is being looked at
	alarms            []*alarm
	manifest          *span.Manifest // as dispatch saw it last
	limits            int            // how often its limits have changed

	stats Stats
}

// New returns an engine that is not running yet.
func New(config Config) *Engine {
	if config.InFlightMax <= 0 {
		config.InFlightMax = 64
	}
	if config.Seal == nil {
		config.Seal = (*span.Span).Seal
	}
	e := &Engine{
		config: config, events: make(chan func(), 1024), slots: make(chan struct{}, itemsMax),
		hurry: make(chan struct{}),
		lanes: map[laneKey]*lane{}, kinds: newKinds(), backlog: backlog{backlogMax, map[string]int{}},
		crowded: crowded{backlog: backlog{crowdMax, map[string]int{}}},
		open:    map[span.ID]*request{}, paces: newPaces(),
		unborn: map[span.ID]*request{}, inFlight: map[span.ID]*request{},
		own: map[span.Key]bool{}, policies: newRules(),
		clock: newClock(), memory: newMemory(), stats: newStats(),
	}
	e.ready, e.outward = newFair(e.paces), newFair(newPaces())
	e.outward.quickMax = e.config.InFlightMax // they wait for the network, not for a processor
	e.due = newAgenda(e.newAlarm(e.wake))
	e.schedules = newSchedules(e.newAlarm(e.ringSchedules))
	e.ticks.alarm = e.newAlarm(func() {
		e.tickAt(e.now())
		e.armTicks()
	})
	return e
}

// Stats returns the counters.
func (e *Engine) Stats() *Stats { return &e.stats }

// Run works until ctx ends, then waits for what is in flight, at most drain long, and cancels the
// rest: it stays open in the ledger and is taken over at the next start.
func (e *Engine) Run(ctx context.Context, drain time.Duration) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	e.ctx = work
	defer e.clearAlarms()
	e.keepClock()
	e.keepMarks()
	e.keepPolicies()
	for ctx.Err() == nil {
		select {
		case event := <-e.events:
			event()
			e.catchUp()
		case <-ctx.Done():
		}
		e.dispatch()
	}
	e.drain(drain, cancel)
}

// catchUp runs the events that wait already: what they ask for is started together.
func (e *Engine) catchUp() {
	for range len(e.events) {
		event := <-e.events
		event()
	}
}

// Hurry ends a drain at once, or makes the next one short. It may be called at any time.
func (e *Engine) Hurry() { e.once.Do(func() { close(e.hurry) }) }

// drain waits until nothing is under way. After the deadline what still runs is cancelled: it stays open
// in the ledger, and its rows undisposed.
func (e *Engine) drain(limit time.Duration, cancel context.CancelFunc) {
	e.draining = true
	failpoint.Hit(failpoint.DrainBegun)
	if n := len(e.inFlight); n > 0 {
		e.config.Log.Info("stopping: what runs may finish", "in_flight", n, "at_most_ms", limit.Milliseconds())
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for isLate := false; !isLate && !e.idle(); {
		select {
		case event := <-e.events:
			event()
			e.flush()
		case <-deadline.C:
			e.config.Log.Warn("drain time is over; the rest stays open in the ledger", "in_flight", len(e.inFlight))
			isLate = true
		case <-e.hurry:
			isLate = true
		}
	}
	cancel()
	ended := make(chan struct{})
	go func() {
		e.work.Wait()
		close(ended)
	}()
	for {
		select {
		case <-e.events: // of work that has ended: nobody acts on it any more
		case <-ended:
			return
		}
	}
}

func (e *Engine) idle() bool {
	for _, l := range e.lanes {
		if l.running > 0 {
			return false
		}
	}
	if e.committing > 0 || e.isCommittingApart || !e.pending.empty() || e.isLoading {
		return false
	}
	for _, r := range e.inFlight {
		isHeldUp := e.pending.waiting > 0 && (r.phase == committing || r.held != nil ||
			r.isMarking && r.phase != running)
		if !e.draining || !isHeldUp { // nobody stays for what somebody else's transaction holds up
			return false
		}
	}
	return e.draining || e.pending.waiting == 0
}

// do has the loop run event. It is called from any goroutine but the loop's.
func (e *Engine) do(event func()) {
	e.events <- event
}

// start runs f in a goroutine that Run waits for. It is called from the loop.
func (e *Engine) start(f func(ctx context.Context)) {
	e.work.Go(func() { f(e.ctx) })
}

// dispatch starts whatever can start. It is called after the events that have come.
func (e *Engine) dispatch() {
	e.noteLimits()
	e.load()
	e.refill()
	e.dispatchLanes()
	e.dispatchRequests()
	e.flush()
	e.stats.InFlight.Store(int64(len(e.inFlight)))
	e.stats.Open.Store(int64(len(e.open)))
}

func newCount(n int32) *atomic.Int32 {
	count := new(atomic.Int32)
	count.Store(n)
	return count
}

// after has the loop run event once d has passed.
func (e *Engine) after(d time.Duration, event func()) {
	time.AfterFunc(d, func() {
		select {
		case e.events <- event:
		case <-e.ctx.Done():
		}
	})
}

func backoff(tries int) time.Duration {
	return min(backoffMin<<min(tries, 10), backoffMax)
}
