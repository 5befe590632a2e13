package sandbox

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"

	"github.com/dop251/goja"
	"lukechampine.com/blake3"

	"github.com/loglineos/loglineos/sidecar/edwards"
)

const lineOverhead = 32 // bytes that a log line counts beside its text

// buildOwn adds what the child answers by itself: now, id, log and crypto.
func (t *task) buildOwn() error {
	own := []struct {
		name string
		call native
	}{
		{"now", t.now}, {"id", t.newID}, {"log", t.logger("log")},
	}
	for _, f := range own {
		if err := define(t.ctx, f.name, t.native(f.name, f.call)); err != nil {
			return err
		}
	}
	// ctx.crypto is made when it is first looked at.
	getCrypto := t.vm.ToValue(func(goja.FunctionCall) goja.Value { return t.cryptoObject() })
	yes := goja.FLAG_TRUE
	return t.ctx.DefineAccessorProperty("crypto", getCrypto, nil, yes, yes)
}

func (t *task) now(goja.FunctionCall) goja.Value {
	return t.vm.ToValue(t.moment().Format("2006-01-02T15:04:05.000000Z"))
}

func (t *task) newID(goja.FunctionCall) goja.Value { return t.vm.ToValue(t.random.derived()) }

func (t *task) buildConsole() *goja.Object {
	o := t.vm.NewObject()
	for _, name := range []string{"log", "info", "debug", "warn", "error", "dir", "trace", "table"} {
		level := "log"
		if name == "warn" || name == "error" {
			level = name
		}
		_ = o.Set(name, t.native(name, t.logger(level))) // a fresh object takes any property
	}
	failed := t.logger("error")
	_ = o.Set("assert", t.native("assert", func(c goja.FunctionCall) goja.Value {
		if c.Argument(0).ToBoolean() {
			return goja.Undefined()
		}
		words := []goja.Value{t.vm.ToValue("Assertion failed:")}
		words = append(words, c.Arguments[min(1, len(c.Arguments)):]...)
		return failed(goja.FunctionCall{Arguments: words})
	}))
	return o
}

func (t *task) logger(level string) native {
	return func(c goja.FunctionCall) goja.Value {
		left := t.start.limits.LogBytes - t.logBytes
		var line strings.Builder
		for i, arg := range c.Arguments {
			if i > 0 {
				line.WriteByte(' ')
			}
			if !isObject(arg) {
				line.WriteString(arg.String())
			} else if err := t.logObject(&line, arg, left); err != nil {
				t.raise(err)
			}
			if line.Len() > left {
				break
			}
		}
		if t.logBytes += line.Len() + lineOverhead; t.logBytes > t.start.limits.LogBytes {
			t.stop(&Error{Code: CodeLimitLogs, Message: fmt.Sprintf("%s logs more than %d bytes",
				t.name(), t.start.limits.LogBytes)})
			return goja.Undefined()
		}
		text := t.program.readable(strings.ReplaceAll(line.String(), "\x00", "\uFFFD"))
		t.logs = append(t.logs, Log{Level: level, Message: text, AtUs: t.elapsed.Microseconds()})
		return goja.Undefined()
	}
}

func (t *task) logObject(line *strings.Builder, arg goja.Value, left int) error {
	if o, ok := arg.(*goja.Object); ok && o.ClassName() == "Error" {
		line.WriteString(arg.String())
		return nil
	}
	w := jsonWriter{vm: t.vm, limit: max(left, 0), stopped: &t.stopped, what: "the log line"}
	switch err := w.write(arg).(type) {
	case nil:
		line.Write(w.buf)
	case *Error:
		if e := t.stopped.Load(); e != nil {
			return e
		}
		line.WriteString("[" + err.Message + "]")
		if err.Code == CodeLimitOutput {
			line.WriteString(strings.Repeat(" ", left)) // makes the line too long
		}
	default:
		return err
	}
	return nil
}

// cryptoObject is crypto and ctx.crypto.
func (t *task) cryptoObject() *goja.Object {
	if t.crypto != nil {
		return t.crypto
	}
	o := t.vm.NewObject()
	for _, f := range []struct {
		name string
		call native
	}{
		{"blake3", func(c goja.FunctionCall) goja.Value {
			sum := blake3.Sum256(t.bytesOf(c.Argument(0), "blake3"))
			return t.bytesValue(sum[:])
		}},
		{"hex", func(c goja.FunctionCall) goja.Value {
			return t.vm.ToValue(hex.EncodeToString(t.bytesOf(c.Argument(0), "hex")))
		}},
		{"toU8", func(c goja.FunctionCall) goja.Value {
			b, err := hex.DecodeString(c.Argument(0).String())
			if err != nil {
				panic(t.vm.NewTypeError("toU8 needs hex text"))
			}
			return t.bytesValue(b)
		}},
		{"verify", func(c goja.FunctionCall) goja.Value {
			sig, hash := t.bytesOrHex(c.Argument(0)), t.bytesOrHex(c.Argument(1))
			pub := t.bytesOrHex(c.Argument(2))
			return t.vm.ToValue(edwards.Verify(pub, hash, sig))
		}},
		{"randomUUID", func(goja.FunctionCall) goja.Value { return t.vm.ToValue(t.random.uuid4()) }},
		{"getRandomValues", t.fillRandom},
	} {
		_ = o.Set(f.name, t.native(f.name, f.call)) // a fresh object takes any property
	}
	t.crypto = o
	return o
}

// randomMost is how many bytes one getRandomValues gives, as the standard says.
const randomMost = 65536

// fillRandom fills a typed array of integers from the seed, and returns it.
func (t *task) fillRandom(c goja.FunctionCall) goja.Value {
	view, ok := c.Argument(0).(*goja.Object)
	if !ok || !holdsIntegers(view.ExportType()) {
		panic(t.vm.NewTypeError("getRandomValues needs a typed array of integers"))
	}
	buffer, ok := view.Get("buffer").Export().(goja.ArrayBuffer)
	offset, length := view.Get("byteOffset").ToInteger(), view.Get("byteLength").ToInteger()
	if !ok || offset < 0 || length < 0 || offset+length > int64(len(buffer.Bytes())) {
		panic(t.vm.NewTypeError("getRandomValues needs a typed array of integers"))
	}
	if length > randomMost {
		t.refuseDOM("QuotaExceededError", "getRandomValues gives 65536 bytes at most")
	}
	_, _ = t.random.chacha().Read(buffer.Bytes()[offset : offset+length]) // never fails
	return view
}

func holdsIntegers(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() >= reflect.Int && t.Elem().Kind() <= reflect.Uint64
}

var (
	bytesType  = reflect.TypeFor[[]byte]()
	bufferType = reflect.TypeFor[goja.ArrayBuffer]()
	proxyType  = reflect.TypeFor[goja.Proxy]()
)

// bytesOf returns the bytes of a Uint8Array or ArrayBuffer, or throws a TypeError.
func (t *task) bytesOf(v goja.Value, what string) []byte {
	if o, ok := v.(*goja.Object); ok {
		switch o.ExportType() {
		case bytesType:
			return o.Export().([]byte)
		case bufferType:
			return o.Export().(goja.ArrayBuffer).Bytes()
		}
	}
	panic(t.vm.NewTypeError(what + " needs a Uint8Array"))
}

func (t *task) bytesOrHex(v goja.Value) []byte {
	if goja.IsString(v) {
		b, err := hex.DecodeString(v.String())
		if err != nil {
			panic(t.vm.NewTypeError("verify needs a Uint8Array or hex text"))
		}
		return b
	}
	return t.bytesOf(v, "verify")
}

// randomness is all chance that a run sees: the same seed gives the same numbers and ids.
type randomness struct {
	seed   [32]byte
	millis int64
	ids    uint64
	source *rand.Rand
	stream *rand.ChaCha8
}

func newRandomness(seed [32]byte, now time.Time) *randomness {
	return &randomness{seed: seed, millis: now.UnixMilli()}
}

func (r *randomness) chacha() *rand.ChaCha8 {
	if r.stream == nil {
		r.stream = rand.NewChaCha8(r.seed)
		r.source = rand.New(r.stream)
	}
	return r.stream
}

func (r *randomness) float() float64 {
	r.chacha()
	return r.source.Float64()
}

// derived returns the next UUIDv8: 48 bits of the run's start in milliseconds, then a hash of seed and
// counter.
func (r *randomness) derived() string {
	h := sha256.New()
	h.Write([]byte("ctx.id\x00"))
	h.Write(r.seed[:])
	h.Write(binary.BigEndian.AppendUint64(nil, r.ids))
	r.ids++
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(r.millis)<<16)
	copy(id[6:], h.Sum(nil))
	return formatUUID(id, 8)
}

func (r *randomness) uuid4() string {
	var id [16]byte
	_, _ = r.chacha().Read(id[:]) // never fails
	return formatUUID(id, 4)
}

func formatUUID(id [16]byte, version byte) string {
	id[6] = id[6]&0x0f | version<<4
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
