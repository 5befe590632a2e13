package stage0

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// replayAnswers answers the host calls of a repeated run from the record: the call in the same place where it
// is the same, else the first one that is and was not used. What the host makes of a call's arguments alone
// is made again where the record has no such call.
type replayAnswers struct {
	recorded   []sandbox.Call
	visibility string // of the execution
	code       *codeRun

	mu      sync.Mutex
	turn    *sync.Cond // calls are answered in their order
	next    int
	used    []bool
	missing string // why the run cannot be repeated: an answer was not kept
}

func newReplayAnswers(recorded []sandbox.Call, visibility string, code *codeRun) *replayAnswers {
	r := &replayAnswers{recorded: recorded, visibility: visibility, code: code, next: 1,
		used: make([]bool, len(recorded))}
	r.turn = sync.NewCond(&r.mu)
	return r
}

// answer is a sandbox.ReplayFunc.
func (r *replayAnswers) answer(n int, name string, args json.RawMessage) (json.RawMessage, time.Duration,
	error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.next != n {
		r.turn.Wait()
	}
	r.next++
	defer r.turn.Broadcast()

	made, madeErr := r.make(name, args)
	i := r.find(n-1, name, args, made, madeErr)
	if i < 0 {
		if made == nil && madeErr == nil {
			madeErr = &sandbox.HostError{Code: string(span.RunDenied),
				Message: fmt.Sprintf("the record has no answer to %s(%s)", name, clip(string(args), 200))}
		}
		return made, 0, madeErr
	}
	r.used[i] = true
	c := r.recorded[i]
	switch {
	case c.AtUs == nil:
		return nil, -1, nil
	case c.Error != nil:
		return nil, micros(*c.AtUs), c.Error
	case c.Answer != nil:
		return json.RawMessage(*c.Answer), micros(*c.AtUs), nil
	}
	return made, micros(*c.AtUs), madeErr
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// find returns the place of the recorded call that this one is, -1 where there is none.
func (r *replayAnswers) find(place int, name string, args, made json.RawMessage, madeErr error) int {
	order := []int{}
	if place < len(r.recorded) {
		order = append(order, place)
	}
	for i := range r.recorded {
		order = append(order, i)
	}
	for _, i := range order {
		c := r.recorded[i]
		if r.used[i] || c.Name != name {
			continue
		}
		answer := made
		switch {
		case c.AtUs == nil:
			answer = nil
		case c.Error != nil:
			answer, _ = json.Marshal(c.Error) // two texts: never fails
		case c.Answer != nil:
			answer = json.RawMessage(*c.Answer)
		case made == nil && madeErr == nil && i == place:
			r.missing = fmt.Sprintf("the answer to call %d (%s) was not kept: %s", i+1, name, r.why())
			return -1
		}
		if sandbox.HashCall(name, args, answer) == c.Hash {
			return i
		}
	}
	return -1
}

// why says why an answer was not kept.
func (r *replayAnswers) why() string {
	if r.visibility != "private" {
		return "others may read the execution, and only a private one keeps what code has read"
	}
	return fmt.Sprintf("a run keeps %d KiB of answers", recordBytes>>10)
}

// make computes what follows from the arguments alone: the span of insertSpan, unless it fills a bucket, and
// a bucket's id. Its result counts where the record has none.
func (r *replayAnswers) make(name string, args json.RawMessage) (json.RawMessage, error) {
	var list []struct {
		ID *json.RawMessage `json:"id"`
	}
	fills := name == "insertSpan" && json.Unmarshal(args, &list) == nil && len(list) > 0 && list[0].ID != nil
	if fills || name != "insertSpan" && name != "bucket" {
		return nil, nil
	}
	return r.code.host(context.Background(), name, args)
}

// compare sets the verdict.
func (p *Replay) compare(r *recording, recorded *span.RunError, result sandbox.Result) {
	differs := func(what string, before, now any) {
		p.Differences = append(p.Differences, Difference{what, encode(before), encode(now)})
	}
	if recorded == nil && result.Err == nil && !sameJSON(r.execution.Output, result.Output) {
		p.Differences = append(p.Differences, Difference{"output", r.execution.Output, result.Output})
	}
	switch {
	case (recorded == nil) != (p.Error == nil), recorded != nil && !sameJSON(encode(recorded), encode(p.Error)):
		before, now := any(recorded), any(p.Error)
		if recorded == nil {
			before = map[string]any{"output": r.execution.Output}
		}
		if p.Error == nil {
			now = map[string]any{"output": result.Output}
		}
		differs("error", before, now)
	}
	eachPair(r.run.Logs, result.Logs, func(i int, before, now *sandbox.Log) {
		if before == nil || now == nil || *before != *now {
			differs(fmt.Sprintf("log %d", i+1), before, now)
		}
	})
	eachPair(r.run.Calls, result.Calls, func(i int, before, now *sandbox.Call) {
		if before != nil && now != nil && before.Name == now.Name && before.Hash == now.Hash &&
			reflect.DeepEqual(before.AtUs, now.AtUs) {
			return
		}
		names := []string{}
		for _, c := range []*sandbox.Call{before, now} {
			if c != nil && !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
		differs(fmt.Sprintf("call %d (%s)", i+1, strings.Join(names, ", then ")), shownCall(before), shownCall(now))
	})
	p.Verdict = ReplaySame
	if len(p.Differences) > 0 {
		p.Verdict = ReplayDifferent
	}
}

// shownCall is a call as a difference shows it: with its answer as JSON.
func shownCall(c *sandbox.Call) any {
	if c == nil {
		return nil
	}
	shown := map[string]any{"name": c.Name, "hash": c.Hash}
	if c.AtUs != nil {
		shown["at_us"] = *c.AtUs
	}
	if c.Answer != nil {
		shown["answer"] = json.RawMessage(*c.Answer)
	}
	if c.Error != nil {
		shown["error"] = c.Error
	}
	return shown
}

// eachPair calls f with what two lists have in each place, nil past the end of one.
func eachPair[T any](a, b []T, f func(i int, a, b *T)) {
	for i := range max(len(a), len(b)) {
		var x, y *T
		if i < len(a) {
			x = &a[i]
		}
		if i < len(b) {
			y = &b[i]
		}
		f(i, x, y)
	}
}

// encode is nil for what has no JSON form, or is nil itself.
func encode(value any) json.RawMessage {
	encoded, err := json.Marshal(value)
	if err != nil || string(encoded) == "null" {
		return nil
	}
	return encoded
}

// sameJSON compares values: jsonb has changed the order of keys and the form of numbers.
func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	if present(a) != nil && json.Unmarshal(a, &x) != nil || present(b) != nil && json.Unmarshal(b, &y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}
