package sandbox

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A frame is: length of the rest (uint32), kind (byte), run (uint32), body. Integers are little endian.
// Bodies hold JSON as raw bytes, never as a string within JSON.
//
// The reader on either side never waits for a writer of its own side, so two full sockets cannot
// block each other for ever.
type frame struct {
	kind frameKind
	run  uint32
	body []byte
}

type frameKind byte

const (
	frameRun    frameKind = 'r' // parent: start
	frameReply  frameKind = 'p' // parent: reply
	frameCancel frameKind = 'x' // parent: empty
	frameHello  frameKind = 'h' // child: ready; body names the walls that stand
	frameNeed   frameKind = 'n' // child: the program is not cached, send the run with its source
	frameCall   frameKind = 'c' // child: call
	framePark   frameKind = 'w' // child: park
	frameWake   frameKind = 'u' // child: empty
	frameGo     frameKind = 'g' // parent: empty
	frameResult frameKind = 'd' // child: outcome
)

const (
	frameHead  = 9        // bytes before the body
	maxToChild = 64 << 20 // a child refuses longer frames
	frameSlack = 64 << 10 // names, codes and messages beside the bounded part of a frame from a child
)

var errFrameSize = errors.New("frame length is out of bounds")

// readFrame reads one frame whose body has at most limit bytes, as limit says once the head is there. The
// body is freshly allocated.
func readFrame(r *bufio.Reader, limit func() int) (frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	length := int64(binary.LittleEndian.Uint32(head[:4])) - (frameHead - 4)
	if length < 0 || length > int64(limit()) {
		return frame{}, fmt.Errorf("read frame %q of %d bytes: %w", head[4], length, errFrameSize)
	}
	f := frame{kind: frameKind(head[4]), run: binary.LittleEndian.Uint32(head[5:])}
	if length > 0 {
		f.body = make([]byte, length)
		if _, err := io.ReadFull(r, f.body); err != nil {
			return frame{}, err
		}
	}
	return f, nil
}

// encoder appends frames and their fields to a buffer.
type encoder struct {
	buf   []byte
	start int
}

func (e *encoder) begin(kind frameKind, run uint32) {
	e.start = len(e.buf)
	e.buf = append(e.buf, 0, 0, 0, 0, byte(kind))
	e.buf = binary.LittleEndian.AppendUint32(e.buf, run)
}

func (e *encoder) end() {
	binary.LittleEndian.PutUint32(e.buf[e.start:], uint32(len(e.buf)-e.start-4))
}

func (e *encoder) byte(b byte)    { e.buf = append(e.buf, b) }
func (e *encoder) uint(n uint64)  { e.buf = binary.AppendUvarint(e.buf, n) }
func (e *encoder) int(n int64)    { e.buf = binary.AppendVarint(e.buf, n) }
func (e *encoder) raw(b []byte)   { e.buf = append(e.buf, b...) }
func (e *encoder) bytes(b []byte) { e.uint(uint64(len(b))); e.raw(b) }
func (e *encoder) text(s string)  { e.uint(uint64(len(s))); e.buf = append(e.buf, s...) }

func (e *encoder) texts(list []string) {
	e.uint(uint64(len(list)))
	for _, s := range list {
		e.text(s)
	}
}

// decoder takes fields off a body. After the first fault every field is zero and bad is true.
type decoder struct {
	body []byte
	bad  bool
}

func (d *decoder) fail() { d.bad, d.body = true, nil }

func (d *decoder) byte() byte {
	if len(d.body) == 0 {
		d.fail()
		return 0
	}
	b := d.body[0]
	d.body = d.body[1:]
	return b
}

func (d *decoder) uint() uint64 {
	n, size := binary.Uvarint(d.body)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.body = d.body[size:]
	return n
}

func (d *decoder) int() int64 {
	n, size := binary.Varint(d.body)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.body = d.body[size:]
	return n
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.body)) {
		d.fail()
		return nil
	}
	b := d.body[:n:n]
	d.body = d.body[n:]
	return b
}

func (d *decoder) bytes() []byte { return d.take(d.uint()) }
func (d *decoder) text() string  { return string(d.bytes()) }

// count returns the length of a list whose items take at least one byte each.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.body)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) texts() []string {
	list := make([]string, d.count())
	for i := range list {
		list[i] = d.text()
	}
	return list
}

// done reports whether every byte was taken and none was missing.
func (d *decoder) done() bool { return !d.bad && len(d.body) == 0 }

// frameWriter sends whole frames, one write for each call, from many goroutines.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *frameWriter) send(frames []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.w.Write(frames)
	return err
}
