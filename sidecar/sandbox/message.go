package sandbox

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// programKey names a compiled program in the cache of a child.
type programKey [sha256.Size]byte

func keyOf(p Program, entry Entry) programKey {
	h := sha256.New()
	h.Write([]byte{byte(entry), byte(len(p.Language))})
	h.Write([]byte(p.Language))
	h.Write([]byte(p.Source))
	var key programKey
	h.Sum(key[:0])
	return key
}

// start is a run on its way to the child.
type start struct {
	key         programKey
	hasSource   bool
	program     Program
	entry       Entry
	now         time.Time
	replay      bool
	seed        [32]byte
	limits      Limits
	sync, async []string
	deferred    []string
	globalNames []string
	globals     [][]byte
	lazyNames   []string
	lazy        [][]byte
	data        []byte
}

func appendStart(e *encoder, id uint32, key programKey, r *Run, withSource bool) {
	e.begin(frameRun, id)
	e.raw(key[:])
	if withSource {
		e.byte(1)
		e.text(r.Program.Source)
	} else {
		e.byte(0)
	}
	e.text(r.Program.Name)
	e.text(r.Program.Language)
	e.byte(byte(r.Entry))
	e.int(r.Now.UnixNano())
	e.byte(flag(r.Replay != nil))
	e.raw(r.Seed[:])
	e.int(int64(r.Limits.Timeout))
	e.int(int64(r.Limits.IOTimeout))
	e.int(r.Limits.MemoryBytes)
	for _, n := range []int{r.Limits.StackFrames, r.Limits.OutputBytes, r.Limits.LogBytes,
		r.Limits.FrameBytes, r.Limits.HostCalls} {
		e.int(int64(n))
	}
	e.texts(r.SyncCalls)
	e.texts(r.AsyncCalls)
	e.texts(r.DeferredCalls)
	for _, values := range []map[string]json.RawMessage{r.Globals, r.Lazy} {
		e.uint(uint64(len(values)))
		for _, name := range slices.Sorted(maps.Keys(values)) {
			e.text(name)
			e.bytes(values[name])
		}
	}
	e.bytes(r.Data)
	e.end()
}

func decodeStart(body []byte) (start, bool) {
	d := decoder{body: body}
	var s start
	copy(s.key[:], d.take(uint64(len(s.key))))
	if d.byte() == 1 {
		s.hasSource = true
		s.program.Source = d.text()
	}
	s.program.Name = d.text()
	s.program.Language = d.text()
	s.entry = Entry(d.byte())
	s.now = time.Unix(0, d.int()).UTC()
	s.replay = d.byte() == 1
	copy(s.seed[:], d.take(uint64(len(s.seed))))
	s.limits.Timeout = time.Duration(d.int())
	s.limits.IOTimeout = time.Duration(d.int())
	s.limits.MemoryBytes = d.int()
	for _, n := range []*int{&s.limits.StackFrames, &s.limits.OutputBytes, &s.limits.LogBytes,
		&s.limits.FrameBytes, &s.limits.HostCalls} {
		*n = int(d.int())
	}
	s.sync, s.async, s.deferred = d.texts(), d.texts(), d.texts()
	for range d.count() {
		s.globalNames = append(s.globalNames, d.text())
		s.globals = append(s.globals, d.bytes())
	}
	for range d.count() {
		s.lazyNames = append(s.lazyNames, d.text())
		s.lazy = append(s.lazy, d.bytes())
	}
	s.data = d.bytes()
	return s, d.done()
}

// call is a host call on its way to the parent; args is a JSON array.
type call struct {
	id   uint32
	name string
	args []byte
}

func appendCall(e *encoder, run uint32, c call) {
	e.begin(frameCall, run)
	e.uint(uint64(c.id))
	e.text(c.name)
	e.raw(c.args)
	e.end()
}

func decodeCall(body []byte) (call, bool) {
	d := decoder{body: body}
	c := call{id: uint32(d.uint()), name: d.text()}
	c.args = d.body
	return c, !d.bad
}

// reply answers a call: a JSON value, or an error. at is its moment, counted from the run's start; below
// zero the call is never answered.
type reply struct {
	id     uint32
	at     time.Duration
	failed *HostError
	value  []byte
}

func appendReply(e *encoder, run uint32, r reply) {
	e.begin(frameReply, run)
	e.uint(uint64(r.id))
	e.int(int64(r.at))
	if r.failed != nil {
		e.byte(1)
		e.text(r.failed.Code)
		e.text(r.failed.Message)
	} else {
		e.byte(0)
		e.raw(r.value)
	}
	e.end()
}

func decodeReply(body []byte) (reply, bool) {
	d := decoder{body: body}
	r := reply{id: uint32(d.uint()), at: time.Duration(d.int())}
	if d.byte() == 1 {
		r.failed = &HostError{Code: d.text(), Message: d.text()}
		return r, d.done()
	}
	r.value = d.body
	return r, !d.bad
}

// park says that the task waits, having seen so many replies and used so much JavaScript time. One that lends
// its place goes on after a reply or, where it sends wake, after go.
type park struct {
	seen  uint64
	used  time.Duration
	lends bool
	looks uint32 // the deferred call whose answer the script wants to see, or 0
}

func appendPark(e *encoder, run uint32, p park) {
	e.begin(framePark, run)
	e.uint(p.seen)
	e.int(int64(p.used))
	e.byte(flag(p.lends))
	e.uint(uint64(p.looks))
	e.end()
}

func decodePark(body []byte) (park, bool) {
	d := decoder{body: body}
	p := park{seen: d.uint(), used: time.Duration(d.int()), lends: d.byte() == 1,
		looks: uint32(d.uint())}
	return p, d.done()
}

// appendWake says that the task runs again although no answer came: a timer is due.
func appendWake(e *encoder, run uint32) {
	e.begin(frameWake, run)
	e.end()
}

// outcome is a run's end as the child tells it.
type outcome struct {
	worn    bool // the child wants to be replaced
	used    time.Duration
	output  []byte
	failed  *Error
	logs    []Log
	arrived []time.Duration // by call: the moment at which its answer was handed to the script, or neverSeen
	unseen  []uint32        // deferred calls whose answer the script never looked at
}

func appendOutcome(e *encoder, run uint32, o outcome) {
	e.begin(frameResult, run)
	e.byte(flag(o.worn))
	e.int(int64(o.used))
	e.byte(flag(o.failed != nil))
	if o.failed != nil {
		e.text(o.failed.Code)
		e.text(o.failed.Message)
		e.int(int64(o.failed.Line))
		e.int(int64(o.failed.Column))
		e.text(o.failed.Stack)
	}
	e.uint(uint64(len(o.logs)))
	for _, l := range o.logs {
		e.text(l.Level)
		e.text(l.Message)
		e.int(l.AtUs)
	}
	e.uint(uint64(len(o.arrived)))
	for _, at := range o.arrived {
		e.int(int64(at))
	}
	e.uint(uint64(len(o.unseen)))
	for _, id := range o.unseen {
		e.uint(uint64(id))
	}
	e.raw(o.output)
	e.end()
}

func decodeOutcome(body []byte) (outcome, bool) {
	d := decoder{body: body}
	o := outcome{worn: d.byte() == 1, used: time.Duration(d.int())}
	if d.byte() == 1 {
		o.failed = &Error{Code: d.text(), Message: d.text(), Line: int(d.int()), Column: int(d.int()),
			Stack: d.text()}
	}
	for range d.count() {
		o.logs = append(o.logs, Log{Level: d.text(), Message: d.text(), AtUs: d.int()})
	}
	for range d.count() {
		o.arrived = append(o.arrived, time.Duration(d.int()))
	}
	for range d.count() {
		o.unseen = append(o.unseen, uint32(d.uint()))
	}
	o.output = d.body
	return o, !d.bad && (o.failed != nil || len(o.output) > 0)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
