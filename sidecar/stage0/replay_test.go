package stage0

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// recorded runs function for a request and appends what came of it; it returns the execution's id.
func (b *bench) recorded(n int, function span.ID, change ...func(*span.Span)) span.ID {
	b.t.Helper()
	execution, group := b.execute(n, function, change...)
	outcomes, err := b.config.Ledger.Append(b.t.Context(), []ledger.Group{group})
	if err != nil || outcomes[0].Err != nil {
		b.t.Fatal(err, outcomes)
	}
	return execution.ID
}

// replayed repeats an execution with a Stage-0 that only reads, as the command does.
func (b *bench) replayed(id span.ID, other *ReplayCode) *Replay {
	b.t.Helper()
	reader, err := ledger.OpenReader(b.t.Context(), b.db.SidecarURL)
	if err != nil {
		b.t.Fatal(err)
	}
	defer reader.Close()
	report, err := New(Config{Ledger: reader, Pool: b.config.Pool, Node: "replay", Log: b.config.Log}).
		Replay(b.t.Context(), id, other)
	if err != nil {
		b.t.Fatal(err)
	}
	return report
}

func TestReplayGivesTheSame(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.put(500, "order", func(s *span.Span) {
		s.Name, s.Metadata = new("o"), json.RawMessage(`{"b":1,"aa":2,"10":3}`)
	})
	for name, source := range map[string]string{
		"pure":  "return input",
		"time":  "await ctx.find({name: 'x'}); return [Date.now(), ctx.now(), performance.now(), Math.random(), ctx.id()]",
		"find":  "const [o] = await ctx.find({entity_type: 'order'}); return [o, Object.keys(o.metadata), JSON.stringify(o)]",
		"spans": "const a = ctx.insertSpan({entity_type: 'note', name: 'a'}); ctx.insertSpan({entity_type: 'note'}); return a",
		"timers": `const seen = []; for (const ms of [3, 1, 2]) setTimeout(() => seen.push([ms, performance.now()]), ms);
			ctx.find({name: 'x'}).then(() => seen.push(performance.now()));
			await new Promise((done) => setTimeout(done, 20)); return seen`,
		"refused":  "try { await ctx.find({color: 'red'}) } catch (e) { return [e.code, e.message] }",
		"refused2": "try { ctx.insertSpan({entity_type: 'execution'}) } catch (e) { return [e.code, e.message] }",
		"throws":   "ctx.insertSpan({entity_type: 'note'}); await ctx.find({name: 'x'});\n  throw new Error(ctx.now())",
		"logs":     "console.log(input, Math.random()); await ctx.find({name: 'x'}); console.warn('later')",
		"syntax":   "return (",
		"pending":  "await new Promise(() => 1)",
		"null":     "return null",
		"open":     "ctx.find({name: 'never awaited'}); return 1",
		"bucket":   "return ctx.bucket('day')",
		"many":     "for (let i = 0; i < 20; i++) ctx.insertSpan({entity_type: 'note', metadata: {i, text: 'x'.repeat(9000)}})",
	} {
		for n, change := range []func(*span.Span){
			func(s *span.Span) {},
			func(s *span.Span) { s.Input = json.RawMessage(`{"z":1,"a":[1.50,"é"],"10":null}`) },
		} {
			f := b.function(1000+b.next(), source, func(s *span.Span) {
				if n == 1 {
					s.Input = json.RawMessage(`{"own":true}`)
				}
			})
			id := b.recorded(2000+b.next(), f.ID, change)
			if got := b.replayed(id, nil); got.Verdict != ReplaySame {
				t.Errorf("%s: %s", name, encode(got))
			}
		}
	}
}

// next numbers what a test makes.
func (b *bench) next() int {
	b.made++
	return b.made
}

// What the network answered is in the record; a replay asks nobody.
func TestReplayAsksNoHost(t *testing.T) {
	t.Parallel()
	asked := 0
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		_, _ = fmt.Fprintf(w, `{"n":%d,"big":9007199254740993}`, asked)
	}))
	t.Cleanup(answers.Close)
	host := strings.TrimPrefix(answers.URL, "http://")
	b := setup(t, map[string]any{"grants": map[string]any{idOf(1).String(): []string{"fetch:" + host},
		"run_code": []string{"run", "reserve", "insertSpan:execution", "version:request"}}}, nil)
	b.reach(host)
	b.function(1, fmt.Sprintf(`const a = await ctx.fetch(%q), b = await ctx.fetch(%q);
		try { await ctx.fetch("https://elsewhere.example") } catch (e) { ctx.log(e.code, e.message) }
		return [(await a.json()).n, await b.text(), a.elapsed_ms, performance.now()]`, answers.URL, answers.URL))
	id := b.recorded(2, idOf(1))
	if got := b.replayed(id, nil); got.Verdict != ReplaySame || got.Calls != 3 || asked != 2 {
		t.Errorf("the host was asked %d times: %s", asked, encode(got))
	}
}

func TestReplayOfALaterAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	f := b.function(1, "ctx.insertSpan({entity_type: 'note'}); return [ctx.id(), Math.random()]")
	outputs := map[string]bool{}
	for attempt := 1; attempt <= 2; attempt++ {
		request := b.request(1+attempt, f.ID)
		request.Attempt = &attempt
		results, err := b.boot("run_code", "", request)
		if err != nil {
			t.Fatal(err)
		}
		group := results[request.Key()].group
		outcomes, err := b.config.Ledger.Append(t.Context(), []ledger.Group{group})
		if err != nil || outcomes[0].Err != nil {
			t.Fatal(err, outcomes)
		}
		got := b.replayed(group.Rows[0].ID, nil)
		if outputs[string(got.Output)] = true; got.Verdict != ReplaySame {
			t.Errorf("attempt %d: %s", attempt, encode(got))
		}
		// As if the record had kept no answer: what the host makes of a call is made again, the same.
		changed := b.latest(group.Rows[0].ID)
		var metadata map[string]any
		if err := json.Unmarshal(changed.Metadata, &metadata); err != nil {
			t.Fatal(err)
		}
		call := metadata["run"].(map[string]any)["calls"].([]any)[0].(map[string]any)
		delete(call, "answer")
		changed.Metadata = encode(metadata)
		changed.CurrHash, changed.Signature, changed.PublicKey = nil, nil, nil
		if err := changed.Seal(nil); err != nil {
			t.Fatal(err)
		}
		b.tamper(fmt.Sprintf(`metadata = '%s', curr_hash = '%s'`, changed.Metadata, *changed.CurrHash), changed.ID)
		if got := b.replayed(changed.ID, nil); got.Verdict != ReplaySame {
			t.Errorf("attempt %d without its answer: %s", attempt, encode(got))
		}
	}
	if len(outputs) != 2 {
		t.Errorf("both attempts have the same seed: %v", outputs)
	}
}

func TestReplayOfOtherCodeSaysWhatDiffers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	const source = `const found = await ctx.find({name: "x"});
		ctx.log("found", found.length); ctx.insertSpan({entity_type: "note", name: "a"});
		return {n: found.length, r: Math.random()}`
	id := b.recorded(2, b.function(1, source).ID)
	late := b.recorded(4, b.function(3, "for (;;);", func(s *span.Span) { s.TimeoutMs = new(50) }).ID)
	cases := []struct {
		name, source string
		id           span.ID
		differs      string // the What of each difference
	}{
		{"same", source, id, ""},
		{"comment", source + " // more", id, ""},
		{"output", strings.Replace(source, "found.length, r", "found.length + 1, r", 1), id, "output"},
		{"log", strings.Replace(source, `"found", `, `"have", `, 1), id, "log 1"},
		{"span", strings.Replace(source, `name: "a"`, `name: "b"`, 1), id, "call 2 (insertSpan)"},
		{"one span more", strings.Replace(source, "return", `ctx.insertSpan({entity_type: "memory"}); return`, 1),
			id, "call 3 (insertSpan)"},
		{"span first", `ctx.insertSpan({entity_type: "memory"}); ` + source, id,
			"call 1 (find, then insertSpan),call 2 (insertSpan, then find),call 3 (insertSpan)"},
		{"other find", strings.Replace(source, `name: "x"`, `name: "y"`, 1), id,
			"error,log 1,call 1 (find),call 2 (insertSpan)"},
		{"throws", "throw new Error('new')", id, "error,log 1,call 1 (find),call 2 (insertSpan)"},
		{"no call", "return 1", id, "output,log 1,call 1 (find),call 2 (insertSpan)"},
		{"mends a timeout", "return 7", late, "error"},
	}
	for _, c := range cases {
		got := b.replayed(c.id, &ReplayCode{Source: c.source, Language: "javascript"})
		var differs []string
		for _, d := range got.Differences {
			differs = append(differs, d.What)
		}
		if strings.Join(differs, ",") != c.differs || (got.Verdict == ReplaySame) != (c.differs == "") {
			t.Errorf("%s: got %s, want differences in %q", c.name, encode(got), c.differs)
		}
	}
}

// Whoever may read an execution reads its record: of what the caller alone may read there is nothing in it.
func TestTheRecordShowsNobodyWhatTheCallerAloneMayRead(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	b.put(500, "note", func(s *span.Span) { s.Name = new("dear diary") })
	f := b.function(1, `const found = await ctx.find({entity_type: "note"});
		await ctx.summarize({name: "dear diary"}, {by: ["name"]});
		ctx.insertSpan({entity_type: "copy", visibility: "private", name: found[0].name});
		const day = ctx.bucket("day");
		ctx.insertSpan({id: day, entity_type: "copy", visibility: "private", name: found[0].name});
		ctx.insertSpan({entity_type: "tally", metadata: {n: found.length}});
		try { await ctx.find({[found[0].name]: "x"}) } catch {}
		try { await ctx.fetch("https://" + found[0].name.replace(" ", ".") + "/") } catch {}
		return found.length`, func(s *span.Span) { s.Visibility = "tenant" })
	for i, visibility := range []string{"private", "tenant", "public"} {
		x, _ := b.execute(10+i, f.ID, func(s *span.Span) { s.Visibility = visibility })
		var metadata struct {
			Run runRecord `json:"run"`
		}
		if err := json.Unmarshal(x.Metadata, &metadata); err != nil || string(x.Output) != "1" {
			t.Fatal(err, string(encode(x)))
		}
		kept := ""
		for _, c := range metadata.Run.Calls {
			if c.Hash == "" || c.AtUs == nil {
				t.Errorf("%s: %s has no hash or no moment", visibility, c.Name)
			}
			if c.Answer != nil || c.Error != nil {
				kept += c.Name + " "
			}
		}
		want := "bucket insertSpan "
		if visibility == "private" {
			want = "find summarize insertSpan bucket insertSpan insertSpan find fetch "
		}
		shows := strings.Contains(string(x.Metadata), "diary")
		if kept != want || shows != (visibility == "private") {
			t.Errorf("%s: kept are the answers to %s: %s", visibility, kept, x.Metadata)
		}
	}
	// What a function appends is made again, so that a run which reads nothing can be repeated.
	own := b.function(2, `ctx.insertSpan({entity_type: "copy", visibility: "private"}); return ctx.bucket("day")`)
	id := b.recorded(20, own.ID, func(s *span.Span) { s.Visibility = "tenant" })
	if got := b.replayed(id, nil); got.Verdict != ReplaySame {
		t.Errorf("a run that reads nothing: %s", encode(got))
	}
}

func TestReplayRefusesWhatCannotBeRepeated(t *testing.T) {
	t.Parallel()
	b := setup(t, nil, nil)
	for i := range 9 {
		b.put(500+i, "big", func(s *span.Span) {
			s.Metadata = json.RawMessage(`{"text":"` + strings.Repeat("x", 9000) + `"}`)
		})
	}
	plain := "return Math.random()"
	run := func(source string, change ...func(*span.Span)) span.ID {
		f := b.function(1000+b.next(), source, change...)
		return b.recorded(2000+b.next(), f.ID, func(s *span.Span) { s.Visibility = f.Visibility })
	}
	tampered, changed := run(plain), run(plain)
	b.tamper(`output = '"other"'`, tampered)
	b.tamper(`code = 'return 1'`, *b.latest(changed).ParentID)
	unhashed := run(plain, func(s *span.Span) { s.Name = new("unhashed") })
	b.tamper(`name = 'renamed'`, *b.latest(unhashed).ParentID)
	cases := []struct {
		name   string
		id     span.ID
		reason string
	}{
		{"the execution was changed", tampered, "the record was changed"},
		{"the function was changed", changed, "is not what was hashed"},
		{"its name was changed", unhashed, "is not what was hashed"},
		{"timeout", run("for (;;);", func(s *span.Span) { s.TimeoutMs = new(50) }), "it ended with timeout"},
		{"large answers", run("return (await ctx.find({entity_type: 'big'})).length"),
			"the answer to call 1 (find) was not kept"},
		{"others read it", run("return (await ctx.find({entity_type: 'none'})).length",
			func(s *span.Span) { s.Visibility = "tenant" }), "only a private one keeps what code has read"},
		{"nothing ran", b.recorded(3, idOf(9999)), "no code ran"},
	}
	for _, c := range cases {
		got := b.replayed(c.id, nil)
		if got.Verdict != ReplayNotRepeatable || !strings.Contains(got.Reason, c.reason) {
			t.Errorf("%s: got %s, want %q", c.name, encode(got), c.reason)
		}
	}
	_, err := b.Replay(t.Context(), idOf(500), nil)
	if err == nil || !strings.Contains(err.Error(), "no execution") {
		t.Errorf("an order is replayed: %v", err)
	}
}
