package sandbox

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
)

const maxMessage = 4 << 10 // bytes of an error's text

// task is one run inside the child: a fresh runtime, its clock and its open host calls. Everything but stop
// and inbox belongs to the goroutine that called execute.
type task struct {
	server  *server
	id      uint32
	start   start
	source  *compiled
	program *program // once it is compiled
	vm      *goja.Runtime
	clock   clock
	inbox   inbox
	stopped atomic.Pointer[Error]

	out          encoder // frames that are not sent yet
	calls        int
	fetches      int
	seen         uint64            // replies taken from the inbox
	open         map[uint32]opened // asynchronous calls without reply
	deferred     map[uint32]*deferred
	early        []reply       // answers that the script has not been handed
	elapsed      time.Duration // of the script's clock, since the start
	arrived      []time.Duration
	timers       []*timer        // the older first
	lastID       int64           // of a timer
	rejected     []*goja.Promise // without a handler so far
	uncaught     error           // what a microtask threw
	crypto       *goja.Object
	preludes     map[string]*goja.Object // by file
	nativeObject *goja.Object            // what the files of prelude/ get
	hostErr      []thrown                // the errors made from replies, to know them again
	logs         []Log
	logBytes     int
	random       *randomness
	entry        goja.Value // found by the trailer of the program
	exports      *goja.Object
	ctx          *goja.Object
	isFilled     bool // ctx is complete
	input        goja.Value
	sawEntry     bool
}

// opened is an asynchronous call that waits for its reply.
type opened struct {
	name            string
	resolve, reject func(any) error
	at              []goja.StackFrame
}

// thrown is an error object that the child made for a refusal by the host.
type thrown struct {
	object *goja.Object
	cause  *HostError
	at     []goja.StackFrame
}

func newTask(s *server, id uint32, m start, source *compiled) *task {
	t := &task{server: s, id: id, start: m, source: source, open: map[uint32]opened{}}
	t.inbox.bell = make(chan struct{}, 1)
	t.clock = clock{timeout: m.limits.Timeout, waitMax: m.limits.IOTimeout, watch: s.watch}
	if !s.kernel {
		t.clock.giveUp = func() { os.Exit(exitTimeout) }
	}
	t.clock.expired = func(waiting bool) {
		what := "ran longer than " + m.limits.Timeout.String()
		if waiting {
			what = "waited longer than " + m.limits.IOTimeout.String() + " for host calls"
		}
		t.stop(&Error{Code: CodeTimeout, Message: t.name() + " " + what})
	}
	t.vm = goja.New()
	return t
}

func (t *task) name() string {
	if t.start.program.Name == "" {
		return "the program"
	}
	return t.start.program.Name
}

// stop ends the task with this error, from any goroutine. The first caller wins.
func (t *task) stop(why *Error) {
	t.stopped.CompareAndSwap(nil, why)
	t.vm.Interrupt(t.stopped.Load())
	t.inbox.ring()
}

// execute runs the program to its end and never panics.
func (t *task) execute() (o outcome) {

	t.clock.turn(clockRunning)
	defer func() {
		if x := recover(); x != nil {
			o = t.broken(x)
		}
		o.used = t.clock.turn(clockStopped)
		o.logs, o.arrived = t.logs, t.arrived
		for id, d := range t.deferred {
			if d.object == nil {
				o.unseen = append(o.unseen, id)
			}
		}
	}()
	output, failed := t.run()
	return outcome{output: output, failed: failed}
}

// unsent returns the frames that must go before the outcome: calls whose answer nobody waited for.
func (t *task) unsent() []byte { return t.out.buf }

func (t *task) run() ([]byte, *Error) {
	program, failed := t.source.get()
	t.program = program
	if failed != nil {
		failed := *failed
		return nil, &failed
	}
	if t.start.entry == EntryNone {
		return []byte("null"), nil
	}
	t.vm.SetMaxCallStackSize(t.start.limits.StackFrames)
	t.vm.SetParserOptions(parser.WithDisableSourceMaps)
	if err := t.build(program); err != nil {
		return nil, &Error{Code: CodeNotSerializable, Message: cut("ctx cannot be built: " + err.Error())}
	}
	value, err := t.enter(program)
	if err == nil {
		value, err = t.settle(value)
	}
	if err != nil {
		return nil, t.failure(program, err)
	}
	w := jsonWriter{vm: t.vm, limit: t.start.limits.OutputBytes, stopped: &t.stopped, what: "the output"}
	if err := w.write(value); err != nil {
		return nil, t.failure(program, err)
	}
	t.confess()
	if why := t.stopped.Load(); why != nil {
		return nil, why
	}
	return w.buf, nil
}

// rejection is the value that a promise was rejected with.
type rejection struct{ value goja.Value }

func (rejection) Error() string { return "the promise was rejected" }

// settle waits until value is no open promise.
func (t *task) settle(value goja.Value) (goja.Value, error) {
	if t.uncaught != nil {
		return nil, t.uncaught
	}
	promise := asPromise(value)
	if promise == nil {
		var err error
		if promise, err = t.adopt(value); promise == nil {
			return value, err
		}
	}
	defer t.track(promise, goja.PromiseRejectionHandle)
	for promise.State() == goja.PromiseStatePending {
		if went, err := t.next(); err != nil {
			return nil, err
		} else if !went {
			return nil, &Error{Code: CodePending, Message: t.name() +
				" returned a promise that nothing can settle any more"}
		} else if t.uncaught != nil {
			return nil, t.uncaught
		}
	}
	if promise.State() == goja.PromiseStateRejected {
		return nil, rejection{promise.Result()}
	}
	return promise.Result(), nil
}

var promiseType = reflect.TypeFor[*goja.Promise]()

// asPromise returns v as a promise of this runtime. It looks at the type only and runs no script.
func asPromise(v goja.Value) *goja.Promise {
	if o, ok := v.(*goja.Object); ok && o.ExportType() == promiseType {
		p, _ := o.Export().(*goja.Promise)
		return p
	}
	return nil
}

// adopt makes a promise of an object that has a method then, as await does.
func (t *task) adopt(value goja.Value) (promise *goja.Promise, err error) {
	o, ok := value.(*goja.Object)
	if !ok {
		return nil, nil
	}
	var then goja.Value
	if ex := t.vm.Try(func() { then = o.Get("then") }); ex != nil {
		return nil, ex
	}
	if _, ok := goja.AssertFunction(then); !ok {
		return nil, nil
	}
	promise, resolve, _ := t.vm.NewPromise()
	return promise, resolve(value)
}

// enter evaluates the wrapped source, then calls what it defines.
func (t *task) enter(p *program) (goja.Value, error) {
	wrapped, err := t.vm.RunProgram(p.code)
	if err != nil {
		return nil, err
	}
	call, _ := goja.AssertFunction(wrapped)
	t.exports = t.vm.NewObject()
	trailer := t.vm.ToValue(func(c goja.FunctionCall) goja.Value {
		t.sawEntry, t.entry = true, c.Argument(0)
		return goja.Undefined()
	})
	value, err := call(goja.Undefined(), t.input, t.ctx, trailer, t.exports)
	if err == nil && p.async {
		value, err = t.settle(value)
	}
	if err != nil || !t.sawEntry {
		return value, err
	}
	return t.callEntry()
}

// callEntry calls the function that the program defined; a body without one has run already.
func (t *task) callEntry() (goja.Value, error) {
	var entry goja.Value
	name := "main"
	if t.start.entry == EntryPolicy {
		name = "on"
	}
	if ex := t.vm.Try(func() {
		for _, candidate := range []func() goja.Value{
			func() goja.Value { return t.exports.Get("default") },
			func() goja.Value { return t.exports.Get(name) },
			func() goja.Value { return t.vm.GlobalObject().Get("default") },
			func() goja.Value { return t.entry },
		} {
			if v := candidate(); v != nil && !goja.IsUndefined(v) && !goja.IsNull(v) {
				entry = v
				return
			}
		}
	}); ex != nil {
		return nil, ex
	}
	call, ok := goja.AssertFunction(entry)
	if ok {
		if err := t.fillContext(); err != nil {
			return nil, err
		}
	}
	switch {
	case ok && t.start.entry == EntryPolicy:
		span := goja.Undefined()
		if in, ok := t.input.(*goja.Object); ok {
			if v := in.Get("span"); v != nil {
				span = v
			}
		}
		return call(goja.Undefined(), span, t.ctx)
	case ok:
		return call(goja.Undefined(), t.ctx)
	case entry != nil:
		return nil, &Error{Code: CodeSyntax, Message: "the default export of " + t.name() + " is no function"}
	case t.start.entry == EntryPolicy:
		return nil, &Error{Code: CodeSyntax, Message: t.name() + " defines no function on(span, ctx)"}
	case t.program.exports || t.program.idle.line > 0:
		return nil, &Error{Code: CodeSyntax, Line: t.program.idle.line, Column: t.program.idle.column,
			Message: "no main: export the function as default, or name it main"}
	}
	return goja.Undefined(), nil
}

// failure turns an error of goja or of ours into the run's error.
func (t *task) failure(p *program, err error) *Error {
	if why := t.stopped.Load(); why != nil {
		return why
	}
	// By type: errors.As would unwrap an exception, which reads the prototype of what was thrown: script.
	switch thrown := err.(type) {
	case rejection:
		return t.refusal(p, thrown.value, nil)
	case *Error:
		return thrown
	case *goja.StackOverflowError:
		e := &Error{Code: CodeStack, Message: fmt.Sprintf("%s nests calls deeper than %d",
			t.name(), t.start.limits.StackFrames)}
		if at := p.places(thrown.Stack()); len(at) > 0 {
			e.Line, e.Column = at[0].line, at[0].column // the others are the same
		}
		return e
	case *goja.Exception:
		return t.refusal(p, thrown.Value(), thrown.Stack())
	}
	return &Error{Code: CodeCrash, Message: cut(err.Error())}
}

// refusal describes a thrown value. Reading it may run script: it does so inside the limits.
func (t *task) refusal(p *program, value goja.Value, stack []goja.StackFrame) *Error {
	e := &Error{Code: CodeException}
	e.blame(p.places(stack))
	for _, known := range t.hostErr {
		if known.object == value {
			e.Code, e.Message = known.cause.Code, cut(known.cause.Message)
			if e.Line == 0 {
				e.blame(p.places(known.at))
			}
			return e
		}
	}
	trace := ""
	if ex := t.vm.Try(func() {
		e.Message = t.describe(value) + t.reasons(value, causesMost)
		if o, ok := value.(*goja.Object); ok && e.Line == 0 {
			if s := o.Get("stack"); s != nil && goja.IsString(s) {
				trace = s.String()
			}
		}
	}); ex != nil && e.Message == "" {
		e.Message = "an error whose text cannot be read"
	}
	if e.Line == 0 {
		e.blame(p.traced(trace))
	}
	e.Message = hinted(plain(cut(e.Message)))
	if why := t.stopped.Load(); why != nil {
		return why
	}
	return e
}

// describe is String(value), or JSON for a plain object.
func (t *task) describe(value goja.Value) string {
	text := value.String()
	if o, ok := value.(*goja.Object); ok && text == "[object Object]" {
		w := jsonWriter{vm: t.vm, limit: maxMessage, stopped: &t.stopped}
		if w.write(o) == nil {
			return string(w.buf)
		}
	}
	return text
}

const causesMost = 5 // of an error, and members of an AggregateError

// reasons are the cause of an Error, and what an AggregateError holds.
func (t *task) reasons(value goja.Value, most int) string {
	o, ok := value.(*goja.Object)
	if !ok || o.ClassName() != "Error" || most == 0 {
		return ""
	}
	var b strings.Builder
	if cause := o.Get("cause"); cause != nil && !goja.IsUndefined(cause) {
		b.WriteString("; cause: " + cut(t.describe(cause)) + t.reasons(cause, most-1))
	}
	list, ok := o.Get("errors").(*goja.Object)
	if !ok || list.ClassName() != "Array" {
		return b.String()
	}
	for i := range min(list.Get("length").ToInteger(), causesMost) {
		if member := list.Get(strconv.FormatInt(i, 10)); member != nil && b.Len() < maxMessage {
			b.WriteString("; " + cut(t.describe(member)) + t.reasons(member, most-1))
		}
	}
	return b.String()
}

// instead of what other platforms have.
var instead = map[string]string{
	"fetch": "ctx.fetch", "process": "ctx.env", "Deno": "ctx.env", "Bun": "ctx.env",
	"Buffer":  "TextEncoder, btoa and ctx.crypto.hex",
	"require": "code of your own: a function is one file", "module": "export default",
	"exports": "export default",
}

var notDefined = regexp.MustCompile(`^ReferenceError: (\w+) is not defined$`)

// hinted says what there is instead of a global that is missing.
func hinted(message string) string {
	if m := notDefined.FindStringSubmatch(message); m != nil && instead[m[1]] != "" {
		return message + ": there is " + instead[m[1]]
	}
	return message
}

// plain takes out of a message what names the parts of goja that it comes from.
func plain(message string) string {
	if !strings.HasPrefix(message, "SyntaxError: ") {
		return message
	}
	for _, part := range []string{" (re2)", " (regexp2)", "error parsing regexp: ", " (EOF)"} {
		message = strings.ReplaceAll(message, part, "")
	}
	return strings.Replace(message, "SyntaxError: SyntaxError: <eval>: ", "SyntaxError: in evaluated code: ", 1)
}

// broken turns a panic into an outcome. Interrupts and overflows that were raised outside of a call arrive
// here.
func (t *task) broken(x any) outcome {
	if why := t.stopped.Load(); why != nil {
		return outcome{failed: why}
	}
	switch fault := x.(type) { // by type, as in failure
	case runtime.Error:
		code := CodeCrash
		if strings.Contains(fault.Error(), "makeslice") || strings.Contains(fault.Error(), "growslice") {
			code = CodeMemory
		}
		return outcome{worn: true, failed: &Error{Code: code, Message: cut(t.name() + ": " + fault.Error())}}
	case *goja.StackOverflowError:
		return outcome{failed: &Error{Code: CodeStack, Message: t.name() + " nests calls too deep"}}
	case *goja.Exception, goja.Value: // a value: goja throws so what its own functions refuse
		return outcome{failed: &Error{Code: CodeException, Message: "an error whose text cannot be read"}}
	}
	return outcome{worn: true, failed: &Error{Code: CodeCrash, Message: cut(fmt.Sprintf("%s: %T", t.name(),
		x))}}
}

// cut shortens a text to maxMessage bytes at a rune.
func cut(s string) string { return cutTo(s, maxMessage) }

func cutTo(s string, most int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
