package e2e_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/node"
	"github.com/loglineos/loglineos/tests/program"
)

// command runs the binary without a database, and returns what it prints; it must exit with code.
func command(t *testing.T, code int, args ...string) (out, said string) {
	t.Helper()
	p := program.Start(t, nil, args...)
	if got := p.Wait(); got != code {
		t.Fatalf("logline %v exits with %d, want %d:\n%s%s", args, got, code, p.Out.String(), p.Err.String())
	}
	return p.Out.String(), p.Err.String()
}

func TestAFunctionGoesFromNothingToItsLog(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	dir := t.TempDir()
	greet := filepath.Join(dir, "greet.ts")
	command(t, 0, "function", "new", "greet", "--dir", dir)
	_, said := command(t, 1, "function", "new", "greet", "--dir", dir)
	if !strings.Contains(said, "it is there") {
		t.Errorf("a second time it says %q", said)
	}
	out, _ := command(t, 0, "function", "dev", greet, "--once")
	if !strings.Contains(out, `output {"greeting":"Hello, Ada!"}`) ||
		!strings.Contains(out, "log    greeting Ada") {
		t.Errorf("dev prints\n%s", out)
	}
	s.acts(0, alice, "function", "publish", greet, "--try")
	if rows := s.read("name = 'greet'"); len(rows) != 0 {
		t.Errorf("--try appends %d versions", len(rows))
	}
	s.acts(0, alice, "function", "publish", greet, "--visibility", "tenant", "--timeout-ms", "900")
	out, _ = s.acts(0, alice, "function", "publish", greet)
	if !strings.HasPrefix(out, "unchanged") {
		t.Errorf("the same again prints %q", out)
	}
	text, err := os.ReadFile(greet)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(greet, []byte(strings.Replace(string(text), "Hello", "Hi", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ = s.acts(0, alice, "function", "publish", greet)
	if !strings.Contains(out, "\n-  return { greeting: `Hello") ||
		!strings.Contains(out, "\n+  return { greeting: `Hi") || !strings.Contains(out, "version 1, active") || !strings.Contains(out, "changes code\n") {
		t.Errorf("the change prints\n%s", out)
	}
	if row := s.read("name = 'greet' and seq = 1")[0]; row.Visibility != "tenant" || *row.TimeoutMs != 900 ||
		row.Who != "user:alice" {
		t.Errorf("the next version is %+v", row)
	}
	out, _ = s.acts(0, carol, "function", "call", "greet", "--input", `{"name": "Carol"}`)
	if out != `{"greeting": "Hi, Carol!"}`+"\n" {
		t.Errorf("a call prints %q", out)
	}
	if _, said := s.acts(1, bob, "function", "call", "greet"); !strings.Contains(said,
		"may read none of this name") {
		t.Errorf("bob's call says %q", said)
	}
	logs, _ := s.acts(0, carol, "function", "logs", "greet")
	if strings.Count(logs, "\n") != 2 || !strings.Contains(logs, "complete") ||
		!strings.Contains(logs, "Hi, Carol!") || !strings.Contains(logs, "log   greeting Carol") {
		t.Errorf("logs prints\n%s", logs)
	}
	if logs, _ := s.acts(0, alice, "function", "logs", "greet"); logs != "no execution\n" {
		t.Errorf("alice sees carol's private execution:\n%s", logs)
	}
}

func TestPublishNeverGuessesWhichFunctionIsMeant(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := filepath.Join(t.TempDir(), "twin.js")
	if err := os.WriteFile(file, []byte("return 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for range 2 {
		key := s.insert(alice, function("return 0", columns{"name": "twin", "status": "active"}))
		ids = append(ids, key.ID.String())
	}
	s.insert(carol, function("return 0", columns{"name": "twin", "status": "active", "visibility": "tenant"}))
	_, said := s.acts(1, alice, "function", "publish", file)
	if !strings.Contains(said, "say which by --id") || !strings.Contains(said, ids[0]) {
		t.Errorf("of two of one name it says %q", said)
	}
	s.acts(0, alice, "function", "publish", file, "--id", ids[1], "--name", "single")
	if row := s.latest(span.MustID(ids[1])); row.Seq != 1 || *row.Name != "single" || *row.Code != "return 1" {
		t.Errorf("--id appends %+v", row)
	}
	// Another's function of that name is not hers to publish, and not meant.
	s.acts(0, alice, "function", "publish", file)
	if row := s.latest(span.MustID(ids[0])); row.Seq != 1 {
		t.Errorf("the one that is left has version %d", row.Seq)
	}
	_, said = s.acts(1, alice, "function", "publish", file, "--visibility", "public")
	if !strings.Contains(said, "LL010") || !strings.Contains(said, "): ") {
		t.Errorf("a refusal comes without its mend: %q", said)
	}
}

func TestPublishRefusesWhatDoesNotCompileWithThePlace(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for name, source := range map[string]string{
		"broken.js": "const a = 1;\nreturn a +;",
		"broken.ts": "const a: number = 1;\nreturn a +;",
	} {
		file := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(file, []byte(source), 0o600))
		for _, more := range [][]string{nil, {"--try"}} {
			_, said := s.acts(1, alice, append([]string{"function", "publish", file}, more...)...)
			if !strings.Contains(said, name+":2:11: syntax: ") {
				t.Errorf("%s: it says %q", name, said)
			}
		}
	}
	if n := one[int](s, "select count(*)::int from ledger.universal_registry where name = 'broken'"); n != 0 {
		t.Errorf("%d versions are published", n)
	}
	// It is compiled, and nothing of it runs.
	file := filepath.Join(t.TempDir(), "endless.js")
	must(t, os.WriteFile(file, []byte("while (true);"), 0o600))
	s.acts(0, alice, "function", "publish", file)
}

func TestPublishRefusesAScheduleThatNeverTicksAndWarnsOfASlip(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := filepath.Join(t.TempDir(), "nightly.js")
	must(t, os.WriteFile(file, []byte("return 1;"), 0o600))
	publish := func(code int, metadata string, more ...string) (out, said string) {
		words := []string{"function", "publish", file, "--metadata", metadata}
		return s.acts(code, alice, append(words, more...)...)
	}
	for metadata, want := range map[string]string{
		`{"schedule": {"cron": "61 * * * *"}}`:                      "61",
		`{"schedule": {"cron": "0 9 * * *", "tz": "Mars/Olympus"}}`: "Mars/Olympus",
		`{"schedule": "0 9 * * *"}`:                                 "want {",
		`{"schedule": {}}`:                                          "cron",
		// What the engine would refuse, and only an incident would tell.
		`{"schedule": {"cron": "0 9 * * *", "timezone": "Europe/Rome"}}`:     "no other key",
		`{"schedule": {"cron": "0 9 * * *", "fill": "some"}}`:                "fill",
		`{"schedule": {"cron": "0 9 * * *", "fill": "last", "fill_max": 2}}`: "fill_max",
	} {
		if _, said := publish(1, metadata); !strings.Contains(said, "metadata.schedule") ||
			!strings.Contains(said, want) {
			t.Errorf("%s: it says %q", metadata, said)
		}
	}
	if rows := s.read("name = 'nightly'"); len(rows) != 0 {
		t.Errorf("%d versions are published", len(rows))
	}
	const slip = `{"schedul": {"cron": "0 9 * * *"}, "Retry": {}, "color": 1}`
	_, said := publish(0, slip, "--try")
	for _, want := range []string{"metadata.schedul is not read; is metadata.schedule meant?",
		"metadata.Retry is not read"} {
		if !strings.Contains(said, want) || strings.Contains(said, "color") {
			t.Errorf("a slip: it says %q", said)
		}
	}
	if out, said := publish(0, slip, "--json"); said != "" ||
		!strings.Contains(out, `"warnings":["metadata.Retry`) {
		t.Errorf("--json prints %q, says %q", out, said)
	}
	if out, said := publish(0, `{"schedule": {"cron": "0 9 * * *"}}`); said != "" ||
		!strings.HasPrefix(out, "published") {
		t.Errorf("a good one prints %q, says %q", out, said)
	}
}

func TestPublishesOfOneNameAtOnceMakeOneFunction(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var all []*program.Process
	for i := range 6 {
		file := filepath.Join(t.TempDir(), "same.js")
		if err := os.WriteFile(file, []byte(fmt.Sprintf("return %d", i)), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, program.Start(t, nil, append(actingAs(alice, "function", "publish", file),
			"--database", s.db.URL)...))
	}
	for _, p := range all {
		if p.Wait() != 0 {
			t.Errorf("one of six says %s", p.Err.String())
		}
	}
	if rows := s.read("name = 'same' and entity_type = 'function'"); len(rows) != 6 || rows[0].ID != rows[5].ID {
		t.Errorf("they append %d versions", len(rows))
	}
}

// Two flags of the same words are two flags.
func TestPublishKeepsMetadataAndInputApart(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := filepath.Join(t.TempDir(), "apart.js")
	if err := os.WriteFile(file, []byte("return 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	const same = `{"a": 1}`
	s.acts(0, alice, "function", "publish", file, "--metadata", same, "--default-input", same)
	row := s.read("name = 'apart'")[0]
	if !strings.Contains(string(row.Metadata), `"a"`) || row.Input == nil {
		t.Errorf("the metadata is %s, the input %s", row.Metadata, row.Input)
	}
}

func TestACallThatFailsExitsWithOneAndSaysWhere(t *testing.T) {
	t.Parallel()
	s := setup(t)
	file := filepath.Join(t.TempDir(), "sum.js")
	if err := os.WriteFile(file, []byte("return 1 +\n  input.rows.length;"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.acts(0, alice, "function", "publish", file, "--name", "adds")
	// Nobody is there to run it.
	_, said := s.acts(1, alice, "function", "call", "adds", "--wait", "50ms")
	if !strings.Contains(said, "still open after 50ms, and scheduled") {
		t.Errorf("without a sidecar it says %q", said)
	}
	request, _ := s.acts(0, alice, "function", "call", "adds", "--no-wait", "--input", "{}")
	s.serve()
	id := span.MustID(strings.TrimSpace(request))
	program.Eventually(t, "the call that nobody waited for", func() bool {
		return s.latest(id).StatusText() == "error"
	})
	_, said = s.acts(1, alice, "function", "call", "adds", "--input", "{}")
	if !strings.Contains(said, "TypeError") || !strings.Contains(said, "(line 2, column ") {
		t.Errorf("it says %q", said)
	}
	out, _ := s.acts(1, alice, "function", "call", "adds", "--input", "{}", "--json")
	var result struct {
		Status string
		Error  struct{ Code string }
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.Status != "error" ||
		result.Error.Code != "exception" {
		t.Errorf("--json prints %s, %v", out, err)
	}
	p := program.Start(t, []string{"DATABASE_URL=" + s.db.URL},
		actingAs(alice, "function", "logs", "adds", "--follow", "--status", "error", "--limit", "1")...)
	program.Eventually(t, "the newest execution", func() bool {
		return strings.Contains(p.Out.String(), "TypeError")
	})
	before := strings.Count(p.Out.String(), "\n")
	s.acts(1, alice, "function", "call", "adds", "--input", "{}")
	program.Eventually(t, "the next one", func() bool { return strings.Count(p.Out.String(), "\n") == before+1 })
	if code := p.Stop(syscall.SIGINT); code != 0 {
		t.Errorf("Ctrl-C ends it with %d", code)
	}
	for _, wrong := range []string{"call adds --input {", "call", "call adds --wait 0s",
		"logs adds --status running", "publish nix.js", "publish f.txt",
		"publish " + file + " --id x", "dev", "new", "nwe x"} {
		s.acts(2, alice, append([]string{"function"}, strings.Fields(wrong)...)...)
	}
}

// Each save runs it again, one that replaces the file (as editors do) too, and ends a run that has no end.
func TestDevRunsAFileAtEachSave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "count.ts")
	save := func(code string) {
		t.Helper()
		other := filepath.Join(dir, "count.ts.new")
		if err := errors.Join(os.WriteFile(other, []byte(code), 0o600), os.Rename(other, file)); err != nil {
			t.Fatal(err)
		}
	}
	save("// input: {\"n\": 1}\nexport default (ctx: { input: { n: number } }) => ({ one: ctx.input.n });")
	p := program.Start(t, nil, "function", "dev", file)
	program.Eventually(t, "the first run", func() bool { return strings.Contains(p.Out.String(), `output {"one":1}`) })
	save("interface A { b: string }\nexport default function main() {\n  throw new Error('boom');\n}")
	program.Eventually(t, "the error with its place", func() bool {
		return strings.Contains(p.Out.String(), file+":3:9: exception: Error: boom")
	})
	save("for (;;);")
	save("while (true);")
	save("return 'after'")
	program.Eventually(t, "the run after one without an end", func() bool {
		return strings.Contains(p.Out.String(), `output "after"`)
	})
	if err := os.WriteFile(file, []byte("return 'in place'"), 0o600); err != nil {
		t.Fatal(err)
	}
	program.Eventually(t, "a save in place", func() bool { return strings.Contains(p.Out.String(), `output "in place"`) })
	if code := p.Stop(syscall.SIGINT); code != 0 {
		t.Errorf("Ctrl-C ends it with %d", code)
	}
}

// A function that is read by a link is saved where the link leads.
func TestDevSeesASaveBehindALink(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	file, link := filepath.Join(other, "real.js"), filepath.Join(dir, "link.js")
	err := errors.Join(os.WriteFile(file, []byte("return 'one'"), 0o600), os.Symlink(file, link))
	if err != nil {
		t.Fatal(err)
	}
	p := program.Start(t, nil, "function", "dev", link)
	says := func(text string) func() bool {
		return func() bool { return strings.Contains(p.Out.String(), text) }
	}
	program.Eventually(t, "the first run", says(`"one"`))
	if err := os.WriteFile(file, []byte("return 'two'"), 0o600); err != nil {
		t.Fatal(err)
	}
	program.Eventually(t, "the run after the save", says(`"two"`))
}

// What is no file is refused at once: a pipe that nobody writes to has no end, a device no bound.
func TestAFunctionIsAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, device, folder, long := filepath.Join(dir, "pipe.ts"), filepath.Join(dir, "zero.js"),
		filepath.Join(dir, "folder.ts"), filepath.Join(dir, "long.js")
	err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink("/dev/zero", device), os.Mkdir(folder, 0o700),
		os.WriteFile(long, bytes.Repeat([]byte(" "), 5<<20), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{pipe: "it is no file", device: "it is no file",
		folder: "it is no file", long: "more than 4 MiB"} {
		p := program.Start(t, nil, "function", "dev", path, "--once")
		if code := p.Wait(); code != 2 || !strings.Contains(p.Err.String(), want) {
			t.Errorf("%s: exit %d, %s", path, code, p.Err.String())
		}
	}
	// An input may come by a pipe; nobody writes to this one, and Ctrl-C ends that.
	file := filepath.Join(dir, "f.js")
	if err := os.WriteFile(file, []byte("return 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := program.Start(t, nil, "function", "dev", file, "--once", "--input", "@"+pipe)
	if code := p.Stop(syscall.SIGINT); code == 0 {
		t.Errorf("it exits with %d: %s", code, p.Said())
	}
}

// `function new` writes over nothing that it has not written, also not where a link leads.
func TestANewFunctionLeavesTheFilesOfOthers(t *testing.T) {
	t.Parallel()
	for name, lay := range map[string]func(dir string) error{
		"a file": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "globals.d.ts"), []byte("declare const mine: 1;"), 0o600)
		},
		"a link": func(dir string) error {
			precious := filepath.Join(dir, "precious")
			return errors.Join(os.WriteFile(precious, []byte("mine"), 0o600),
				os.Symlink(precious, filepath.Join(dir, "kernel.d.ts")))
		},
	} {
		dir := t.TempDir()
		if err := lay(dir); err != nil {
			t.Fatal(err)
		}
		_, said := command(t, 1, "function", "new", "greet", "--dir", dir)
		if !strings.Contains(said, "is not of this program") {
			t.Errorf("%s: it says %s", name, said)
		}
		if _, err := os.Stat(filepath.Join(dir, "greet.ts")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a function was written nevertheless: %v", name, err)
		}
		for _, file := range []string{"globals.d.ts", "precious"} {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err == nil && !strings.Contains(string(text), "mine") {
				t.Errorf("%s: %s was written over", name, file)
			}
		}
	}
	// Types of another version are its own, and are brought up to date.
	dir := t.TempDir()
	command(t, 0, "function", "new", "one", "--dir", dir)
	types := filepath.Join(dir, "kernel.d.ts")
	fresh, err := os.ReadFile(types)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(types, fresh[:len(fresh)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, 0, "function", "new", "two", "--dir", dir)
	if now, err := os.ReadFile(types); err != nil || !bytes.Equal(now, fresh) {
		t.Errorf("the types are of another version still, %v", err)
	}
}

// Who names a user, and no tenant, has made a slip: his code would see another identity.
func TestDevTakesNoHalfIdentityFromTheEnvironment(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "who.js")
	must(t, os.WriteFile(file, []byte("return ctx.env.APP_USER_ID"), 0o600))
	for name, want := range map[string]int{"APP_USER_ID": 2, "APP_TENANT_ID": 2, "NOTHING": 0} {
		p := program.Start(t, []string{name + "=alice"}, "function", "dev", file, "--once")
		if p.Wait() != want || want == 2 && !strings.Contains(p.Said(), "say who you are") {
			t.Errorf("with %s alone it exits with %d: %s", name, p.Code(), p.Said())
		}
	}
}

func TestDevNeedsNoDatabaseAndSaysWhatDoes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, c := range map[string]struct{ code, want string }{
		"find":  {`return await ctx.find({})`, "denied: ctx.find reads the ledger here"},
		"sum":   {`return await ctx.summarize({})`, "ctx.summarize reads the ledger here"},
		"fill":  {`ctx.insertSpan({id: ctx.bucket("a"), entity_type: "note"})`, "ctx.insertSpan reads the"},
		"fetch": {`await ctx.fetch("http://127.0.0.1:9/")`, "add --fetch HOST:PORT"},
		"long":  {"return 1\n+", "long.js:2:2: syntax: "},
	} {
		file := filepath.Join(dir, name+".js")
		if err := os.WriteFile(file, []byte(c.code), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, _ := command(t, 1, "function", "dev", file, "--once"); !strings.Contains(out, c.want) {
			t.Errorf("%s prints\n%s, want %q", name, out, c.want)
		}
	}
	file := filepath.Join(dir, "note.js")
	const code = `console.warn("w"); ctx.insertSpan({entity_type: "note", name: "n"}); return ctx.env`
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := command(t, 0, "function", "dev", file, "--once", "--json", "--as", "alice", "--tenant", "acme")
	var report struct {
		OK     bool
		Output map[string]string
		Logs   []struct{ Level, Message string }
		Spans  []span.Span
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || !report.OK || len(report.Logs) != 1 ||
		report.Logs[0].Level != "warn" || len(report.Spans) != 1 || report.Spans[0].OwnerID != "alice" ||
		report.Output["APP_TENANT_ID"] != "acme" {
		t.Errorf("--json prints %s, %v", out, err)
	}
}

// With a ledger, code reads what the user may read.
func TestDevReadsTheLedgerAsTheUser(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.insert(alice, columns{"entity_type": "note", "name": "alice's"})
	file := filepath.Join(t.TempDir(), "notes.js")
	const code = `return (await ctx.find({entity_type: "note"})).map((s) => s.name)`
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	for u, want := range map[user]string{alice: `output ["alice's"]`, bob: `output []`} {
		out, _ := s.acts(0, u, "function", "dev", file, "--once", "--database", s.db.URL)
		if !strings.Contains(out, want) {
			t.Errorf("as %s it prints\n%s", u.sub, out)
		}
	}
}

func TestPublishSigns(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.keys(0, "generate", "--purpose", "function", "--tenant", alice.tenant, "--owner", alice.sub, "--key",
		s.file("root"), "--out", s.file("alice"))
	s.save("one.js", "return 1")
	file := filepath.Join(s.dir, "one.js")
	s.acts(0, alice, "function", "publish", file)
	s.acts(0, alice, "function", "publish", file, "--sign", s.file("alice"))
	s.save("one.js", "return 2")
	s.acts(0, alice, "function", "publish", file, "--sign", s.file("alice"))
	rows := s.read("name = 'one'")
	slices.SortFunc(rows, func(a, b *span.Span) int { return a.Seq - b.Seq })
	if len(rows) != 3 || rows[0].Signature != nil || rows[1].Signature == nil || rows[2].Signature == nil ||
		*rows[2].PrevHash != *rows[1].CurrHash {
		t.Errorf("%d versions: %+v", len(rows), rows)
	}
}

// What `function new` writes has types that hold, and that an editor finds.
func TestANewFunctionIsTyped(t *testing.T) {
	t.Parallel()
	tsc := node.Tool(t, "tsc")
	dir := t.TempDir()
	command(t, 0, "function", "new", "typed", "--dir", dir)
	check := func() (string, error) {
		c := exec.CommandContext(t.Context(), tsc, "-p", dir)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := check(); err != nil {
		t.Errorf("tsc: %v\n%s", err, out)
	}
	const wrong = `import type { FunctionCtx } from "./kernel"; export const f = (ctx: FunctionCtx) => ctx.fnid({});`
	if err := os.WriteFile(filepath.Join(dir, "wrong.ts"), []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := check(); err == nil || !strings.Contains(out, "fnid") {
		t.Errorf("tsc lets a slip pass: %v\n%s", err, out)
	}
}
