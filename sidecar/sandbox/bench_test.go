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

func BenchmarkRunCode(b *testing.B) {
	benchmarkPool(b, func(p *Pool, r Run) Result { return p.RunCode(b.Context(), r) })
}

func BenchmarkRunKernel(b *testing.B) {
	benchmarkPool(b, func(p *Pool, r Run) Result { return p.RunKernel(b.Context(), r) })
}

func benchmarkPool(b *testing.B, do func(*Pool, Run) Result) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			p := setup(b)
			r := run(benchSource, func(r *Run) { r.Data, r.Limits = benchData(size), Limits{} })
			var whole, inside []time.Duration
			for b.Loop() {
				begun := time.Now()
				got := do(p, r)
				if got.Err != nil {
					b.Fatal(got.Err)
				}
				whole, inside = append(whole, time.Since(begun)), append(inside, got.JSTime)
			}
			slices.Sort(whole)
			slices.Sort(inside)
			b.ReportMetric(float64(whole[len(whole)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(inside[len(inside)/2].Microseconds()), "p50-inside-µs")
		})
	}
}

// BenchmarkInProcess is the baseline: what goja alone costs, with a fresh runtime and a cached program.
func BenchmarkInProcess(b *testing.B) {
	source := strings.Replace(benchSource, "export default ", "", 1)
	program := goja.MustCompile("code", "("+source+")", false)
	for _, size := range benchSizes {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			data := string(benchData(size))
			var whole []time.Duration
			for b.Loop() {
				begun := time.Now()
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
				whole = append(whole, time.Since(begun))
			}
			slices.Sort(whole)
			b.ReportMetric(float64(whole[len(whole)/2].Microseconds()), "p50-µs")
		})
	}
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

func BenchmarkColdChild(b *testing.B) {
	p := setup(b)
	r := run(`return 1`, func(r *Run) { r.Limits = Limits{} })
	for b.Loop() {
		c, err := p.startReady(b.Context(), false)
		if err != nil {
			b.Fatal(err)
		}
		prepared := r
		if e := prepared.prepare(); e != nil {
			b.Fatal(e)
		}
		if got, _ := c.serve(b.Context(), &prepared, p.options.Log, false); got.Err != nil {
			b.Fatal(got.Err)
		}
		p.retire(c)
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
