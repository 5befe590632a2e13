package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Deferred calls are done one after another, in their order, and most of their answers are never looked at:
// an answer stays here, not even encoded, until the child says that the script looks at it.

// LaterFunc does what a deferred call asks for, and returns how to encode the answer. That is called at most
// once, maybe long after, or never. Else it is as HostFunc.
type LaterFunc func(ctx context.Context, name string, args json.RawMessage) (
	answer func() (json.RawMessage, error), err error)

// later is what a session knows of its deferred calls. It belongs to the session's mutex.
type later struct {
	queue   []queued              // calls that Host was not asked for
	isBusy  bool                  // a goroutine works on the queue
	held    map[uint32]func()     // by call: sends its answer
	looked  uint32                // the call whose answer the script waits for, or 0
	unseen  []uint32              // those that the script never looked at, as the child says in the end
	refused map[uint32]*HostError // those that Host refused
}

type queued struct {
	call
	crowded bool
}

// defers queues a deferred call. The caller has counted it in s.hosts.
func (s *session) defers(c call, crowded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.later.queue = append(s.later.queue, queued{c, crowded})
	if !s.later.isBusy {
		s.later.isBusy = true
		go s.drainLater()
	}
}

// drainLater ends when the queue is empty.
func (s *session) drainLater() {
	for {
		s.mu.Lock()
		if len(s.later.queue) == 0 {
			s.later.isBusy = false
			s.mu.Unlock()
			return
		}
		c := s.later.queue[0]
		s.later.queue = s.later.queue[1:]
		s.mu.Unlock()
		s.answerLater(c.call, c.crowded)
		s.hosts.Done()
	}
}

// answerLater asks Host, and keeps what it says.
func (s *session) answerLater(c call, crowded bool) {
	answer, at, err := s.askLater(c, crowded)
	s.closed(c)
	c.args = nil // whoever looks needs them no more
	m, isAnswer := s.replyTo(c, nil, at, err)
	if !isAnswer {
		return
	}
	send := func() {
		if m.failed == nil {
			value, err := answer()
			if m, isAnswer = s.replyTo(c, value, at, err); !isAnswer {
				return
			}
		}
		s.reply(c, m)
	}
	s.mu.Lock()
	if m.failed != nil {
		if s.later.refused == nil {
			s.later.refused = map[uint32]*HostError{}
		}
		s.later.refused[c.id] = m.failed
	}
	if s.later.looked != c.id {
		if s.later.held == nil {
			s.later.held = map[uint32]func(){}
		}
		s.later.held[c.id] = send
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	send()
}

// askLater is ask for a deferred call.
func (s *session) askLater(c call, crowded bool) (answer func() (json.RawMessage, error), at time.Duration,
	err error) {
	if s.run.Later == nil || s.run.Replay != nil || crowded {
		value, at, err := s.ask(c, crowded)
		return func() (json.RawMessage, error) { return value, nil }, at, err
	}
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("answer %s: panic: %v", c.name, x)
		}
	}()
	answer, err = s.run.Later(s.ctx, c.name, c.args)
	return answer, time.Since(s.begun), err
}

// looks notes which deferred answer the child waits for. The caller holds s.mu.
func (s *session) looks(id uint32) {
	s.later.looked = id
	if send := s.later.held[id]; send != nil && !s.settled {
		delete(s.later.held, id)
		s.hosts.Go(send)
	}
}

// judged is the result, after the refusals that the script did not wait to see. The caller holds s.mu.
func (s *session) judged() Result {
	if len(s.later.unseen) == 0 || s.result.Err != nil {
		return s.result
	}
	s.mu.Unlock()
	s.hosts.Wait() // they came before the outcome, so they have been started
	s.mu.Lock()
	s.result.Cause = s.cause
	slices.Sort(s.later.unseen)
	for _, id := range s.later.unseen {
		if refusal := s.later.refused[id]; refusal != nil {
			s.result.Output, s.result.Err = nil, &Error{Code: refusal.Code, Message: refusal.Message}
			break
		}
	}
	return s.result
}
