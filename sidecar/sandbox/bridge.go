package sandbox

import (
	"fmt"
	"strconv"

	"github.com/dop251/goja"
)

const flushBytes = 64 << 10 // calls are sent when a task waits, or when so many bytes have gathered

// build makes ctx and the globals of the fresh runtime.
func (t *task) build(p *program) error {
	vm := t.vm
	vm.SetTimeSource(t.moment)
	vm.SetPromiseRejectionTracker(t.track)
	t.random = newRandomness(t.start.seed, t.start.now)
	vm.SetRandSource(t.random.float)
	t.ctx, t.input = vm.NewObject(), goja.Undefined()
	r := jsonReader{vm: vm, s: string(t.start.data)}
	if err := r.members(func(key string) error {
		v, err := r.value(0)
		if err == nil {
			if key == "input" {
				t.input = v
			}
			err = define(t.ctx, key, v)
		}
		return err
	}); err != nil {
		return fmt.Errorf("parse data: %w", err)
	}
	for i, name := range t.start.globalNames {
		v, err := parseJSON(vm, string(t.start.globals[i]))
		if err != nil {
			return fmt.Errorf("parse global %s: %w", name, err)
		}
		if err := define(vm.GlobalObject(), name, v); err != nil {
			return err
		}
	}
	if err := t.mendPatterns(p); err != nil {
		return err
	}
	if err := t.defineGlobals(p.globals); err != nil {
		return err
	}
	if err := t.defineStatics(p); err != nil {
		return err
	}
	if p.namesContext {
		return t.fillContext()
	}
	return nil
}

// fillContext gives ctx its functions, and what is parsed when it is read: before the script can look at it,
// so that a script that never does is spared them. It runs no script, whatever the script has done so far.
func (t *task) fillContext() error {
	if t.isFilled {
		return nil
	}
	t.isFilled = true
	for _, name := range t.start.sync {
		if err := define(t.ctx, name, t.native(name, t.hostCall(name, t.callSync))); err != nil {
			return err
		}
	}
	for _, name := range t.start.async {
		if err := define(t.ctx, name, t.native(name, t.hostCall(name, t.callAsync))); err != nil {
			return err
		}
	}
	for _, name := range t.start.deferred {
		if err := define(t.ctx, name, t.native(name, t.hostCall(name, t.callDeferred))); err != nil {
			return err
		}
	}
	for i, name := range t.start.lazyNames {
		if err := t.defineLazy(name, t.start.lazy[i]); err != nil {
			return err
		}
	}
	return t.buildOwn()
}

// defineLazy makes a property of ctx that is parsed at its first reading.
func (t *task) defineLazy(name string, raw []byte) error {
	var value goja.Value
	getter := t.vm.ToValue(func(goja.FunctionCall) goja.Value {
		if value == nil {
			parsed, err := parseJSON(t.vm, string(raw))
			if err != nil {
				t.raise(&Error{Code: CodeCrash, Message: "ctx." + name + ": " + err.Error()})
			}
			value = parsed
		}
		return value
	})
	return t.ctx.DefineAccessorProperty(name, getter, nil, goja.FLAG_FALSE, goja.FLAG_TRUE)
}

type native = func(goja.FunctionCall) goja.Value

// hostCall makes the function of ctx that asks the parent.
func (t *task) hostCall(name string, ask func(name string, args []byte) goja.Value) native {
	return func(c goja.FunctionCall) goja.Value {
		w := jsonWriter{vm: t.vm, limit: t.start.limits.FrameBytes, stopped: &t.stopped,
			what: "the argument of " + name}
		var err error
		switch name {
		case "sql":
			err = t.writeSQL(&w, c.Arguments)
		case "fetch":
			err = t.writeFetch(&w, c.Arguments)
		default:
			err = w.list(c.Arguments)
		}
		if err != nil {
			t.raise(err)
		}
		return ask(name, w.buf)
	}
}

// list appends the arguments of a call; it must run within a call from script.
func (w *jsonWriter) list(args []goja.Value) error {
	w.buf = append(w.buf, '[')
	for i, arg := range args {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		written, err := w.value(arg, "")
		if err != nil {
			return err
		}
		if !written {
			w.buf = append(w.buf, "null"...)
		}
	}
	w.buf = append(w.buf, ']')
	if len(w.buf) > w.limit {
		return w.overflow()
	}
	return nil
}

// writeSQL turns sql`… ${v} …` into [{"text": "… $1 …", "values": [v]}]. sql("…", [v]) means the same.
func (t *task) writeSQL(w *jsonWriter, args []goja.Value) error {
	if len(args) == 0 {
		return &Error{Code: CodeDenied, Message: "sql needs a text"}
	}
	text, values := "", args[1:]
	if parts, ok := args[0].(*goja.Object); ok {
		n := parts.Get("length").ToInteger()
		for i := range min(n, int64(len(args))) {
			if i > 0 {
				text += "$" + strconv.FormatInt(i, 10)
			}
			if text += parts.Get(strconv.FormatInt(i, 10)).String(); len(text) > w.limit {
				return w.overflow()
			}
		}
	} else {
		text = args[0].String()
		values = nil
		if len(args) > 1 {
			if err := t.vm.ExportTo(args[1], &values); err != nil {
				return &Error{Code: CodeDenied, Message: "the values of sql are no array"}
			}
		}
	}
	w.buf = append(w.buf, `[{"text":`...)
	if err := w.text(text); err != nil {
		return err
	}
	w.buf = append(w.buf, `,"values":`...)
	if err := w.list(values); err != nil {
		return err
	}
	w.buf = append(w.buf, "}]"...)
	return nil
}

// raise throws err into the script that called a native function. It does not return.
func (t *task) raise(err error) {
	switch e := err.(type) {
	case *goja.Exception, *goja.InterruptedError, *goja.StackOverflowError:
		panic(e)
	case *Error:
		if e == t.stopped.Load() {
			t.vm.Interrupt(e)
		}
		panic(t.hostThrown(&HostError{Code: e.Code, Message: e.Message}, nil))
	}
	panic(t.vm.NewGoError(err))
}

// refuseDOM throws a DOMException. It does not return.
func (t *task) refuseDOM(name, message string) {
	o, err := t.vm.New(t.prelude("events").Get("DOMException"), t.vm.ToValue(message), t.vm.ToValue(name))
	if err != nil {
		t.raise(err)
	}
	panic(o)
}

// hostThrown makes the Error that a script sees for a refusal, and remembers it: only such an object
// carries its code into the run's result.
func (t *task) hostThrown(cause *HostError, at []goja.StackFrame) *goja.Object {
	o, err := t.vm.New(t.vm.Get("Error"), t.vm.ToValue(cause.Message))
	if err != nil {
		o = t.vm.NewGoError(cause)
	}
	if err := define(o, "code", t.vm.ToValue(cause.Code)); err == nil {
		t.hostErr = append(t.hostErr, thrown{object: o, cause: cause, at: at})
	}
	return o
}

// ask queues a call and returns its number.
func (t *task) ask(name string, args []byte) uint32 {
	if t.calls++; t.calls > t.start.limits.HostCalls {
		t.stop(&Error{Code: CodeDenied, Message: fmt.Sprintf("%s makes more than %d host calls",
			t.name(), t.start.limits.HostCalls)})
		return 0
	}
	id := uint32(t.calls)
	appendCall(&t.out, t.id, call{id: id, name: name, args: args})
	if len(t.out.buf) > flushBytes {
		t.flush()
	}
	return id
}

func (t *task) flush() {
	if err := t.server.wire.send(t.out.buf); err != nil {
		t.stop(&Error{Code: CodeCrash, Message: "the wire to the parent is closed"})
	}
	t.out.buf = t.out.buf[:0]
}

func (t *task) callAsync(name string, args []byte) goja.Value {
	promise, resolve, reject := t.vm.NewPromise()
	at := t.vm.CaptureCallStack(4, nil)
	if id := t.ask(name, args); id != 0 {
		t.open[id] = opened{name: name, resolve: resolve, reject: reject, at: at}
	}
	return t.vm.ToValue(promise)
}

func (t *task) callSync(name string, args []byte) goja.Value {
	id := t.ask(name, args)
	if id == 0 {
		return goja.Undefined() // the interrupt flag is up: no script runs any more
	}
	m := t.await(id)
	if m == nil {
		return goja.Undefined() // the same
	}
	if m.failed != nil {
		panic(t.hostThrown(m.failed, t.vm.CaptureCallStack(4, nil)))
	}
	v, err := parseJSON(t.vm, string(m.value))
	if err != nil {
		panic(t.hostThrown(&HostError{Code: CodeCrash, Message: name + ": " + err.Error()}, nil))
	}
	return v
}
