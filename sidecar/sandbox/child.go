package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

const stderrBytes = 8 << 10 // of what a dying child says; the reason stands first

// child is the parent's view of one process:
//
//	starting ─hello─► ready ─► gone
//	    └──────────────────────►┘
//
// One goroutine reads its frames until the wire ends, then reaps it, tells its sessions and closes gone.
type child struct {
	kernel bool
	cmd    *exec.Cmd
	link   io.ReadWriteCloser
	wire   *frameWriter
	errors *headBuffer
	ready  chan struct{} // closed by the hello frame
	gone   chan struct{} // closed when the process is reaped and every session is told
	walls  []Wall        // set before ready closes
	apart  Wall          // whether it has namespaces of its own
	tenant string        // of the last run; owned by whoever took the child from the pool

	mu       sync.Mutex
	sessions map[uint32]*session
	known    *recent[struct{}]
	next     uint32
	end      *Error // why it is gone; set before gone closes

	longest atomic.Int64 // frame body that a session allows the child to send
}

// startChild starts a process on the starter's thread. The caller owns it and must kill it.
func startChild(s *starter, o Options, kernel bool) (*child, error) {
	kind, memory := "code", DefaultLimits().MemoryBytes
	if kernel {
		kind, memory = "kernel", o.HostMemoryBytes
	}
	c := &child{
		kernel:   kernel,
		errors:   &headBuffer{limit: stderrBytes},
		ready:    make(chan struct{}),
		gone:     make(chan struct{}),
		sessions: map[uint32]*session{},
		known:    newRecent[struct{}](),
	}
	c.longest.Store(frameSlack)
	link, given, err := newLink()
	if err != nil {
		return nil, fmt.Errorf("make wire: %w", err)
	}
	c.link, c.wire = link, &frameWriter{w: link}
	c.cmd, c.apart, err = s.start(func(apart bool) *exec.Cmd {
		cmd := exec.Command(o.Executable, ChildArg, kind, strconv.FormatInt(memory, 10))
		cmd.Stdin, cmd.Stdout, cmd.Stderr = given[0], given[1], c.errors
		cmd.Env = []string{"TZ=UTC"}
		cmd.Dir = "/"
		cmd.SysProcAttr = childAttributes(apart)
		cmd.WaitDelay = startTimeout // for standard error, should anything else hold it
		return cmd
	})
	for _, f := range given {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start sandbox child %s: %w", o.Executable, err), link.Close())
	}
	go c.read()
	return c, nil
}

// newLink makes the wire: two pipes, the child's standard input and output. A socket would do, but each read
// on it also wakes the poller of the side that wrote (EPOLLOUT).
func newLink() (link io.ReadWriteCloser, given [2]*os.File, err error) {
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, given, err
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, given, errors.Join(err, inRead.Close(), inWrite.Close())
	}
	return pipes{outRead, inWrite}, [2]*os.File{inRead, outWrite}, nil
}

type pipes struct {
	io.ReadCloser
	out *os.File
}

func (p pipes) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p pipes) Close() error                { return errors.Join(p.ReadCloser.Close(), p.out.Close()) }

// kill ends the process. gone closes soon after.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may be dead already
}

// busy reports whether it has a run.
func (c *child) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions) > 0
}

func (c *child) alive() bool {
	select {
	case <-c.gone:
		return false
	default:
		return true
	}
}

// awaitReady returns nil when the child has said hello.
func (c *child) awaitReady(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	default:
	}
	select {
	case <-c.ready:
		return nil
	case <-c.gone:
		return fmt.Errorf("start sandbox child: %s", c.end.Message)
	case <-ctx.Done():
		return fmt.Errorf("await sandbox child: %w", ctx.Err())
	}
}

func (c *child) read() {
	r := bufio.NewReaderSize(c.link, 64<<10)
	for {
		f, err := readFrame(r, func() int { return int(c.longest.Load()) })
		if err != nil {
			break // the end of the wire, or a frame that no honest child sends
		}
		if !c.handle(f) {
			break
		}
	}
	c.kill()
	_ = c.cmd.Wait() // its text is in ProcessState, and read there
	_ = c.link.Close()
	c.mu.Lock()
	c.end = verdict(c.cmd.ProcessState, c.errors.text())
	list := c.sessions
	c.sessions = map[uint32]*session{}
	c.mu.Unlock()
	for _, s := range list {
		s.orphaned(c.end, len(list) == 1)
	}
	close(c.gone)
}

// handle reports false for a frame that breaks the protocol.
func (c *child) handle(f frame) bool {
	if f.kind == frameHello {
		select {
		case <-c.ready:
			return false
		default:
		}
		walls, ok := decodeWalls(f.body)
		c.walls = append([]Wall{c.apart}, walls...)
		close(c.ready)
		return ok
	}
	c.mu.Lock()
	s := c.sessions[f.run]
	if f.kind == frameResult {
		delete(c.sessions, f.run)
	}
	c.mu.Unlock()
	if s == nil {
		return true // it was given up
	}
	switch f.kind {
	case frameNeed:
		s.needsSource()
		return true
	case frameCall:
		m, ok := decodeCall(f.body)
		return ok && s.called(m)
	case framePark:
		m, ok := decodePark(f.body)
		if ok {
			s.parked(m)
		}
		return ok
	case frameWake:
		return len(f.body) == 0 && s.woke()
	case frameResult:
		m, ok := decodeOutcome(f.body)
		if !ok {
			s.orphaned(&Error{Code: CodeCrash, Message: "the child sent a malformed result"}, true)
			return false
		}
		s.ended(m)
		return true
	}
	return false
}

// verdict reads the code out of a process's last words. A child is only ever killed by its parent, by the
// kernel for want of memory, or by somebody with the right to.
func verdict(state *os.ProcessState, said string) *Error {
	switch {
	case state != nil && state.ExitCode() == exitMemory,
		strings.Contains(said, "out of memory"), strings.Contains(said, "cannot allocate memory"),
		// The collector of Go 1.26 does not check what it gets from mmap. Nothing else in a child is unsafe.
		strings.Contains(said, "SIGSEGV") && strings.Contains(said, "runtime/mgc"):
		return &Error{Code: CodeMemory, Message: "the memory limit was reached"}
	case state != nil && state.ExitCode() == exitTimeout:
		return &Error{Code: CodeTimeout, Message: "a native function did not come back"}
	case strings.Contains(said, "stack exceeds"), strings.Contains(said, "stack overflow"):
		return &Error{Code: CodeStack, Message: "a native function or a parser nested too deep"}
	}
	text := "the child ended"
	if state != nil {
		text += ": " + state.String()
	}
	if first, _, _ := strings.Cut(strings.TrimSpace(said), "\n"); first != "" {
		text += ": " + first
	}
	return &Error{Code: CodeCrash, Message: cut(text)}
}

// headBuffer keeps the first bytes written to it and swallows the rest.
type headBuffer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	limit int
}

// Write keeps what fits and never fails.
func (b *headBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := b.limit - b.buf.Len(); left > 0 {
		b.buf.Write(p[:min(left, len(p))])
	}
	return len(p), nil
}

func (b *headBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
