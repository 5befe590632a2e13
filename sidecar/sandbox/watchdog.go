package sandbox

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const watchPeriod = 2 * time.Millisecond

// watchdog ends the process when its heap and stacks outgrow the limit. It wakes only while JavaScript runs.
type watchdog struct {
	mu      sync.Mutex
	bytes   int64
	highest int64 // since the last quiet moment
	running int
	timer   *time.Timer
	samples []metrics.Sample
}

func newWatchdog() *watchdog {
	w := &watchdog{samples: []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
	}}
	w.timer = time.AfterFunc(time.Hour, w.look)
	w.timer.Stop()
	return w
}

// limit sets the three bounds: collect hard from 3/4 on, exit at the limit, and let the kernel refuse
// what grows past twice the limit in one allocation.
func (w *watchdog) limit(bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if bytes == w.bytes {
		return
	}
	w.bytes = bytes
	debug.SetMemoryLimit(bytes / 4 * 3)
	limitData(bytes)
}

func (w *watchdog) enter() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running++; w.running == 1 {
		w.timer.Reset(watchPeriod)
	}
}

func (w *watchdog) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running--; w.running == 0 {
		w.timer.Stop()
	}
}

// peak returns the largest size seen since the last call.
func (w *watchdog) peak() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.highest
	w.highest = 0
	return p
}

func (w *watchdog) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == 0 {
		return
	}
	metrics.Read(w.samples)
	size := int64(w.samples[0].Value.Uint64() + w.samples[1].Value.Uint64())
	if size > w.bytes {
		fmt.Fprintf(os.Stderr, "watchdog: %d bytes, limit %d\n", size, w.bytes)
		os.Exit(exitMemory)
	}
	w.highest = max(w.highest, size)
	w.timer.Reset(watchPeriod)
}
