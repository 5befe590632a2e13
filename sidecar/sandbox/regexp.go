package sandbox

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
)

// namesRegExp finds source that may make an expression from text: new RegExp, or /x/.constructor.
var namesRegExp = regexp.MustCompile(`RegExp|` + hidesNames.String())

// mayHoldPattern reports whether source has a slash that begins no comment.
func mayHoldPattern(source string) bool {
	for i := 0; i < len(source); i++ {
		if source[i] != '/' {
			continue
		}
		if i+1 < len(source) && (source[i+1] == '/' || source[i+1] == '*') {
			i++
		} else if i == 0 || source[i-1] != '*' {
			return true
		}
	}
	return false
}

// patternWalk rewrites the literals of a tree.
type patternWalk struct {
	seen    map[*ast.RegExpLiteral]bool
	authors map[string]string // the author's pattern by the new one
	mends   bool              // the runtime has to be mended for them
	at      file.Idx          // of the literal that is refused
	failed  error
}

func translatePatterns(tree *ast.Program) patternWalk {
	w := patternWalk{seen: map[*ast.RegExpLiteral]bool{}, authors: map[string]string{}}
	w.walk(reflect.ValueOf(tree.Body))
	return w
}

var literalType = reflect.TypeFor[*ast.RegExpLiteral]()

func (w *patternWalk) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			w.walk(v.Elem())
		}
	case reflect.Pointer:
		switch {
		case v.IsNil() || v.Type().Elem().Kind() != reflect.Struct:
		case v.Type() == literalType:
			w.literal(v.Interface().(*ast.RegExpLiteral))
		default:
			w.walk(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "DeclarationList" { // holds again what the body holds
				w.walk(v.Field(i))
			}
		}
	case reflect.Slice:
		if kind := v.Type().Elem().Kind(); kind == reflect.Uint8 || kind == reflect.String {
			return
		}
		for i := range v.Len() {
			w.walk(v.Index(i))
		}
	}
}

func (w *patternWalk) literal(x *ast.RegExpLiteral) {
	if w.seen[x] || w.failed != nil {
		return
	}
	w.seen[x] = true
	out, err := translatePattern(x.Pattern, x.Flags)
	if err != nil {
		w.at, w.failed = x.Idx, err
		return
	}
	if out != x.Pattern {
		w.authors[patternKey(out)] = x.Pattern
		x.Pattern = out
	}
	isGlobal := strings.Contains(x.Flags, "g")
	w.mends = w.mends || len(w.authors) > 0 || strings.Contains(x.Flags, "y") ||
		strings.Contains(x.Flags, "u") && !isGlobal
}

const badPattern = "Invalid regular expression: "

// patternKey is a pattern without the escapes that goja adds where it shows one.
var patternKey = strings.NewReplacer(`\u002f`, "/", `\n`, "\n", `\r`, "\r", `\u2028`, "\u2028", `\u2029`,
	"\u2029").Replace

var escapeSource = strings.NewReplacer(`\\`, `\\`, `\/`, `\/`, "/", `\/`, "\n", `\n`, "\r", `\r`, "\u2028",
	`\u2028`, "\u2029", `\u2029`).Replace

// patterns is what a task keeps of the expressions that were translated: their authors see their own text.
type patterns struct {
	task        *task
	authors     map[string]string
	syntaxError *goja.Object
	source      goja.Callable // goja's getter
	replace     goja.Callable // and goja's [Symbol.replace]
	proxy       *goja.Object
}

// mendPatterns shows the author's text of translated literals, and translates what RegExp is given.
func (t *task) mendPatterns(p *program) error {
	if !p.mendsPatterns && !p.makesPatterns {
		return nil
	}
	x := &patterns{task: t, authors: make(map[string]string, len(p.patterns))}
	for pattern, author := range p.patterns {
		x.authors[pattern] = author
	}
	global := t.vm.GlobalObject()
	x.syntaxError = global.Get("SyntaxError").ToObject(t.vm)
	original := global.Get("RegExp").ToObject(t.vm)
	proto := original.Get("prototype").ToObject(t.vm)
	descriptor, _ := goja.AssertFunction(global.Get("Object").ToObject(t.vm).Get("getOwnPropertyDescriptor"))
	found, err := descriptor(goja.Undefined(), proto, t.vm.ToValue("source"))
	if err != nil {
		return fmt.Errorf("read RegExp.prototype.source: %w", err)
	}
	x.source, _ = goja.AssertFunction(found.ToObject(t.vm).Get("get"))
	if err := proto.DefineAccessorProperty("source", t.native("get source", x.readSource), nil,
		goja.FLAG_TRUE, goja.FLAG_FALSE); err != nil {
		return err
	}
	show := t.native("toString", func(c goja.FunctionCall) goja.Value {
		o := c.This.ToObject(t.vm)
		return t.vm.ToValue("/" + o.Get("source").String() + "/" + o.Get("flags").String())
	})
	yes, no := goja.FLAG_TRUE, goja.FLAG_FALSE
	if err := proto.DefineDataProperty("toString", show, yes, yes, no); err != nil {
		return err
	}
	x.replace, _ = goja.AssertFunction(proto.GetSymbol(goja.SymReplace))
	replace := t.native("[Symbol.replace]", x.replaceIn)
	if err := proto.DefineDataPropertySymbol(goja.SymReplace, replace, yes, yes, no); err != nil ||
		!p.makesPatterns {
		return err
	}
	hasInstance := t.native("[Symbol.hasInstance]", x.hasInstance)
	if err := original.DefineDataPropertySymbol(goja.SymHasInstance, hasInstance, yes, yes,
		no); err != nil {
		return err
	}
	x.proxy = t.vm.ToValue(t.vm.NewProxy(original, &goja.ProxyTrapConfig{Apply: x.apply,
		Construct: x.construct})).ToObject(t.vm)
	if err := proto.DefineDataProperty("constructor", x.proxy, yes, yes, no); err != nil {
		return err
	}
	return global.DefineDataProperty("RegExp", x.proxy, yes, yes, no)
}

func (x *patterns) readSource(c goja.FunctionCall) goja.Value {
	shown, err := x.source(c.This)
	if err != nil {
		x.task.raise(err)
	}
	if author, ok := x.authors[patternKey(shown.String())]; ok {
		return x.task.vm.ToValue(author)
	}
	return shown
}

// replaceIn is RegExp.prototype[Symbol.replace]. goja's own short way replaces each match in a text that is
// not ASCII, where one is meant, and looks beyond the place where a sticky one has to match; it leaves that
// way for an expression with a property of its own.
func (x *patterns) replaceIn(c goja.FunctionCall) goja.Value {
	if o := asRegExp([]goja.Value{c.This}); o != nil {
		flags := o.Get("flags").String()
		if strings.Contains(flags, "y") || !strings.Contains(flags, "g") {
			// The definition of what is there already changes nothing else.
			_ = o.DefineDataProperty("lastIndex", o.Get("lastIndex"), goja.FLAG_TRUE, goja.FLAG_FALSE,
				goja.FLAG_FALSE)
		}
	}
	value, err := x.replace(c.This, c.Arguments...)
	if err != nil {
		x.task.raise(err)
	}
	return value
}

// hasInstance is what instanceof asks of RegExp: goja has no answer for a proxy.
func (x *patterns) hasInstance(c goja.FunctionCall) goja.Value {
	class, isClass := c.This.(*goja.Object)
	o, isObject := c.Argument(0).(*goja.Object)
	if isClass && isObject {
		wanted := class.Get("prototype")
		for o = o.Prototype(); o != nil; o = o.Prototype() {
			if goja.Value(o) == wanted {
				return x.task.vm.ToValue(true)
			}
		}
	}
	return x.task.vm.ToValue(false)
}

func (x *patterns) apply(target *goja.Object, _ goja.Value, args []goja.Value) goja.Value {
	if o := asRegExp(args); o != nil && (len(args) < 2 || goja.IsUndefined(args[1])) &&
		o.Get("constructor") == goja.Value(x.proxy) {
		return o
	}
	return x.construct(target, args, x.proxy)
}

func (x *patterns) construct(target *goja.Object, args []goja.Value, newTarget *goja.Object) *goja.Object {
	build, _ := goja.AssertConstructor(target)
	made, err := build(newTarget, x.translated(args)...)
	if err != nil {
		x.task.raise(err)
	}
	return made
}

func asRegExp(args []goja.Value) *goja.Object {
	if len(args) > 0 {
		if o, ok := args[0].(*goja.Object); ok && o.ClassName() == "RegExp" {
			return o
		}
	}
	return nil
}

// translated are the arguments of goja's own RegExp.
func (x *patterns) translated(args []goja.Value) []goja.Value {
	vm, flags := x.task.vm, ""
	hasFlags := len(args) > 1 && !goja.IsUndefined(args[1])
	if len(args) == 0 || goja.IsUndefined(args[0]) || !hasFlags && asRegExp(args) != nil {
		return args
	}
	pattern := args[0]
	if o := asRegExp(args); o != nil {
		pattern = o.Get("source")
	}
	pattern = pattern.ToString()
	if hasFlags {
		flags = args[1].String()
	}
	source := pattern.String()
	out, err := translatePattern(source, flags)
	if err != nil {
		fault, worse := vm.New(x.syntaxError, vm.ToValue(badPattern+err.Error()))
		if worse != nil {
			x.task.raise(worse)
		}
		panic(fault)
	}
	if out != source {
		x.authors[patternKey(out)] = escapeSource(source)
		pattern = vm.ToValue(out)
	}
	return []goja.Value{pattern, vm.ToValue(flags)}
}
