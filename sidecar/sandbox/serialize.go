package sandbox

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/dop251/goja"
)

const maxDepth = 64 // of JSON that leaves or enters a script

// jsonWriter writes a script's value as JSON, by the rules of JSON.stringify. Reading the value may run
// script (getters, toJSON, proxies): that happens in the task's runtime, inside its limits.
type jsonWriter struct {
	vm      *goja.Runtime
	buf     []byte
	limit   int // bytes
	what    string
	stopped *atomic.Pointer[Error]
	above   []*goja.Object
}

// write appends value; undefined and functions become null. The error is an *Error, or one of goja's.
func (w *jsonWriter) write(value goja.Value) (err error) {
	if ex := w.vm.Try(func() {
		var written bool
		if written, err = w.value(value, ""); err == nil && !written {
			w.buf = append(w.buf, "null"...)
		}
	}); ex != nil {
		return ex
	}
	return err
}

func (w *jsonWriter) refuse(format string, args ...any) error {
	return &Error{Code: CodeNotSerializable, Message: w.what + " " + fmt.Sprintf(format, args...)}
}

// value appends v and reports whether it has a JSON form at all.
func (w *jsonWriter) value(v goja.Value, key string) (bool, error) {
	if len(w.buf) > w.limit {
		return false, w.overflow()
	}
	switch x := v.(type) {
	case nil, *goja.Symbol:
		return false, nil
	case *goja.Object:
		return w.object(x, key)
	case goja.String: // of most values it is told without a copy
		return true, w.text(x.String())
	}
	switch x := v.Export().(type) {
	case nil:
		if goja.IsUndefined(v) {
			return false, nil
		}
		w.buf = append(w.buf, "null"...)
	case bool:
		w.buf = strconv.AppendBool(w.buf, x)
	case int64:
		w.buf = strconv.AppendInt(w.buf, x, 10)
	case float64:
		w.buf = appendNumber(w.buf, x)
	case *big.Int:
		return false, w.refuse("holds a BigInt, which JSON does not know")
	default:
		return false, w.refuse("holds a %T", x)
	}
	return true, nil
}

func (w *jsonWriter) overflow() error {
	return &Error{Code: CodeLimitOutput, Message: fmt.Sprintf("%s is longer than %d bytes of JSON", w.what,
		w.limit)}
}

func (w *jsonWriter) object(o *goja.Object, key string) (bool, error) {
	if why := w.stopped.Load(); why != nil {
		return false, why
	}
	if toJSON, ok := goja.AssertFunction(o.Get("toJSON")); ok {
		v, err := toJSON(o, w.vm.ToValue(key))
		if err != nil {
			return false, err
		}
		next, ok := v.(*goja.Object)
		if !ok {
			return w.value(v, key)
		}
		o = next
	}
	if _, ok := goja.AssertFunction(o); ok {
		return false, nil
	}
	switch o.ClassName() {
	case "String":
		return true, w.text(o.String())
	case "Number":
		return w.value(o.ToNumber(), key)
	case "Boolean":
		if b, ok := o.Export().(bool); ok {
			return w.value(w.vm.ToValue(b), key)
		}
	}
	if len(w.above) >= maxDepth {
		return false, w.refuse("is nested deeper than %d", maxDepth)
	}
	if slices.Contains(w.above, o) {
		return false, w.refuse("contains itself")
	}
	w.above = append(w.above, o)
	defer func() { w.above = w.above[:len(w.above)-1] }()
	if o.ClassName() == "Array" {
		return true, w.array(o)
	}
	return true, w.members(o)
}

func isObject(v goja.Value) bool {
	_, ok := v.(*goja.Object)
	return ok
}

func (w *jsonWriter) array(o *goja.Object) error {
	length := o.Get("length").ToInteger()
	w.buf = append(w.buf, '[')
	for i := range length {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		written, err := w.value(o.Get(strconv.FormatInt(i, 10)), "")
		if err != nil {
			return err
		}
		if !written {
			w.buf = append(w.buf, "null"...)
		}
		if why := w.stopped.Load(); why != nil {
			return why
		}
	}
	w.buf = append(w.buf, ']')
	return nil
}

func (w *jsonWriter) members(o *goja.Object) error {
	w.buf = append(w.buf, '{')
	first := true
	for _, key := range o.Keys() {
		if why := w.stopped.Load(); why != nil {
			return why
		}
		before := len(w.buf)
		if !first {
			w.buf = append(w.buf, ',')
		}
		if err := w.text(key); err != nil {
			return err
		}
		w.buf = append(w.buf, ':')
		written, err := w.value(o.Get(key), key)
		if err != nil {
			return err
		}
		if written {
			first = false
		} else {
			w.buf = w.buf[:before]
		}
	}
	w.buf = append(w.buf, '}')
	return nil
}

const hexDigits = "0123456789abcdef"

// text appends a JSON string. goja has replaced lone surrogates by U+FFFD on the way to Go.
func (w *jsonWriter) text(s string) error {
	if len(w.buf)+len(s) > w.limit {
		return w.overflow()
	}
	w.buf = append(w.buf, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		w.buf = append(w.buf, s[from:i]...)
		from = i + 1
		switch c {
		case 0:
			return w.refuse(`holds \u0000, which jsonb refuses`)
		case '"', '\\':
			w.buf = append(w.buf, '\\', c)
		case '\n':
			w.buf = append(w.buf, '\\', 'n')
		case '\t':
			w.buf = append(w.buf, '\\', 't')
		case '\r':
			w.buf = append(w.buf, '\\', 'r')
		default:
			w.buf = append(w.buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	w.buf = append(w.buf, s[from:]...)
	w.buf = append(w.buf, '"')
	return nil
}

// appendNumber writes a double as JSON.stringify does: the shortest form, null for what is no number.
func appendNumber(buf []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(buf, "null"...)
	}
	if f == 0 {
		return append(buf, '0') // -0 too
	}
	if size := math.Abs(f); size < 1e-6 || size >= 1e21 {
		return strconv.AppendFloat(buf, f, 'e', -1, 64)
	}
	return strconv.AppendFloat(buf, f, 'f', -1, 64)
}
