package sandbox

import (
	"embed"
	"fmt"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dop251/goja"
)

//go:embed prelude/*.js
var preludeFiles embed.FS

// preludes are the files of prelude/ and the globals that each gives.
var preludes = map[string][]string{
	"clone":  {"structuredClone"},
	"events": {"AbortController", "AbortSignal", "DOMException", "Event", "EventTarget"},
	"text":   {"TextDecoder", "TextEncoder", "atob", "btoa"},
	"url":    {"URL", "URLSearchParams"},
}

// nativeGlobals are the globals that are made in Go.
var nativeGlobals = map[string]func(t *task) goja.Value{
	"console":        func(t *task) goja.Value { return t.buildConsole() },
	"crypto":         func(t *task) goja.Value { return t.cryptoObject() },
	"performance":    func(t *task) goja.Value { return t.buildPerformance() },
	"queueMicrotask": func(t *task) goja.Value { return t.native("queueMicrotask", t.queueMicrotask) },
	"setTimeout":     func(t *task) goja.Value { return t.native("setTimeout", t.setTimer(false)) },
	"setInterval":    func(t *task) goja.Value { return t.native("setInterval", t.setTimer(true)) },
	"clearTimeout":   func(t *task) goja.Value { return t.native("clearTimeout", t.clearTimer) },
	"clearInterval":  func(t *task) goja.Value { return t.native("clearInterval", t.clearTimer) },
}

// namesStatics finds source that may call what prelude/statics.js gives to the language's own objects.
var namesStatics = regexp.MustCompile(`groupBy|withResolvers|fromAsync`)

// defineStatics gives these to a program that names one of them.
func (t *task) defineStatics(p *program) error {
	if !p.namesStatics {
		return nil
	}
	made := t.prelude("statics")
	for _, class := range made.Keys() {
		owner := t.vm.GlobalObject().Get(class).ToObject(t.vm)
		methods := made.Get(class).ToObject(t.vm)
		for _, name := range methods.Keys() {
			if err := owner.DefineDataProperty(name, methods.Get(name), goja.FLAG_TRUE, goja.FLAG_TRUE,
				goja.FLAG_FALSE); err != nil {
				return err
			}
		}
	}
	return nil
}

// hidesNames finds source that may name a global without writing its name.
var hidesNames = regexp.MustCompile(`\beval\b|\bFunction\b|\bconstructor\b|globalThis\s*(\[|[^\w.\s])|\\u`)

// namesGlobals returns the globals that source may look at: only these are given to its runtime.
func namesGlobals(source string) []string {
	all := hidesNames.MatchString(source)
	names := []string{}
	for name := range nativeGlobals {
		if all || strings.Contains(source, name) {
			names = append(names, name)
		}
	}
	for _, list := range preludes {
		for _, name := range list {
			if all || strings.Contains(source, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names) // the script sees the order
	return names
}

func fileOf(name string) string {
	for file, list := range preludes {
		if slices.Contains(list, name) {
			return file
		}
	}
	return ""
}

// defineGlobals gives the runtime these globals. Each is made when the script first looks at it, and may be
// replaced, as on the web.
func (t *task) defineGlobals(names []string) error {
	global := t.vm.GlobalObject()
	for _, name := range names {
		var value goja.Value
		get := func(goja.FunctionCall) goja.Value {
			if value == nil {
				value = t.makeGlobal(name)
			}
			return value
		}
		set := func(c goja.FunctionCall) goja.Value {
			value = c.Argument(0)
			return goja.Undefined()
		}
		if err := global.DefineAccessorProperty(name, t.vm.ToValue(get), t.vm.ToValue(set), goja.FLAG_TRUE,
			goja.FLAG_FALSE); err != nil {
			return err
		}
	}
	return nil
}

func (t *task) makeGlobal(name string) goja.Value {
	if build := nativeGlobals[name]; build != nil {
		return build(t)
	}
	return t.prelude(fileOf(name)).Get(name)
}

// native makes a function that shows its name and nothing of Go.
func (t *task) native(name string, call native) *goja.Object {
	f := t.vm.ToValue(call).ToObject(t.vm)
	// A fresh function's name may be defined anew.
	_ = f.DefineDataProperty("name", t.vm.ToValue(name), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	return f
}

// preludePrograms compiles each file of prelude/ once for all tasks of a child.
type preludePrograms struct {
	mu       sync.Mutex
	programs map[string]*goja.Program
}

func (p *preludePrograms) get(file string) (*goja.Program, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if program := p.programs[file]; program != nil {
		return program, nil
	}
	source, err := preludeFiles.ReadFile("prelude/" + file + ".js")
	if err != nil {
		return nil, fmt.Errorf("read prelude %s: %w", file, err)
	}
	program, err := goja.Compile("logline:"+file, string(source), true)
	if err != nil {
		return nil, fmt.Errorf("compile prelude %s: %w", file, err)
	}
	if p.programs == nil {
		p.programs = map[string]*goja.Program{}
	}
	p.programs[file] = program
	return program, nil
}

// prelude returns the globals of one file. It is called from script.
func (t *task) prelude(file string) *goja.Object {
	if made := t.preludes[file]; made != nil {
		return made
	}
	program, err := t.server.preludes.get(file)
	if err != nil {
		panic(err) // the file is part of the binary
	}
	wrapped, err := t.vm.RunProgram(program)
	if err != nil {
		t.raise(err)
	}
	call, _ := goja.AssertFunction(wrapped)
	value, err := call(goja.Undefined(), t.natives())
	if err != nil {
		t.raise(err)
	}
	made := value.ToObject(t.vm)
	if t.preludes == nil {
		t.preludes = map[string]*goja.Object{}
	}
	t.preludes[file] = made
	return made
}

// natives is what the files of prelude/ get.
func (t *task) natives() *goja.Object {
	if t.nativeObject != nil {
		return t.nativeObject
	}
	o := t.vm.NewObject()
	for name, call := range map[string]native{
		"use":        func(c goja.FunctionCall) goja.Value { return t.prelude(c.Argument(0).String()) },
		"kind":       t.kindOf,
		"now":        func(goja.FunctionCall) goja.Value { return t.vm.ToValue(millis(t.elapsed)) },
		"setTimeout": t.setTimer(false),
		"usv":        func(c goja.FunctionCall) goja.Value { return t.vm.ToValue(c.Argument(0).String()) },
		"encode":     t.encodeText, "decode": t.decodeText, "btoa": t.btoa, "atob": t.atob,
		"parseURL": t.parseURL, "setURL": t.setURL, "parseForm": t.parseForm, "formatForm": t.formatForm,
	} {
		_ = o.Set(name, t.native(name, call)) // a fresh object takes any property
	}
	t.nativeObject = o
	return o
}

// kinds are the objects whose class goja calls Object, by what they export to.
var kinds = map[reflect.Type]string{
	reflect.TypeFor[[][2]any](): "Map", reflect.TypeFor[[]any](): "Set", reflect.TypeFor[*big.Int](): "BigInt",
	proxyType: "Proxy", promiseType: "Promise", bufferType: "ArrayBuffer",
}

// kindOf is the class of an object, which no script can forge. Weak collections are "Object".
func (t *task) kindOf(c goja.FunctionCall) goja.Value {
	o, ok := c.Argument(0).(*goja.Object)
	if !ok {
		return t.vm.ToValue("")
	}
	class := o.ClassName()
	if kind := kinds[o.ExportType()]; kind != "" && class == "Object" {
		class = kind
	}
	return t.vm.ToValue(class)
}

func (t *task) buildPerformance() goja.Value {
	o := t.vm.NewObject()
	_ = o.Set("now", t.native("now", func(goja.FunctionCall) goja.Value {
		return t.vm.ToValue(millis(t.elapsed))
	}))
	_ = o.Set("timeOrigin", millis(time.Duration(t.start.now.UnixNano())))
	return o
}

// millis keeps the microseconds.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// setTimer is setTimeout, or setInterval.
func (t *task) setTimer(repeats bool) native {
	return func(c goja.FunctionCall) goja.Value {
		call, ok := goja.AssertFunction(c.Argument(0))
		if !ok {
			panic(t.vm.NewTypeError("a timer needs a function"))
		}
		if len(t.timers) >= timersMost {
			panic(t.hostThrown(&HostError{Code: CodeDenied,
				Message: fmt.Sprintf("more than %d timers are open", timersMost)}, t.vm.CaptureCallStack(4, nil)))
		}
		wait := timerLeast
		if ms := c.Argument(1).ToInteger(); ms > 1 && ms <= timerMostMs {
			wait = time.Duration(ms) * time.Millisecond
		}
		t.lastID++
		x := &timer{id: t.lastID, due: t.elapsed + wait, wake: time.Now().Add(wait), call: call}
		if repeats {
			x.every = wait
		}
		if len(c.Arguments) > 2 {
			x.args = append(x.args, c.Arguments[2:]...)
		}
		t.timers = append(t.timers, x)
		return t.vm.ToValue(x.id)
	}
}

func (t *task) clearTimer(c goja.FunctionCall) goja.Value {
	id := c.Argument(0).ToInteger()
	for i, x := range t.timers {
		if x.id == id {
			t.timers = slices.Delete(t.timers, i, i+1)
			break
		}
	}
	return goja.Undefined()
}

// queueMicrotask calls a function after the current turn of script. What it throws ends the run.
func (t *task) queueMicrotask(c goja.FunctionCall) goja.Value {
	call, ok := goja.AssertFunction(c.Argument(0))
	if !ok {
		panic(t.vm.NewTypeError("queueMicrotask needs a function"))
	}
	promise, resolve, _ := t.vm.NewPromise()
	then, _ := goja.AssertFunction(t.vm.ToValue(promise).ToObject(t.vm).Get("then"))
	run := func(goja.FunctionCall) goja.Value {
		if _, err := call(goja.Undefined()); err != nil && t.uncaught == nil {
			t.uncaught = err
		}
		return goja.Undefined()
	}
	if _, err := then(t.vm.ToValue(promise), t.vm.ToValue(run)); err != nil {
		t.raise(err)
	}
	if err := resolve(goja.Undefined()); err != nil {
		t.raise(err)
	}
	return goja.Undefined()
}
