package engine

import (
	"context"
	"time"
)

// Bounds of the clock.
const (
	clockEvery = time.Minute            // between two looks at the database's clock
	clockAhead = 2 * time.Second        // a row from so far ahead says that the database's clock has jumped
	clockStep  = 500 * time.Millisecond // a correction that is worth a word in the log
	clockTrip  = time.Second            // an answer that took longer says too little
)

// databaseClock is the database's clock, which alone decides what is due. Between two looks at it, it goes on
// with the monotonic clock of this machine: whoever sets that machine's time changes nothing.
type databaseClock struct {
	base  time.Time // the database's time
	since time.Time // when it was that; with a monotonic reading
}

// newClock is the machine's own time, until the database's is known.
func newClock() databaseClock {
	now := time.Now()
	return databaseClock{now.Round(0), now}
}

func (c databaseClock) now() time.Time { return c.base.Add(time.Since(c.since)) }

// now is the database's time. It is called from the loop.
func (e *Engine) now() time.Time { return e.clock.now() }

// readClock looks at the database's clock; trip is how long the answer took.
func (e *Engine) readClock(ctx context.Context) (c databaseClock, trip time.Duration, err error) {
	before := time.Now()
	base, err := e.config.Ledger.Now(ctx)
	trip = time.Since(before)
	return databaseClock{base.UTC(), before.Add(trip / 2)}, trip, err
}

// setClock goes by c from now on: what waits for a time is due by it.
func (e *Engine) setClock(c databaseClock) {
	step := c.now().Sub(e.clock.now())
	isKnown := e.isClockKnown
	e.clock, e.isClockKnown = c, true
	if isKnown && step.Abs() > clockStep {
		e.stats.ClockSteps.Add(1)
		e.config.Log.Warn("the database's clock has jumped, or this machine slept", "by_ms", step.Milliseconds())
	}
	if step < -tickLate {
		e.goBack()
	}
	for _, a := range e.alarms {
		a.adjust()
	}
}

// goBack has what ticks begin again from now on, where the clock was ahead: what comes a second time then has
// the ids of the first.
func (e *Engine) goBack() {
	now := e.now()
	for _, s := range e.schedules.byID {
		if s.last.After(now) {
			s.last = now
			if s.place > 0 {
				e.plan(s)
			}
		}
	}
	e.armSchedules()
	for _, p := range e.policies.timed {
		if before := p.timing.last(now); p.judged.After(before) {
			p.judged = before
		}
	}
}

// keepClock looks at the database's clock from time to time, as long as this sidecar leads.
func (e *Engine) keepClock() {
	e.after(clockEvery, func() {
		e.lookAtClock()
		e.keepClock()
	})
}

func (e *Engine) lookAtClock() {
	if e.isClockRead || e.isDeposed || e.draining || !e.isClockKnown {
		return
	}
	e.isClockRead = true
	e.start(func(ctx context.Context) {
		c, trip, err := e.readClock(ctx)
		e.do(func() {
			e.isClockRead = false
			switch {
			case err != nil:
				e.config.Log.Warn("the database's clock is not known, trying again in a minute", "error", err)
			case trip <= clockTrip:
				e.setClock(c)
			}
		})
	})
}

// noteTime looks at the clock where a row is from a time that has not come yet.
func (e *Engine) noteTime(acceptedAt time.Time) {
	if e.isClockKnown && !e.isClockRead && acceptedAt.Sub(e.now()) > clockAhead {
		e.lookAtClock()
	}
}

// alarm has the loop run something at a time of the database's clock. It has one timer, whatever it is set
// to, and belongs to the loop.
type alarm struct {
	engine *Engine
	ring   func()
	timer  *time.Timer
	at     time.Time
	isSet  bool
}

// newAlarm returns an alarm that is not set.
func (e *Engine) newAlarm(ring func()) *alarm {
	a := &alarm{engine: e, ring: ring}
	e.alarms = append(e.alarms, a)
	return a
}

// set lets the alarm ring at this time, and at no other.
func (a *alarm) set(at time.Time) {
	if a.isSet && a.at.Equal(at) {
		return
	}
	a.at, a.isSet = at, true
	a.adjust()
}

// adjust reckons anew how long that is from now.
func (a *alarm) adjust() {
	if !a.isSet {
		return
	}
	wait := max(a.at.Sub(a.engine.now()), 0)
	if a.timer == nil {
		a.timer = time.AfterFunc(wait, a.post)
		return
	}
	a.timer.Reset(wait)
}

// post is the timer's: it hands over to the loop. One that was set anew meanwhile rings early, and finds
// nothing due.
func (a *alarm) post() {
	select {
	case a.engine.events <- func() {
		a.isSet = false
		a.ring()
	}:
	case <-a.engine.ctx.Done():
	}
}

// clearAlarms ends every timer.
func (e *Engine) clearAlarms() {
	for _, a := range e.alarms {
		if a.isSet = false; a.timer != nil {
			a.timer.Stop()
		}
	}
}
