package sandbox

import (
	"context"
	"encoding/json"
	"testing"
)

func TestFetchAnswersAResponse(t *testing.T) {
	t.Parallel()
	p := setup(t)
	answer := func(_ context.Context, _ string, args json.RawMessage) (json.RawMessage, error) {
		var list []json.RawMessage
		if err := json.Unmarshal(args, &list); err != nil {
			return nil, err
		}
		if string(list[0]) == `"args"` {
			return json.Marshal(map[string]any{"headers": map[string]string{}, "body": string(args)})
		}
		return json.RawMessage(`{"status":201,"ok":true,"url":"https://a.example/","body":"{\"a\":[1,\"é\"],\"long\":0.12345678901234567890}",
			"headers":{"x-two":"a, b","__proto__":"c","get":"d"}}`), nil
	}
	fetching := func(source string) Run {
		r := run(source, host(answer))
		r.AsyncCalls = []string{"fetch"}
		return r
	}
	for _, test := range []struct{ name, source, want string }{
		{"members", `const r = await ctx.fetch("u"); return [r.status, r.ok, r.url]`,
			`[201,true,"https://a.example/"]`},
		{"text", `const r = await ctx.fetch("u"); return [await r.text(), await r.text()]`,
			`["{\"a\":[1,\"é\"],\"long\":0.12345678901234567890}",` +
				`"{\"a\":[1,\"é\"],\"long\":0.12345678901234567890}"]`},
		{"numbers", `return (await (await ctx.fetch("u")).json()).long`, `0.12345678901234568`},
		{"json", `return (await (await ctx.fetch("u")).json()).a`, `[1,"é"]`},
		{"headers", `const {headers} = await ctx.fetch("u");
			return [headers.get("X-Two"), headers["x-two"], headers.get("x-none"), headers.has("X-TWO"),
				headers.has("toString"), headers.get("get"), headers.get("__proto__")]`,
			`["a, b","a, b",null,true,false,"d","c"]`},
		{"as an output", `return (await ctx.fetch("u")).body === undefined`, `true`},
		{"written out", `return ctx.fetch("u")`, `{"status":201,"ok":true,"url":"https://a.example/",` +
			`"headers":{"x-two":"a, b","__proto__":"c"}}`},
		{"calls are numbered", `const texts = [];
			for (const args of [["args"], ["args", {a: 1}], ["args", undefined, 7]]) {
				texts.push(await (await ctx.fetch(...args)).text());
			}
			return texts`, `["[\"args\",null,0]","[\"args\",{\"a\":1},1]","[\"args\",null,2]"]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := output(t, p, fetching(test.source)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	broken := fetching(`return (await ctx.fetch("u")).json()`)
	broken.Host = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		return json.RawMessage(`{"headers":{},"body":"{"}`), nil
	}
	if got := p.RunCode(t.Context(), broken); got.Err == nil || got.Err.Code != CodeException {
		t.Errorf("a body that is no JSON: %+v", got)
	}
}
