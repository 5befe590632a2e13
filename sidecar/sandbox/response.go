package sandbox

import (
	"strconv"
	"strings"

	"github.com/dop251/goja"
)

// writeFetch appends [url, init, n]: the arguments of ctx.fetch, and how many calls of it this run has made
// before. The parent makes the idempotency key of the call from n, which is the same when the run is tried
// again.
func (t *task) writeFetch(w *jsonWriter, args []goja.Value) error {
	padded := [2]goja.Value{goja.Null(), goja.Null()}
	copy(padded[:], args)
	if err := w.list(padded[:]); err != nil {
		return err
	}
	w.buf = append(w.buf[:len(w.buf)-1], ',')
	w.buf = append(strconv.AppendInt(w.buf, int64(t.fetches), 10), ']')
	t.fetches++
	return nil
}

// answered is the value that a promise of ctx resolves to: the parent's plain answer, for fetch with the
// methods of a Response.
func (t *task) answered(name string, value goja.Value) goja.Value {
	plain, ok := value.(*goja.Object)
	if name != "fetch" || !ok {
		return value
	}
	body := ""
	if text := plain.Get("body"); text != nil {
		body = text.String()
	}
	hidden := func(o *goja.Object, name string, call native) {
		// A fresh object takes any property.
		_ = o.DefineDataProperty(name, t.vm.ToValue(call), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	}
	_ = plain.Delete("body") // text() and json() have it; it would be written twice into outputs and logs
	hidden(plain, "text", func(goja.FunctionCall) goja.Value {
		return t.settled(func() (goja.Value, error) { return t.vm.ToValue(body), nil })
	})
	hidden(plain, "json", func(goja.FunctionCall) goja.Value {
		r := jsonReader{vm: t.vm, s: body, rounds: true}
		return t.settled(r.whole)
	})
	if headers, ok := plain.Get("headers").(*goja.Object); ok {
		values := map[string]string{}
		for _, key := range headers.Keys() {
			values[key] = headers.Get(key).String()
		}
		hidden(headers, "get", func(c goja.FunctionCall) goja.Value {
			if value, found := values[strings.ToLower(c.Argument(0).String())]; found {
				return t.vm.ToValue(value)
			}
			return goja.Null()
		})
		hidden(headers, "has", func(c goja.FunctionCall) goja.Value {
			_, found := values[strings.ToLower(c.Argument(0).String())]
			return t.vm.ToValue(found)
		})
	}
	return plain
}

// settled is a promise of what make gives, or rejected with a SyntaxError.
func (t *task) settled(make func() (goja.Value, error)) goja.Value {
	promise, resolve, reject := t.vm.NewPromise()
	value, err := make()
	if err == nil {
		err = resolve(value)
	} else {
		fault, failed := t.vm.New(t.vm.Get("SyntaxError"), t.vm.ToValue("the answer is no JSON: "+err.Error()))
		if failed != nil {
			fault = t.vm.NewGoError(err)
		}
		err = reject(fault)
	}
	if err != nil {
		t.raise(err)
	}
	return t.vm.ToValue(promise)
}
