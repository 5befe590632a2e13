package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
)

const (
	exitMemory   = 77       // the heap watchdog ended the child
	exitProtocol = 78       // the parent's frames make no sense
	exitTimeout  = 79       // a native function did not come back after the limit
	gcPercent    = 400      // collect rarely while the heap is small; the memory limit takes over when it is not
	maxGoStack   = 32 << 20 // bytes of one goroutine's stack; goja's parsers recurse in Go
	hostShare    = 4        // one of so many processors is the kernel host's
	wornHeap     = 64 << 20 // a code worker that grew beyond this asks to be replaced
)

// Main is the life of a child: it raises the walls, says hello and serves runs until the parent is gone. It
// never returns. os.Args are the program, ChildArg, "code" or "kernel", and the memory limit in bytes.
func Main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "sandbox-child is started by the sidecar only")
		os.Exit(exitProtocol)
	}
	memory, err := strconv.ParseInt(os.Args[3], 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, "parse memory limit:", err)
		os.Exit(exitProtocol)
	}
	kernel := os.Args[2] == "kernel"
	debug.SetMaxStack(maxGoStack)
	debug.SetGCPercent(gcPercent)
	if !kernel {
		// One script, one thread: handing over to a second one costs 50 µs a run. The watchdog then waits
		// for Go's preemption (10 ms); RLIMIT_DATA bounds what may happen until then.
		runtime.GOMAXPROCS(1)
	} else {
		// Kernels hand work over and wait: a second thread for them is woken more often than it is of use.
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0)/hostShare, 1))
	}
	in, out, walls, err := enclose(kernel, memory)
	if err != nil {
		fmt.Fprintln(os.Stderr, "enclose child:", err)
		os.Exit(exitProtocol)
	}
	s := &server{
		kernel:   kernel,
		wire:     &frameWriter{w: out},
		programs: newPrograms(),
		tasks:    map[uint32]*task{},
		watch:    newWatchdog(),
	}
	s.watch.limit(memory)
	if err := s.hello(walls); err == nil {
		s.serve(bufio.NewReaderSize(in, 64<<10))
	}
	os.Exit(0)
}

// server is a child: one reader that hands frames to tasks, each of which is a goroutine with a runtime.
type server struct {
	kernel   bool
	wire     *frameWriter
	programs *programs
	preludes preludePrograms
	watch    *watchdog

	mu    sync.Mutex
	tasks map[uint32]*task
}

func (s *server) hello(walls []Wall) error {
	var e encoder
	e.begin(frameHello, 0)
	appendWalls(&e, walls)
	e.end()
	return s.wire.send(e.buf)
}

// serve returns when the parent has closed the wire.
func (s *server) serve(r *bufio.Reader) {
	for {
		f, err := readFrame(r, func() int { return maxToChild })
		if err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "read wire:", err)
			}
			return
		}
		switch f.kind {
		case frameRun:
			m, ok := decodeStart(f.body)
			if !ok {
				os.Exit(exitProtocol)
			}
			s.begin(f.run, m)
		case frameReply:
			m, ok := decodeReply(f.body)
			if !ok {
				os.Exit(exitProtocol)
			}
			if t := s.task(f.run); t != nil {
				t.inbox.put(m)
			}
		case frameGo:
			if t := s.task(f.run); t != nil {
				t.inbox.letGo()
			}
		case frameCancel:
			if t := s.task(f.run); t != nil {
				t.stop(&Error{Code: CodeCancelled, Message: "the run was cancelled"})
			}
		default:
			os.Exit(exitProtocol)
		}
	}
}

func (s *server) begin(id uint32, m start) {
	var source *compiled
	if m.hasSource {
		source = s.programs.offer(m.key, m.program, m.entry)
	} else if source = s.programs.find(m.key); source == nil {
		var e encoder
		e.begin(frameNeed, id)
		e.end()
		_ = s.wire.send(e.buf) // a closed wire ends serve
		return
	}
	if !s.kernel {
		s.watch.limit(m.limits.MemoryBytes)
	}
	t := newTask(s, id, m, source)
	s.mu.Lock()
	s.tasks[id] = t
	s.mu.Unlock()
	go s.finish(t)
}

func (s *server) finish(t *task) {
	o := t.execute()
	s.mu.Lock()
	delete(s.tasks, t.id)
	s.mu.Unlock()
	if !s.kernel && s.watch.peak() > wornHeap {
		o.worn = true
	}
	t.out.buf = append(t.out.buf[:0], t.unsent()...)
	appendOutcome(&t.out, t.id, o)
	_ = s.wire.send(t.out.buf) // a closed wire ends serve
}

func (s *server) task(id uint32) *task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks[id]
}

// inbox holds the replies that a task has not taken yet. The reader never waits for it; it is bounded by the
// number of calls, since each call has one reply.
type inbox struct {
	mu      sync.Mutex
	waiting []reply
	isFree  bool          // the parent lets the task go on
	bell    chan struct{} // one place: rung when something changed
}

func (b *inbox) put(r reply) {
	b.mu.Lock()
	b.waiting = append(b.waiting, r)
	b.mu.Unlock()
	b.ring()
}

func (b *inbox) letGo() {
	b.mu.Lock()
	b.isFree = true
	b.mu.Unlock()
	b.ring()
}

// mayGo reports, once, that the parent lets the task go on.
func (b *inbox) mayGo() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	isFree := b.isFree
	b.isFree = false
	return isFree
}

func (b *inbox) ring() {
	select {
	case b.bell <- struct{}{}:
	default:
	}
}

func (b *inbox) any() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) > 0
}

func (b *inbox) take() []reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.waiting
	b.waiting = nil
	return list
}
