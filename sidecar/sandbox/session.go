package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	killGrace   = 400 * time.Millisecond // between a code worker's own interrupt and SIGKILL
	hostGrace   = 500 * time.Millisecond // the same of the kernel host, with which others' kernels end
	cancelGrace = 50 * time.Millisecond  // between the cancel frame and giving up on an answer
	readsMax    = 2                      // reads of one run that Host is asked for at once
	askingMax   = 32 << 20               // bytes that the arguments of a stranger's open calls have together
)

// session is the parent's view of one run: it counts calls, answers them through Host, and holds the timer
// that kills the child when the child's own clock did not stop the script.
type session struct {
	run    *Run
	key    programKey
	id     uint32
	child  *child
	log    *slog.Logger
	lease  *lease          // nil in the kernel host
	ctx    context.Context // given to Host; ends with the run
	cancel context.CancelFunc
	hosts  sync.WaitGroup
	done   chan struct{} // closed when result is set
	needs  chan struct{} // one place: the child wants the source
	reads  chan struct{} // a place for each read that Host is asked for

	mu       sync.Mutex
	result   Result
	reusable bool // the child answered and may serve another run
	settled  bool
	answered bool // by the child, with its outcome
	calls    int
	asking   int // bytes that the arguments of open calls have
	lastCall uint32
	sent     uint64 // replies
	waits    bool   // the child is parked, and no reply is on its way
	since    time.Time
	used     time.Duration // JavaScript time, as the child last said
	waited   time.Duration
	begun    time.Time
	timer    *time.Timer
	lender   *time.Timer
	lendAt   time.Time
	lends    bool // the child asks before it goes on, as it said when it was parked
	wakes    bool // it asks
	later    later
	recorder *recorder
	late     bool // the kill timer fired once
	overtime bool
	cause    error
}

// serve runs r in c and returns its result. A run with a lease has the child to itself, and where it is
// cancelled and does not answer, the child is killed; without, that is left to the timer. The second result
// is true if the child may serve on.
func (c *child) serve(ctx context.Context, r *Run, log *slog.Logger, lease *lease) (Result, bool) {
	abandon := lease == nil
	s := &session{run: r, key: keyOf(r.Program, r.Entry), child: c, log: log, lease: lease,
		done: make(chan struct{}), needs: make(chan struct{}, 1), reads: make(chan struct{}, readsMax),
		recorder: newRecorder(r.RecordBytes)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	defer s.hosts.Wait()
	defer s.cancel()
	s.begun = time.Now()
	if !c.admit(s) {
		return s.fail(c.end), false
	}
	s.begin()
	stop := context.AfterFunc(ctx, func() { s.cancelRun(ctx, abandon) })
	defer stop()
	for {
		select {
		case <-s.needs:
			s.send(true)
			continue
		case <-s.done:
		}
		break
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answered || !abandon {
		s.timer.Stop()
	}
	return s.judged(), s.reusable
}

// admit registers the session. It reports false if the child is gone.
func (c *child) admit(s *session) bool {
	limits := s.run.Limits
	longest := int64(max(limits.FrameBytes, limits.OutputBytes+2*limits.LogBytes) + frameSlack)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return false
	}
	c.next++
	s.id = c.next
	c.sessions[s.id] = s
	if longest > c.longest.Load() || !c.kernel {
		c.longest.Store(longest)
	}
	return true
}

func (s *session) begin() {
	s.mu.Lock()
	s.since = time.Now()
	s.timer = time.AfterFunc(s.run.Limits.Timeout+s.firstLook(), s.expire)
	s.mu.Unlock()
	s.child.mu.Lock()
	_, known := s.child.known.get(s.key)
	s.child.mu.Unlock()
	s.send(!known)
}

func (s *session) send(withSource bool) {
	if withSource {
		s.child.mu.Lock()
		s.child.known.put(s.key, len(s.run.Program.Source), struct{}{})
		s.child.mu.Unlock()
	}
	e := encoder{buf: make([]byte, 0, len(s.run.Data)+512)}
	appendStart(&e, s.id, s.key, s.run, withSource)
	_ = s.child.wire.send(e.buf) // a dead child is told to every session by its reader
}

func (s *session) needsSource() {
	select {
	case s.needs <- struct{}{}:
	default:
	}
}

func (s *session) fail(e *Error) Result {
	return Result{Err: e, Duration: time.Since(s.begun)}
}

// settle sets the result once.
func (s *session) settle(r Result, reusable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled {
		return
	}
	s.settled, s.reusable = true, reusable
	r.Duration, r.Cause = time.Since(s.begun), s.cause
	if r.Calls == nil {
		r.Calls = s.recorder.record(nil)
	}
	s.result = r
	close(s.done)
}

// ended is the child's own answer.
func (s *session) ended(o outcome) {
	s.mu.Lock()
	s.answered = true
	s.later.unseen = o.unseen
	s.timer.Stop()
	s.mu.Unlock()
	r := Result{Err: o.failed, Logs: o.logs, JSTime: o.used, Calls: s.recorder.record(o.arrived)}
	switch {
	case o.failed != nil && o.failed.Code == CodeCancelled:
		r.Err = cancelled(s.ctx)
	case o.failed == nil && len(o.output) > s.run.Limits.OutputBytes:
		r.Err = &Error{Code: CodeLimitOutput, Message: "the output is too long"}
	case o.failed == nil && !json.Valid(o.output): // an honest child sends none
		r.Err, o.worn = &Error{Code: CodeCrash, Message: "the child sent malformed JSON"}, true
	case o.failed == nil:
		r.Output = o.output
	}
	s.settle(r, !o.worn)
}

// orphaned ends a session whose child is gone. alone says that no other run can have been the reason.
func (s *session) orphaned(end *Error, alone bool) {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	overtime, used := s.overtime, s.used
	if !s.waits {
		used += time.Since(s.since)
	}
	s.mu.Unlock()
	e := *end
	switch {
	case overtime, end.Code == CodeTimeout && alone:
		e = Error{Code: CodeTimeout, Message: fmt.Sprintf("%s did not stop within %s", s.name(),
			s.run.Limits.Timeout)}
	case s.ctx.Err() != nil:
		e = *cancelled(s.ctx)
	case !alone:
		e = Error{Code: CodeCrash, Message: "the kernel host ended under another run: " + end.Message}
	default:
		e.Message = s.name() + ": " + e.Message
	}
	s.settle(Result{Err: &e, JSTime: used}, false)
}

func (s *session) name() string {
	if s.run.Program.Name == "" {
		return "the program"
	}
	return s.run.Program.Name
}

// firstLook is when expire looks first after a limit: cancelGrace before the kill.
func (s *session) firstLook() time.Duration {
	if s.child.kernel {
		return hostGrace - cancelGrace
	}
	return killGrace - cancelGrace
}

// expire is the kill timer: the child should have stopped the script by itself a grace ago.
func (s *session) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.answered:
	case !s.late: // after a stall of the whole machine the answer may lie in the pipe: look again
		s.late = true
		s.timer.Reset(cancelGrace)
	default:
		s.overtime = true
		s.child.kill()
	}
}

// cancelRun asks the child to stop; a child that does not answer is killed, or left to the kill timer.
func (s *session) cancelRun(ctx context.Context, abandon bool) {
	var e encoder
	e.begin(frameCancel, s.id)
	e.end()
	timer := time.AfterFunc(cancelGrace, func() {
		if abandon {
			s.settle(Result{Err: cancelled(ctx)}, false)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.answered {
			s.child.kill()
		}
	})
	_ = s.child.wire.send(e.buf) // a dead child is told to every session by its reader
	<-s.done
	timer.Stop()
}

func cancelled(ctx context.Context) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{Code: CodeTimeout, Message: "the caller's deadline passed"}
	}
	return &Error{Code: CodeCancelled, Message: "the run was cancelled"}
}

// parked notes that the child waits, unless a reply that it has not seen is on its way.
func (s *session) parked(p park) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = max(s.used, p.used)
	s.lends = p.lends
	s.looks(p.looks)
	if s.waits || p.seen != s.sent {
		return
	}
	s.waits, s.late, s.since = true, false, time.Now()
	s.timer.Reset(s.left(s.run.Limits.IOTimeout-s.waited) + s.firstLook())
	if s.lease == nil || !p.lends {
		return
	}
	patience := max(lendAfter-s.waited, lendLeast)
	s.lendAt = s.since.Add(patience)
	if s.lender == nil {
		s.lender = time.AfterFunc(patience, s.lend)
		return
	}
	s.lender.Reset(patience)
}

// lend gives the place of a run that waits to another.
func (s *session) lend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits && s.lends && !s.settled && !time.Now().Before(s.lendAt) {
		s.lease.lend()
	}
}

// woke notes that a timer of the script is due while no answer came: the child runs again, or asks whether it
// may. It reports false where an honest child would not.
func (s *session) woke() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lends {
		if s.waits {
			s.goesOn()
		}
		return true
	}
	if s.lease == nil || s.wakes {
		return false
	}
	if s.settled {
		return true
	}
	s.wakes = true
	s.hosts.Go(s.letGo)
	return true
}

// letGo answers a child that asks whether it may go on: as soon as its place is there.
func (s *session) letGo() {
	if !s.placed() {
		return
	}
	s.wakes = false
	if s.waits {
		s.goesOn()
	}
	s.mu.Unlock()
	var e encoder
	e.begin(frameGo, s.id)
	e.end()
	_ = s.child.wire.send(e.buf) // a dead child is told to every session by its reader
}

// placed waits until the run has its place, and returns with s.mu locked. It reports false, with s.mu
// unlocked, when the run ends first.
func (s *session) placed() bool {
	for s.mu.Lock(); s.lease != nil && s.lease.lent(); s.mu.Lock() {
		s.mu.Unlock()
		if !s.lease.retake(s.ctx) {
			return false
		}
	}
	return true
}

// goesOn ends a wait. The caller holds s.mu.
func (s *session) goesOn() {
	now := time.Now()
	s.waits, s.late = false, false
	s.waited += now.Sub(s.since)
	s.since = now
	s.timer.Reset(s.left(s.run.Limits.Timeout-s.used) + s.firstLook())
}

// left bounds what a timer may still run by the time that both budgets leave together, whatever the child
// says about its clock.
func (s *session) left(d time.Duration) time.Duration {
	total := s.run.Limits.Timeout + s.run.Limits.IOTimeout - time.Since(s.begun)
	return max(min(d, total), 0)
}

// called starts one host call. It reports false for a call that no honest child makes.
func (s *session) called(c call) bool {
	s.mu.Lock()
	again := c.id <= s.lastCall
	s.lastCall = c.id
	s.calls++
	s.asking += len(c.args)
	tooMany, over := s.calls > s.run.Limits.HostCalls, s.settled
	crowded := s.asking > askingMax && !s.child.kernel && s.run.Replay == nil
	if !over {
		s.hosts.Add(1)
	}
	s.mu.Unlock()
	if over {
		return true
	}
	isDeferred := slices.Contains(s.run.DeferredCalls, c.name)
	declared := isDeferred || slices.Contains(s.run.AsyncCalls, c.name) ||
		slices.Contains(s.run.SyncCalls, c.name)
	if again || tooMany || !declared || len(c.args) > s.run.Limits.FrameBytes {
		s.hosts.Done()
		return false
	}
	s.recorder.asked(c)
	if isDeferred {
		s.defers(c, crowded)
		return true
	}
	go func() {
		defer s.hosts.Done()
		s.answer(c, crowded)
	}()
	return true
}

// answer asks Host and sends what it says. crowded says that the script's open calls are too large together.
func (s *session) answer(c call, crowded bool) {
	if slices.Contains(s.run.ReadCalls, c.name) && !crowded {
		select {
		case s.reads <- struct{}{}:
			defer func() { <-s.reads }()
		case <-s.ctx.Done():
			return
		}
	}
	value, at, err := s.ask(c, crowded)
	s.closed(c) // before the script hears of it, and asks for more
	if m, isAnswer := s.replyTo(c, value, at, err); isAnswer {
		s.reply(c, m)
	}
}

// replyTo is what the script gets to hear. It reports false where that is nothing: the run is cancelled.
func (s *session) replyTo(c call, value json.RawMessage, at time.Duration, err error) (reply, bool) {
	m := reply{id: c.id, at: at}
	if at >= 0 {
		m.at = at.Truncate(tick)
	}
	var seen *HostError
	switch {
	case errors.As(err, &seen):
		m.failed = &HostError{Code: seen.Code, Message: cut(seen.Message)}
	case err != nil && s.ctx.Err() != nil:
		return m, false // the run is cancelled, and that is how it ends: not by what the host says of it
	case err != nil:
		m.failed = &HostError{Code: CodeCrash, Message: "host call " + c.name + " failed"}
		s.log.Error("host call failed", "call", c.name, "program", s.run.Program.Name, "error", err)
		s.keep(fmt.Errorf("host call %s: %w", c.name, err))
	case len(value) > s.run.Limits.ResultsBytes:
		m.failed = &HostError{Code: "limit.rows", Message: fmt.Sprintf(
			"the answer to %s has %d bytes, the limit is %d", c.name, len(value), s.run.Limits.ResultsBytes)}
	case len(value) == 0:
		m.value = []byte("null")
	default:
		m.value = value
	}
	return m, true
}

// reply sends an answer as soon as the run has its place.
func (s *session) reply(c call, m reply) {
	if !s.placed() {
		return
	}
	if s.sent++; s.waits {
		s.goesOn()
	}
	over := s.settled
	s.mu.Unlock()
	if over {
		return
	}
	s.recorder.answered(c, m)
	e := encoder{buf: make([]byte, 0, len(m.value)+64)}
	appendReply(&e, s.id, m)
	_ = s.child.wire.send(e.buf) // a dead child is told to every session by its reader
}

// ask calls Host, or Replay, and says when it had its answer. A Host that panics fails the call, not the
// process.
func (s *session) ask(c call, crowded bool) (value json.RawMessage, at time.Duration, err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("answer %s: panic: %v", c.name, x)
		}
	}()
	if crowded {
		return nil, time.Since(s.begun), &HostError{Code: CodeLimitOutput, Message: fmt.Sprintf("the arguments "+
			"of the open calls have more than %d MiB together: wait for some of them first", askingMax>>20)}
	}
	if s.run.Replay != nil {
		return s.run.Replay(int(c.id), c.name, c.args)
	}
	if s.run.Host == nil {
		return nil, time.Since(s.begun), &HostError{Code: CodeDenied, Message: c.name + " is not available"}
	}
	value, err = s.run.Host(s.ctx, c.name, c.args)
	return value, time.Since(s.begun), err
}

// closed forgets the arguments of a call that was answered.
func (s *session) closed(c call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking -= len(c.args)
}

func (s *session) keep(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.cause = err
	}
}
