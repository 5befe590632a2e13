package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dop251/goja"
)

const benchSource = `export default function main(ctx) {
  let n = 0
  for (const row of ctx.input.rows) n += row.amount
  return { n, first: ctx.input.rows[0], count: ctx.input.rows.length }
}`

// benchData returns an input of about so many bytes.
func benchData(bytes int) json.RawMessage {
	row := `{"id":"0192f0c1-2345-7abc-8def-0123456789ab","amount":12.5,"who":"user:anna","tags":["a","b"],"done":true}`
	rows := strings.Repeat(row+",", max(bytes/len(row), 1)-1) + row
	return json.RawMessage(`{"input":{"rows":[` + rows + `]}}`)
}

var benchSizes = []int{1 << 10, 100 << 10}

// BenchmarkOverhead is a call in a child beside the same call in this process, which goja alone serves with a
// fresh runtime and a cached program. Both are measured in turn, so that they see the same machine.
func BenchmarkOverhead(b *testing.B) {
	for _, kind := range []string{"code", "kernel"} {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%dKB", kind, size>>10), func(b *testing.B) {
				p := setup(b)
				r := run(benchSource, func(r *Run) { r.Data, r.Limits = benchData(size), Limits{} })
				do := p.RunCode
				if kind == "kernel" {
					do = p.RunKernel
				}
				alone := inProcess(b, size)
				var whole, inside, baseline []time.Duration
				for b.Loop() {
					begun := time.Now()
					got := do(b.Context(), r)
					if got.Err != nil {
						b.Fatal(got.Err)
					}
					between := time.Now()
					alone()
					whole, baseline = append(whole, between.Sub(begun)), append(baseline, time.Since(between))
					inside = append(inside, got.JSTime)
				}
				child, here := quantile(whole, 0.5), quantile(baseline, 0.5)
				b.ReportMetric(inMicros(child), "child-p50-µs")
				b.ReportMetric(inMicros(quantile(whole, 0.99)), "child-p99-µs")
				b.ReportMetric(inMicros(quantile(inside, 0.5)), "inside-p50-µs")
				b.ReportMetric(inMicros(here), "goja-p50-µs")
				b.ReportMetric(inMicros(child-here), "overhead-µs")
				b.ReportMetric(float64(child)/float64(here), "child/goja")
			})
		}
	}
}

// inProcess is the baseline: what goja alone costs.
func inProcess(b *testing.B, size int) func() {
	program := goja.MustCompile("code", "("+strings.Replace(benchSource, "export default ", "", 1)+")", false)
	data := string(benchData(size))
	return func() {
		vm := goja.New()
		json := vm.Get("JSON").(*goja.Object)
		parse, _ := goja.AssertFunction(json.Get("parse"))
		ctx, err := parse(json, vm.ToValue(data))
		if err != nil {
			b.Fatal(err)
		}
		f, err := vm.RunProgram(program)
		if err != nil {
			b.Fatal(err)
		}
		main, _ := goja.AssertFunction(f)
		output, err := main(nil, ctx)
		if err != nil {
			b.Fatal(err)
		}
		stringify, _ := goja.AssertFunction(json.Get("stringify"))
		if _, err := stringify(json, output); err != nil {
			b.Fatal(err)
		}
	}
}

func inMicros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
func inMillis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// quantile sorts list.
func quantile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(int(q*float64(len(list))), len(list)-1)]
}

func BenchmarkHostCall(b *testing.B) {
	p := setup(b)
	r := run(`for (let i = 0; i < 10; i++) await ctx.find({a: i}); return 1`, host(echo))
	for b.Loop() {
		if got := p.RunCode(b.Context(), r); got.Err != nil {
			b.Fatal(got.Err)
		}
	}
}

// BenchmarkGlobals is what the globals cost a run: nobody pays for those whose name it does not know.
func BenchmarkGlobals(b *testing.B) {
	for name, source := range map[string]string{
		"none named": "return 1", "console used": "console.log(1); return 1",
		"all named": "globalThis[0]; return 1", "URL used": "return new URL('https://a.b/c?d').href",
		"structuredClone used": "return structuredClone({a: [1]})",
	} {
		b.Run(name, func(b *testing.B) {
			p := setup(b)
			r := run(source, func(r *Run) { r.Limits = Limits{} })
			var inside []time.Duration
			for b.Loop() {
				got := p.RunCode(b.Context(), r)
				if got.Err != nil {
					b.Fatal(got.Err)
				}
				inside = append(inside, got.JSTime)
			}
			slices.Sort(inside)
			b.ReportMetric(float64(inside[len(inside)/2].Nanoseconds())/1000, "p50-inside-µs")
		})
	}
}

// BenchmarkRecord is what it costs to record ten calls, beside BenchmarkHostCall.
func BenchmarkRecord(b *testing.B) {
	p := setup(b)
	r := run(`for (let i = 0; i < 10; i++) await ctx.find({a: i}); return 1`, host(echo))
	r.RecordBytes = 64 << 10
	for b.Loop() {
		if got := p.RunCode(b.Context(), r); got.Err != nil {
			b.Fatal(got.Err)
		}
	}
}
