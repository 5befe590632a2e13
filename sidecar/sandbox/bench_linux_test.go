package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkRunsPerCore counts runs by the processor time that they cost, in the parent and in the child
// together: what one core can do, whatever else the machine does meanwhile.
func BenchmarkRunsPerCore(b *testing.B) {
	p := setup(b, func(o *Options) { o.Workers = 1 })
	r := run(benchSource, func(r *Run) { r.Data, r.Limits = benchData(1<<10), Limits{} })
	alone := inProcess(b, 1<<10)
	var child, here time.Duration
	runs := 0
	for b.Loop() { // a hundred at a time: a child lives for a thousand, and its clock ticks in 10 ms
		pid := p.idle[0].cmd.Process.Pid
		before := ownTime(b) + childTime(b, pid)
		for range 900 {
			if got := p.RunCode(b.Context(), r); got.Err != nil {
				b.Fatal(got.Err)
			}
		}
		between := ownTime(b)
		child += between + childTime(b, pid) - before
		for range 900 {
			alone()
		}
		here += ownTime(b) - between
		runs += 900
		p.retire(p.idle[0].child)
		fresh, err := p.startReady(b.Context(), false)
		if err != nil {
			b.Fatal(err)
		}
		p.idle[0] = &worker{child: fresh}
	}
	perSecond, baseline := float64(runs)/child.Seconds(), float64(runs)/here.Seconds()
	b.ReportMetric(perSecond, "runs/core-s")
	b.ReportMetric(baseline, "goja-runs/core-s")
	b.ReportMetric(perSecond/baseline, "child/goja")
}

func ownTime(b *testing.B) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// childTime reads the processor time of a process, in ticks of 10 ms.
func childTime(b *testing.B, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	ticks := 0
	for _, field := range strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[11:13] {
		n, _ := strconv.Atoi(field)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// BenchmarkRunaway is how long after its limit a hostile run is over, alone and with two runaways for each
// core beside it. The limit is 200 ms; the child interrupts there, the parent kills 500 ms later.
func BenchmarkRunaway(b *testing.B) {
	for _, crowd := range []int{0, 2 * runtime.NumCPU()} {
		p := setup(b, func(o *Options) { o.Workers = crowd + 2 })
		stop := flood(b, p, "native", crowd, 30*time.Second)
		for _, kind := range hostileKinds() {
			b.Run(fmt.Sprintf("%s/beside%d", kind, crowd), func(b *testing.B) {
				var late []time.Duration
				scripts := scriptsOf(kind)
				for b.Loop() {
					for _, script := range scripts {
						r := script.run()
						r.Limits.IOTimeout = time.Millisecond // waiting is no running away
						if got := p.RunCode(b.Context(), r); got.Err != nil {
							late = append(late, max(got.Duration-r.Limits.Timeout, 0))
						}
					}
				}
				b.ReportMetric(inMillis(quantile(late, 0.5)), "late-p50-ms")
				b.ReportMetric(inMillis(quantile(late, 1)), "late-max-ms")
				b.ReportMetric(0, "ns/op")
			})
		}
		stop()
		p.Close()
	}
}

func hostileKinds() []string {
	var kinds []string
	for _, script := range hostileScripts() {
		if len(kinds) == 0 || kinds[len(kinds)-1] != script.kind {
			kinds = append(kinds, script.kind)
		}
	}
	return kinds
}

func scriptsOf(kind string) []hostileScript {
	return slices.DeleteFunc(hostileScripts(), func(script hostileScript) bool { return script.kind != kind })
}

// flood runs a kind's scripts from so many goroutines of one tenant until it is told to stop.
func flood(b *testing.B, p *Pool, kind string, goroutines int, limit time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	scripts := scriptsOf(kind)
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			for at := i; ctx.Err() == nil; at++ {
				r := scripts[at%len(scripts)].run()
				r.Limits.Timeout = limit
				p.RunCode(ctx, r)
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// BenchmarkNeighbor is what a tenant waits for its own small run while another floods the pool with each
// kind of hostile script, beside what it waits alone. The pool has the sidecar's own size: two workers for
// each core.
func BenchmarkNeighbor(b *testing.B) {
	p := setup(b, func(o *Options) { o.Workers = max(2*runtime.NumCPU(), 4) })
	good := run(benchSource, func(r *Run) {
		r.Data, r.Limits, r.Tenant = benchData(1<<10), Limits{}, "neighbor"
	})
	measure := func(b *testing.B) []time.Duration {
		var waited []time.Duration
		ticker := time.NewTicker(5 * time.Millisecond) // 200 calls a second
		defer ticker.Stop()
		for range 400 {
			<-ticker.C
			begun := time.Now()
			if got := p.RunCode(b.Context(), good); got.Err != nil {
				b.Fatal(got.Err)
			}
			waited = append(waited, time.Since(begun))
		}
		return waited
	}
	for _, kind := range hostileKinds() {
		b.Run(kind, func(b *testing.B) {
			var alone, beside []time.Duration
			for b.Loop() {
				alone = append(alone, measure(b)...)
				stop := flood(b, p, kind, 8, time.Second)
				beside = append(beside, measure(b)...)
				stop()
			}
			b.ReportMetric(inMillis(quantile(alone, 0.5)), "alone-p50-ms")
			b.ReportMetric(inMillis(quantile(alone, 0.99)), "alone-p99-ms")
			b.ReportMetric(inMillis(quantile(beside, 0.5)), "flooded-p50-ms")
			b.ReportMetric(inMillis(quantile(beside, 0.99)), "flooded-p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkChildMemory is what a child holds: fresh, and after 1000 runs, by which it no longer grows.
func BenchmarkChildMemory(b *testing.B) {
	for _, kind := range []string{"code", "kernel"} {
		b.Run(kind, func(b *testing.B) {
			var fresh, used []float64
			for b.Loop() {
				p := setup(b, func(o *Options) { o.Workers = 1 })
				do := p.RunCode
				if kind == "kernel" {
					do = p.RunKernel
				}
				r := run(benchSource, func(r *Run) { r.Data, r.Limits = benchData(10<<10), Limits{} })
				if kind == "kernel" { // its child starts with its first run
					if got := do(b.Context(), r); got.Err != nil {
						b.Fatal(got.Err)
					}
				}
				of := func() float64 {
					if kind == "kernel" {
						return resident(b, p.host.cmd.Process.Pid)
					}
					return resident(b, p.idle[0].cmd.Process.Pid)
				}
				fresh = append(fresh, of())
				for range 1000 {
					if got := do(b.Context(), r); got.Err != nil {
						b.Fatal(got.Err)
					}
				}
				used = append(used, of())
				p.Close()
			}
			b.ReportMetric(mean(fresh), "fresh-MB")
			b.ReportMetric(mean(used), "after-1000-runs-MB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func mean(list []float64) float64 {
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	return sum / float64(len(list))
}

// resident is what a process holds of the machine's memory, in MB.
func resident(b *testing.B, pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if kilobytes, found := strings.CutPrefix(line, "VmRSS:"); found {
			n, _ := strconv.Atoi(strings.Fields(kilobytes)[0])
			return float64(n) / 1024
		}
	}
	b.Fatal("the status has no VmRSS")
	return 0
}

// BenchmarkBoot is a real kernel's start, with nothing to do: cold, in a child that is started for it and
// must compile it; and warm, where both are there.
func BenchmarkBoot(b *testing.B) {
	source, err := os.ReadFile("../../kernels/observer_bot.js")
	if err != nil {
		b.Fatal(err)
	}
	r := run(string(source), host(echo), func(r *Run) {
		r.Data, r.Limits = json.RawMessage(`{"batch":[],"input":null,"manifest":{},"env":{}}`), Limits{}
	})
	p := setup(b)
	var cold, warm []time.Duration
	for b.Loop() {
		p.mu.Lock()
		gone := p.host
		p.host = nil
		p.mu.Unlock()
		if gone != nil {
			p.retire(gone)
		}
		for i := range 20 {
			begun := time.Now()
			if got := p.RunKernel(b.Context(), r); got.Err != nil {
				b.Fatal(got.Err)
			}
			if i == 0 {
				cold = append(cold, time.Since(begun))
			} else {
				warm = append(warm, time.Since(begun))
			}
		}
	}
	b.ReportMetric(inMillis(quantile(cold, 0.5)), "cold-p50-ms")
	b.ReportMetric(inMillis(quantile(cold, 0.99)), "cold-p99-ms")
	b.ReportMetric(inMillis(quantile(warm, 0.5)), "warm-p50-ms")
	b.ReportMetric(float64(quantile(cold, 0.5))/float64(quantile(warm, 0.5)), "cold/warm")
	b.ReportMetric(0, "ns/op")
}
