package sandbox

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHostileScriptsEnd runs what beats an interpreter's own limits. Each script must end with one of its
// codes, within the limit, the grace and some room; and after each another tenant's run must come out as
// always. What meets another limit than that of time gets the time to. It runs before the parallel tests,
// since it measures time.
func TestHostileScriptsEnd(t *testing.T) {
	p := setup(t)
	scripts := hostileScripts()
	if len(scripts) < 130 {
		t.Errorf("%d scripts", len(scripts))
	}
	for _, script := range scripts {
		t.Run(script.kind+"/"+script.name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			r, codes := script.run(), script.codes
			if !slices.Contains(codes, CodeTimeout) {
				r.Limits.Timeout = 25 * time.Second
			}
			if raceBuild { // which is ten times slower
				codes = append(slices.Clone(codes), CodeTimeout)
			}
			got := p.RunCode(t.Context(), r)
			code := ""
			if got.Err != nil {
				code = got.Err.Code
			}
			if !slices.Contains(codes, code) {
				t.Errorf("got %q (%+v), want one of %q", code, got.Err, codes)
			}
			// The machine may be busy: BenchmarkRunaway measures.
			if late := got.Duration - r.Limits.Timeout - killGrace; late > 5*time.Second {
				t.Errorf("ended %s after the last limit", late)
			}
			t.Logf("%-8s %4d ms (%d with waiting) %v", code, got.Duration.Milliseconds(),
				time.Since(begun).Milliseconds(), got.Err)
			neighbor := run("return input.n + 1", func(r *Run) { r.Tenant, r.Limits = "neighbor", Limits{} })
			if got := output(t, p, neighbor); got != "2" {
				t.Errorf("the neighbor's run gave %s", got)
			}
		})
	}
}

// TestDeepNestingIsAStackError gives the same scripts the time that a busy machine needs to come to the
// real end.
func TestDeepNestingIsAStackError(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for name, source := range map[string]string{
		"JSON.parse":        "return JSON.parse('['.repeat(5e6))",
		"getter":            "const o = {get a() { return this.a }}; return o.a",
		"eval":              "return eval('('.repeat(2e6))",
		"source":            "return " + strings.Repeat("(", 120000) + strings.Repeat(")", 120000),
		"typescript":        "const a: number = " + strings.Repeat("(", 120000) + strings.Repeat(")", 120000),
		"native toString":   "const o = {toString() { return String(o) }}\nreturn String(o)",
		"sort":              "function f() { [2, 1].sort(f); return 0 }; f()",
		"uncaught by catch": "function f() { try { f() } catch { f() } finally { f() } }; f()",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(source, limits(func(l *Limits) { l.Timeout, l.MemoryBytes = 10*time.Second, 256<<20 }))
			if name == "typescript" {
				typescript(&r)
			}
			if got := p.RunCode(t.Context(), r); got.Err == nil || got.Err.Code != CodeStack {
				t.Errorf("got %v after %s", got.Err, got.Duration)
			}
		})
	}
}
