package sandbox

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"lukechampine.com/blake3"
)

// Call is the record of one host call. A run's calls stand in the order in which the script made them.
type Call struct {
	Name string `json:"name"`
	// Hash is HashCall of the call as the script saw it.
	Hash string `json:"hash"`
	// AtUs is the moment at which the answer was handed to the script, in microseconds since the run's
	// start; nil where the run ended before.
	AtUs *int64 `json:"at_us,omitempty"`
	// Answer is the JSON text, as a text because jsonb would change it. nil: it was not kept.
	Answer *string `json:"answer,omitempty"`
	// Error is the refusal, in place of an answer.
	Error *HostError `json:"error,omitempty"`
}

// ReplayFunc answers the call-th host call of a run (from 1) as a recorded run had it answered, and says at
// which moment; a moment below zero: never. It stands in for Host, under the same rules.
type ReplayFunc func(call int, name string, args json.RawMessage) (json.RawMessage, time.Duration, error)

// HashCall is the hex BLAKE3 of a host call: its name, the JSON of its arguments, and its answer, each with
// its length before it. A refusal's answer is its JSON, that of a call without an answer is empty.
func HashCall(name string, args, answer []byte) string {
	hash := blake3.New(32, nil)
	writeParts(hash, []byte(name), args)
	return hashAnswer(hash, answer)
}

func writeParts(hash *blake3.Hasher, parts ...[]byte) {
	for _, part := range parts {
		// A blake3 hasher never fails to write.
		_, _ = fmt.Fprintf(hash, "%d:", len(part))
		_, _ = hash.Write(part)
	}
}

// hashAnswer ends a hash that name and arguments are in, and leaves it as it is: a hasher is a plain value.
func hashAnswer(hash *blake3.Hasher, answer []byte) string {
	ended := *hash
	writeParts(&ended, answer)
	return hex.EncodeToString(ended.Sum(nil))
}

// recorder makes the record of a run's calls. It keeps answers as they come, as long as they fit.
type recorder struct {
	mu    sync.Mutex
	left  int // bytes
	calls map[uint32]*recorded
}

type recorded struct {
	Call
	asked string         // the hash without an answer
	hash  *blake3.Hasher // until there is one
}

// newRecorder returns nil, which records nothing, where bytes is 0.
func newRecorder(bytes int) *recorder {
	if bytes == 0 {
		return nil
	}
	return &recorder{left: bytes, calls: map[uint32]*recorded{}}
}

func (r *recorder) asked(c call) {
	if r == nil {
		return
	}
	hash := blake3.New(32, nil)
	writeParts(hash, []byte(c.name), c.args)
	asked := hashAnswer(hash, nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[c.id] = &recorded{Call: Call{Name: c.name}, asked: asked, hash: hash}
}

func (r *recorder) answered(c call, m reply) {
	if r == nil {
		return
	}
	answer := m.value
	if m.failed != nil {
		answer, _ = json.Marshal(m.failed) // two texts: never fails
	}
	r.mu.Lock()
	kept := r.calls[c.id]
	r.mu.Unlock()
	hash := hashAnswer(kept.hash, answer) // only this goroutine answers this call
	r.mu.Lock()
	defer r.mu.Unlock()
	kept.Hash, kept.Error, kept.hash = hash, m.failed, nil
	if m.failed == nil && len(answer) <= r.left {
		r.left -= len(answer)
		kept.Answer = new(string(answer))
	}
}

// record returns the calls, given the moments at which the script saw their answers.
func (r *recorder) record(arrived []time.Duration) []Call {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Call
	for id := uint32(1); int(id) <= len(r.calls); id++ {
		kept := r.calls[id]
		if kept == nil {
			break // an honest child leaves no gap
		}
		if int(id) > len(arrived) || arrived[id-1] < 0 || kept.Hash == "" {
			list = append(list, Call{Name: kept.Name, Hash: kept.asked})
			continue
		}
		kept.AtUs = new(arrived[id-1].Microseconds())
		list = append(list, kept.Call)
	}
	return list
}
