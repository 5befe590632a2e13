package sandbox

import (
	"fmt"
	"slices"
	"time"

	"github.com/dop251/goja"
)

// The script's time stands still while script runs. It moves when an event is handed to the script: the
// answer to a host call, or a timer. Each answer has a moment of its own, later than the one before, which
// the parent learns; timers come at the moment that the script asked for. So the order of events and every
// time that a script can read are a function of those moments, and a run is repeated by stating them.
//
//	turn of script ─► timers that are due ─► of answers and timers the earliest ─► turn of script …
//	                                         (on a tie the timer, then the lower call)

const (
	tick       = time.Microsecond  // of the script's clock
	neverSeen  = time.Duration(-1) // the moment of an answer that never was handed over
	timersMost = 1000              // open at once
	// confessedMost is how many rejections that nobody took are logged.
	confessedMost = 10
	timerLeast    = time.Millisecond
	timerMostMs   = 1<<31 - 1 // beyond it the standard wraps around
)

// timer is one setTimeout or setInterval.
type timer struct {
	id    int64
	due   time.Duration // by the script's clock
	wake  time.Time     // by the real one; a repeated run does not wait
	every time.Duration // of an interval
	call  goja.Callable
	args  []goja.Value
}

// moment is the time that the script sees.
func (t *task) moment() time.Time { return t.start.now.Add(t.elapsed) }

// arrive moves the script's clock to the moment at which the answer to call id is handed over.
func (t *task) arrive(m *reply) {
	t.elapsed = max(m.at, t.elapsed+tick)
	for len(t.arrived) < t.calls {
		t.arrived = append(t.arrived, neverSeen)
	}
	t.arrived[m.id-1] = t.elapsed
}

// track notes promises that are rejected while nothing waits for them.
func (t *task) track(promise *goja.Promise, operation goja.PromiseRejectionOperation) {
	if operation == goja.PromiseRejectionReject {
		t.rejected = append(t.rejected, promise)
		return
	}
	t.rejected = slices.DeleteFunc(t.rejected, func(p *goja.Promise) bool { return p == promise })
}

// confess logs the rejections that nobody took: the run ends well, but its author should know.
func (t *task) confess() {
	for _, promise := range t.rejected[:min(len(t.rejected), confessedMost)] {
		e := t.refusal(t.program, promise.Result(), nil)
		if t.stopped.Load() != nil {
			return
		}
		text := "nothing handles this rejection: " + e.Message
		if e.Line > 0 {
			text += fmt.Sprintf(" (%d:%d)", e.Line, e.Column)
		}
		if len(text)+lineOverhead > t.start.limits.LogBytes-t.logBytes {
			return
		}
		t.logBytes += len(text) + lineOverhead
		t.logs = append(t.logs, Log{Level: "error", Message: text, AtUs: t.elapsed.Microseconds()})
	}
}

// next hands the script its next event, and waits for it where need be. It reports false when nothing can
// come any more.
func (t *task) next() (bool, error) {
	for {
		t.collect(t.inbox.take())
		if why := t.stopped.Load(); why != nil {
			return false, why
		}
		first, answer := t.firstTimer(), t.firstAnswer()
		switch {
		case first != nil && first.due <= t.elapsed:
			return true, t.fire(first)
		case answer >= 0 && t.mayChoose():
			if first != nil && first.due <= max(t.early[answer].at, t.elapsed+tick) {
				return true, t.fire(first)
			}
			m := t.early[answer]
			t.early = slices.Delete(t.early, answer, answer+1)
			return true, t.deliver(&m)
		case first == nil && len(t.open) == 0:
			return false, nil
		case first != nil && t.isDue(first):
			return true, t.fire(first)
		}
		if !t.park(first) {
			return false, t.stopped.Load()
		}
	}
}

// isDue reports whether first may fire: its time has come, or, where a run is repeated, nothing else can.
func (t *task) isDue(first *timer) bool {
	if t.start.replay {
		return len(t.open) == 0
	}
	return !time.Now().Before(first.wake)
}

// mayChoose reports whether the earliest answer is known. Where a run is repeated, moments are stated by the
// answers, which come in any order: then all of them are needed.
func (t *task) mayChoose() bool { return !t.start.replay || len(t.early) >= len(t.open) }

// firstTimer returns the timer that comes next, nil where there is none.
func (t *task) firstTimer() *timer {
	var first *timer
	for _, x := range t.timers {
		if first == nil || x.due < first.due {
			first = x // of two at one moment the older one
		}
	}
	return first
}

// firstAnswer returns the place in early of the answer that comes next, -1 where there is none.
func (t *task) firstAnswer() int {
	first := -1
	for i := range t.early {
		if first < 0 || t.early[i].at < t.early[first].at ||
			t.early[i].at == t.early[first].at && t.early[i].id < t.early[first].id {
			first = i
		}
	}
	return first
}

// collect sorts what has come: answers to deferred calls go to their objects, the others wait in early.
func (t *task) collect(list []reply) {
	t.seen += uint64(len(list))
	for i := range list {
		m := &list[i]
		if d := t.deferred[m.id]; d != nil {
			d.reply = m
			continue
		}
		if _, isOpen := t.open[m.id]; isOpen && m.at < 0 {
			delete(t.open, m.id) // the recorded run ended without it
			continue
		}
		t.early = append(t.early, *m)
	}
}

// await waits for the answer to a call that the script stands in. It returns nil when the task was stopped.
func (t *task) await(id uint32) *reply {
	for {
		t.collect(t.inbox.take())
		for i, m := range t.early {
			if m.id == id {
				t.early = slices.Delete(t.early, i, i+1)
				if m.at < 0 {
					t.stop(&Error{Code: CodePending, Message: "the recorded run ended while it waited here"})
					return nil
				}
				t.arrive(&m)
				return &m
			}
		}
		if !t.park(nil) {
			return nil
		}
	}
}

// park waits until answers come or until the timer is due. A code worker lends its place meanwhile: an answer
// comes with a place, and after a timer it asks for one. It reports false when the task was stopped.
func (t *task) park(until *timer) bool { return t.parkFor(until, 0) }

// parkFor is park where the script looks at the answer to a deferred call.
func (t *task) parkFor(until *timer, looks uint32) bool {
	lends := !t.server.kernel
	appendPark(&t.out, t.id,
		park{seen: t.seen, used: t.clock.turn(clockWaiting), lends: lends, looks: looks})
	t.flush()
	var due <-chan time.Time
	if until != nil && (!t.start.replay || len(t.open) == 0) {
		alarm := time.NewTimer(time.Until(until.wake))
		defer alarm.Stop()
		due = alarm.C
	}
	for t.stopped.Load() == nil && !t.inbox.any() {
		select {
		case <-t.inbox.bell:
			continue
		case <-due:
			appendWake(&t.out, t.id)
			t.flush()
			for lends && t.stopped.Load() == nil && !t.inbox.mayGo() {
				<-t.inbox.bell
			}
		}
		break
	}
	t.clock.turn(clockRunning)
	return t.stopped.Load() == nil
}

// deliver settles the promise of an asynchronous call.
func (t *task) deliver(m *reply) error {
	o, isOpen := t.open[m.id]
	if !isOpen {
		return nil
	}
	delete(t.open, m.id)
	t.arrive(m)
	if m.failed != nil {
		return o.reject(t.hostThrown(m.failed, o.at))
	}
	v, err := parseJSON(t.vm, string(m.value))
	if err != nil {
		return o.reject(t.hostThrown(&HostError{Code: CodeCrash, Message: o.name + ": " + err.Error()}, o.at))
	}
	return o.resolve(t.answered(o.name, v))
}

// fire calls a timer's function at its moment. What it throws ends the run.
func (t *task) fire(x *timer) error {
	t.elapsed = max(t.elapsed, x.due)
	if x.every > 0 {
		x.due = t.elapsed + x.every
		x.wake = time.Now().Add(x.every)
	} else {
		t.timers = slices.DeleteFunc(t.timers, func(other *timer) bool { return other == x })
	}
	_, err := x.call(goja.Undefined(), x.args...)
	return err
}
