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

// buildOwn adds what the child answers by itself: now, id, log, crypto, and console.
func (t *task) buildOwn() error {
	own := []struct {
		name string
		call native
	}{
		{"now", t.now}, {"id", t.newID}, {"log", t.logger("log")},
	}
	for _, f := range own {
		if err := t.ctx.Set(f.name, f.call); err != nil {
			return err
		}
	}
	// crypto and console are made when they are first looked at.
	var crypto, console goja.Value
	lazily := func(kept *goja.Value, build func() *goja.Object) goja.Value {
		return t.vm.ToValue(func(goja.FunctionCall) goja.Value {
			if *kept == nil {
				*kept = build()
			}
			return *kept
		})
	}
	getCrypto := lazily(&crypto, t.buildCrypto)
	no, yes := goja.FLAG_FALSE, goja.FLAG_TRUE
	global := t.vm.GlobalObject()
	if err := t.ctx.DefineAccessorProperty("crypto", getCrypto, nil, yes, yes); err != nil {
		return err
	}
	if err := global.DefineAccessorProperty("crypto", getCrypto, nil, yes, no); err != nil {
		return err
	}
	return global.DefineAccessorProperty("console", lazily(&console, t.buildConsole), nil, yes, no)
}

func (t *task) now(goja.FunctionCall) goja.Value {
	return t.vm.ToValue(t.moment().Format("2006-01-02T15:04:05.000000Z"))
}

func (t *task) newID(goja.FunctionCall) goja.Value { return t.vm.ToValue(t.random.derived()) }

func (t *task) buildConsole() *goja.Object {
	o := t.vm.NewObject()
	for _, name := range []string{"log", "info", "debug", "warn", "error"} {
		level := name
		if name == "info" || name == "debug" {
			level = "log"
		}
		_ = o.Set(name, t.logger(level)) // a fresh object takes any property
	}
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
		text := strings.ReplaceAll(line.String(), "\x00", "\uFFFD")
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

func (t *task) buildCrypto() *goja.Object {
	o := t.vm.NewObject()
	makeBytes := func(b []byte) goja.Value {
		v, err := t.vm.New(t.vm.Get("Uint8Array"), t.vm.ToValue(t.vm.NewArrayBuffer(b)))
		if err != nil {
			panic(err)
		}
		return v
	}
	for name, f := range map[string]native{
		"blake3": func(c goja.FunctionCall) goja.Value {
			sum := blake3.Sum256(t.bytesOf(c.Argument(0), "blake3"))
			return makeBytes(sum[:])
		},
		"hex": func(c goja.FunctionCall) goja.Value {
			return t.vm.ToValue(hex.EncodeToString(t.bytesOf(c.Argument(0), "hex")))
		},
		"toU8": func(c goja.FunctionCall) goja.Value {
			b, err := hex.DecodeString(c.Argument(0).String())
			if err != nil {
				panic(t.vm.NewTypeError("toU8 needs hex text"))
			}
			return makeBytes(b)
		},
		"verify": func(c goja.FunctionCall) goja.Value {
			sig, hash := t.bytesOrHex(c.Argument(0)), t.bytesOrHex(c.Argument(1))
			pub := t.bytesOrHex(c.Argument(2))
			return t.vm.ToValue(edwards.Verify(pub, hash, sig))
		},
		"randomUUID": func(goja.FunctionCall) goja.Value { return t.vm.ToValue(t.random.uuid4()) },
	} {
		_ = o.Set(name, f) // a fresh object takes any property
	}
	return o
}

var (
	bytesType  = reflect.TypeFor[[]byte]()
	bufferType = reflect.TypeFor[goja.ArrayBuffer]()
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
