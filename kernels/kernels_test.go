package kernels

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/node"
)

var update = flag.Bool("update", false, "write what the kernels do now into testdata, to be read and committed")

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.ChildArg {
		sandbox.Main()
	}
	os.Exit(m.Run())
}

// testCase is testdata/<kernel>/<case>.json.
type testCase struct {
	About    string                     `json:"about"`
	Batch    json.RawMessage            `json:"batch"`
	Input    json.RawMessage            `json:"input,omitempty"`
	Manifest map[string]json.RawMessage `json:"manifest,omitempty"` // over the keys of manifest.json
	Answers  []answer                   `json:"answers,omitempty"`  // of async calls
	Refuse   map[string]refusal         `json:"refuse,omitempty"`   // "insertSpan 2": the second call of it
	Expect   expectation                `json:"expect"`
	isPolicy bool
}

// answer is what the host gives for a call whose first argument has all members of Of.
type answer struct {
	Call   string                     `json:"call"`
	Of     map[string]json.RawMessage `json:"of,omitempty"`
	Result json.RawMessage            `json:"result,omitempty"`
	Refuse *refusal                   `json:"refuse,omitempty"`
}

type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// expectation holds the arguments of the kernel's calls, or how it ended.
type expectation struct {
	Spans    []json.RawMessage `json:"spans,omitempty"`    // of insertSpan: [partial, origin], in order
	Versions []json.RawMessage `json:"versions,omitempty"` // of version: [id, changes], in order
	Runs     []json.RawMessage `json:"runs,omitempty"`     // of run: [target], sorted: they are asked at once
	Again    []json.RawMessage `json:"again,omitempty"`    // of again: [origin]
	Fetches  []json.RawMessage `json:"fetches,omitempty"`  // of fetch: [url, init, number], in order
	Reserves []json.RawMessage `json:"reserves,omitempty"` // of reserve: [quota], in order
	Output   json.RawMessage   `json:"output,omitempty"`   // what it returns, where that is no null
	Error    *refusal          `json:"error,omitempty"`
}

// host answers a kernel's calls by the case, and notes them.
type host struct {
	of    *testCase
	mu    sync.Mutex
	count map[string]int
	got   expectation
}

func (h *host) call(_ context.Context, name string, args json.RawMessage) (json.RawMessage, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count[name]++
	args = bytes.Clone(args)
	switch name {
	case "insertSpan":
		h.got.Spans = append(h.got.Spans, args)
	case "version":
		h.got.Versions = append(h.got.Versions, args)
	case "again":
		h.got.Again = append(h.got.Again, args)
	case "run":
		h.got.Runs = append(h.got.Runs, args)
	case "fetch":
		h.got.Fetches = append(h.got.Fetches, args)
	case "reserve":
		h.got.Reserves = append(h.got.Reserves, args)
	}
	if r, refused := h.of.Refuse[fmt.Sprintf("%s %d", name, h.count[name])]; refused {
		return nil, &sandbox.HostError{Code: r.Code, Message: r.Message}
	}
	var list []json.RawMessage
	var first map[string]json.RawMessage
	if err := json.Unmarshal(args, &list); err != nil {
		return nil, err
	}
	if json.Unmarshal(list[0], &first) != nil {
		first = map[string]json.RawMessage{}
	}
	for _, a := range h.of.Answers {
		if a.Call == name && holds(first, a.Of) {
			if a.Refuse != nil {
				return nil, &sandbox.HostError{Code: a.Refuse.Code, Message: a.Refuse.Message}
			}
			return a.Result, nil
		}
	}
	if name == "insertSpan" || name == "version" || name == "again" {
		first["id"] = json.RawMessage(fmt.Sprintf(`"<%s %d>"`, name, h.count[name]))
		return json.Marshal(first)
	}
	if name == "bucket" {
		return json.Marshal(fmt.Sprintf("<bucket %s>", strings.Trim(string(list[0]), `"`)))
	}
	return nil, fmt.Errorf("the case has no answer for %s%s", name, args)
}

func holds(members, part map[string]json.RawMessage) bool {
	for key, value := range part {
		if !bytes.Equal(compact(members[key]), compact(value)) {
			return false
		}
	}
	return true
}

func compact(raw json.RawMessage) []byte {
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return nil
	}
	return out.Bytes()
}

// play runs source as a kernel on a case, in the sandbox.
func play(t *testing.T, pool *sandbox.Pool, source string, c *testCase) (expectation, []sandbox.Log) {
	t.Helper()
	document, err := Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var manifest map[string]json.RawMessage
	if err := json.Unmarshal(document, &manifest); err != nil {
		t.Fatal(err)
	}
	maps.Copy(manifest, c.Manifest)
	if document, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
	input := c.Input
	if input == nil {
		input = json.RawMessage("null")
	}
	data, err := json.Marshal(map[string]json.RawMessage{"batch": c.Batch, "input": input,
		"env": json.RawMessage("{}")})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{of: c, count: map[string]int{}}
	run := sandbox.Run{
		Program: sandbox.Program{Name: "kernel", Source: source}, Data: data,
		Lazy:          map[string]json.RawMessage{"manifest": document},
		DeferredCalls: []string{"insertSpan", "version", "again"},
		AsyncCalls:    []string{"find", "summarize", "sql", "run", "fetch", "reserve"},
		Now:           time.Unix(1767225600, 0), Host: h.call,
	}
	if c.isPolicy {
		run.Entry, run.SyncCalls, run.DeferredCalls = sandbox.EntryPolicy, []string{"bucket"}, nil
	}
	result := pool.RunKernel(t.Context(), run)
	if result.Cause != nil {
		t.Fatal(result.Cause)
	}
	slices.SortFunc(h.got.Runs, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
	if result.Err != nil {
		h.got.Error = &refusal{result.Err.Code, result.Err.Message}
	} else if string(result.Output) != "null" {
		h.got.Output = result.Output
	}
	return h.got, result.Logs
}

// casesOf reads testdata/<kernel>/, by file name.
func casesOf(t *testing.T, kernel string) map[string]*testCase {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", kernel, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]*testCase{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := new(testCase)
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(c); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if c.About == "" {
			t.Errorf("%s: say what it is about", file)
		}
		c.isPolicy = strings.HasPrefix(kernel, "policies/")
		cases[file] = c
	}
	return cases
}

// program is a kernel or a policy, and where its cases lie.
type program struct {
	Kernel
	cases string
}

// everything returns the kernels, then the policies.
func everything(t *testing.T) []program {
	t.Helper()
	var programs []program
	for folder, read := range map[string]func() ([]Kernel, error){"": All, "policies/": Policies} {
		all, err := read()
		if err != nil {
			t.Fatal(err)
		}
		for _, kernel := range all {
			programs = append(programs, program{kernel, folder + kernel.Name})
		}
	}
	return programs
}

func newPool(t *testing.T) *sandbox.Pool {
	t.Helper()
	pool, err := sandbox.New(sandbox.Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestKernelsDoWhatTheirCasesSay(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	for _, kernel := range everything(t) {
		for file, c := range casesOf(t, kernel.cases) {
			got, _ := play(t, pool, kernel.Source, c)
			want := pretty(t, c.Expect)
			if text := pretty(t, got); text != want && *update {
				c.Expect = got
				if err := os.WriteFile(file, []byte(pretty(t, c)), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if text != want {
				t.Errorf("%s: %s\ngot %swant %s", file, c.About, text, want)
			}
		}
	}
}

// pretty writes a value as the files in testdata are written.
func pretty(t *testing.T, value any) string {
	t.Helper()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The cases of a kernel together pass every statement and every branch of it.
func TestCasesCoverEveryBranch(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	for _, kernel := range everything(t) {
		source, probes := instrument(t, kernel.Source)
		for file, c := range casesOf(t, kernel.cases) {
			got, logs := play(t, pool, source, c)
			if pretty(t, got) != pretty(t, c.Expect) && !*update {
				t.Errorf("%s: with probes the kernel does something else: %s", file, pretty(t, got))
			}
			for _, log := range logs {
				delete(probes, log.Message)
			}
		}
		for _, place := range probes {
			t.Errorf("no case of %s passes %s", kernel.Name, place)
		}
	}
}

// A probe that no case passes must be seen: otherwise the test above proves nothing.
func TestCoverageCanFail(t *testing.T) {
	t.Parallel()
	source, probes := instrument(t, `export default async function main(ctx) {
  const f = (x) => x === 1 ? "one" : "other";
  if (ctx.batch.length > 0) return;
  try {
    f(1);
  } catch (error) {
    f(2 || 3);
  }
}`)
	c := &testCase{Batch: json.RawMessage("[]")}
	_, logs := play(t, newPool(t), source, c)
	for _, log := range logs {
		delete(probes, log.Message)
	}
	left := slices.Sorted(maps.Values(probes))
	want := []string{"line 2: condition: false", "line 3: if: true", "line 3: statement", "line 7: right of ||",
		"line 7: statement"}
	if !slices.Equal(left, want) {
		t.Errorf("got %q, want %q", left, want)
	}
}

var forbidden = map[string]*regexp.Regexp{
	"uses Date, whose clock differs": regexp.MustCompile(`\bDate\b`),
	"uses Math.random":               regexp.MustCompile(`\bMath\s*\.\s*random\b`),
	"imports":                        regexp.MustCompile(`(?m)^\s*import\b|\brequire\s*\(|\bimport\s*\((?:[^"]|"[^.])`),
	"uses globals":                   regexp.MustCompile(`\b(globalThis|SPAN_ID)\b|\b(eval|Function)\(`),
	"declares var or let":            regexp.MustCompile(`(?m)^\s*(var|let)\s`),
	"compares loosely":               regexp.MustCompile(`[^=!]==[^=]|!=[^=]`),
	"is not indented by 2 spaces":    regexp.MustCompile(`(?m)^\t|^( {2})* [^ *]`),
	"has space at a line's end":      regexp.MustCompile(`(?m)[ \t]+$`),
}

var comments = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)

func TestKernelsKeepTheStyle(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, kernel := range everything(t) {
		isPolicy := strings.HasPrefix(kernel.cases, "policies/")
		file, entry := kernel.File, "main(ctx)"
		if isPolicy {
			file, entry = "policies/"+kernel.File, "on(span, ctx)"
		} else if id := span.DefaultManifest().Kernels[kernel.Name]; id != kernel.ID {
			t.Errorf("%s has the id %s in index.json, %s in span", kernel.Name, kernel.ID, id)
		}
		listed[file] = true
		if lines := strings.Count(kernel.Source, "\n"); lines >= 200 {
			t.Errorf("%s has %d lines, want fewer than 200", file, lines)
		}
		if strings.Count(kernel.Source, "export ") != 1 ||
			!strings.Contains(kernel.Source, "\nexport default async function "+entry+" {\n") {
			t.Errorf("%s: want one export default async function %s", file, entry)
		}
		if !strings.HasPrefix(kernel.Source, "/**\n * "+kernel.Name+": ") {
			t.Errorf("%s: want a comment on top that begins with its name", file)
		}
		code := comments.ReplaceAllStringFunc(kernel.Source, func(comment string) string {
			return strings.Repeat("\n", strings.Count(comment, "\n")) + "//"
		})
		if isPolicy { // which reckon with times that they are given
			code = given.ReplaceAllString(code, "")
		}
		for fault, pattern := range forbidden {
			if found := pattern.FindString(code); found != "" {
				t.Errorf("%s %s: %q", file, fault, found)
			}
		}
		if len(casesOf(t, kernel.cases)) == 0 {
			t.Errorf("%s has no cases in testdata/%s", file, kernel.cases)
		}
	}
	for _, pattern := range []string{"*.js", "policies/*.js"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !listed[file] {
				t.Errorf("%s is not in index.json", file)
			}
		}
	}
}

// given is Date of a time that is stated.
var given = regexp.MustCompile(`\bDate\.parse\(\w|\bnew Date\([^)]`)

func TestPoliciesAreTimedAsTheirIndexSays(t *testing.T) {
	t.Parallel()
	all, err := Policies()
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range all {
		var metadata struct{ When json.RawMessage }
		if err := json.Unmarshal(policy.Metadata, &metadata); err != nil {
			t.Fatal(err)
		}
		when, err := span.ParseWhen(metadata.When)
		if err != nil || when.Names("entity_type") == nil {
			t.Errorf("%s: %s names no entity_type, %v", policy.Name, metadata.When, err)
		}
	}
}

func TestStyleRulesCanFail(t *testing.T) {
	t.Parallel()
	for fault, code := range map[string]string{
		"uses Date, whose clock differs": "Date.now()", "uses Math.random": "Math.random()",
		"imports": "import x from 'y'", "uses globals": "globalThis.x", "declares var or let": "  let x",
		"compares loosely": "if (a == b)", "is not indented by 2 spaces": "   x",
		"has space at a line's end": "x \n",
	} {
		if !forbidden[fault].MatchString(code) {
			t.Errorf("%q passes: %s", code, fault)
		}
	}
}

func TestManifestIsSound(t *testing.T) {
	t.Parallel()
	document, err := Manifest()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := span.ParseManifest(document)
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range manifest.Kernels {
		if !slices.Contains(manifest.AllowedBootIDs, id) {
			t.Errorf("%s may not boot", name)
		}
	}
}

func TestKernelsHaveTheTypesOfKernelDTS(t *testing.T) {
	t.Parallel()
	tsc := node.Tool(t, "tsc")
	files, err := filepath.Glob("*.js")
	if err != nil {
		t.Fatal(err)
	}
	policies, err := filepath.Glob("policies/*.js")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, policies...)
	files = append(files, "globals.d.ts") // and no types of a browser
	flags := []string{"--noEmit", "--checkJs", "--allowJs", "--strict", "--target", "es2022", "--module",
		"es2022", "--lib", "es2022",
		"--moduleResolution", "bundler", "--noUnusedLocals", "--useUnknownInCatchVariables", "false"}
	out, err := exec.CommandContext(t.Context(), tsc, append(flags, files...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
