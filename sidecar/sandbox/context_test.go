package sandbox

import (
	"context"
	"encoding/json"
	"testing"
)

// A script that does not name ctx is spared its functions; none that can reach it misses one, and none meets
// it half made.
func TestContextIsCompleteForWhoeverLooks(t *testing.T) {
	t.Parallel()
	p := setup(t)
	const whole = `"input,env,emit,find,hidden,now,id,log,crypto"`
	grab := `let caught = []; Object.defineProperty(Object.prototype, "emit", {set(v) { caught.push(v) }, configurable: true});
		Object.defineProperty((() => 0).__proto__, "name", {set(v) { caught.push(v) }, configurable: true});`
	for name, c := range map[string]struct{ source, want string }{
		"by its name":         {`return Object.keys(ctx).join()`, whole},
		"by another":          {`export default function main(c) { return Object.keys(c).join() }`, whole},
		"by an arrow":         {`globalThis["default"] = (...all) => Object.keys(all[0]).join()`, whole},
		"by arguments":        {`function main() { return Object.keys(arguments[0]).join() }`, whole},
		"by eval":             {`return eval("Object.keys(c" + "tx).join()")`, whole},
		"by an escape":        {`return Object.keys(\u0063tx).join()`, whole},
		"by a hidden default": {`this["def" + "ault"] = (c) => Object.keys(c).join()`, whole},
		"after mischief":      {grab + `function main(c) { return [typeof c.emit, caught.length].join() }`, `"function,0"`},
		"never":               {`return input.n`, `1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(c.source, host(func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
				return json.RawMessage("null"), nil
			}))
			r.SyncCalls, r.AsyncCalls = []string{"emit"}, []string{"find"}
			r.Lazy = map[string]json.RawMessage{"hidden": json.RawMessage(`{}`)}
			if result := p.RunCode(t.Context(), r); result.Err != nil || string(result.Output) != c.want {
				t.Errorf("got %s, %v; want %s", result.Output, result.Err, c.want)
			}
		})
	}
}
