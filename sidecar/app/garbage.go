package app

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Bounds of garbage. A percentage of the live heap alone lets caches of 60 MB cost 300.
const (
	// GarbagePercentMax is how much garbage a small heap may collect, in percent of it.
	GarbagePercentMax = 400
	garbagePercentMin = 100
	garbageBytes      = 64 << 20 // and so many bytes, where that is less
	garbageEvery      = time.Second
)

// garbagePercent is what a live heap of so many bytes is to have.
func garbagePercent(live uint64) int {
	percent := uint64(GarbagePercentMax)
	if live > 0 {
		percent = min(percent, garbageBytes*100/live)
	}
	return int(max(percent, garbagePercentMin))
}

// watchGarbage has the collector leave less garbage where the heap has grown. What GOGC says stays.
func watchGarbage(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	now := int(samples[0].Value.Uint64())
	if now != GarbagePercentMax {
		return
	}
	ticker := time.NewTicker(garbageEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		metrics.Read(samples)
		want := garbagePercent(samples[1].Value.Uint64())
		if diff := want - now; diff*10 < now && -diff*10 < now && want < GarbagePercentMax {
			continue // each change stops the world for a moment
		}
		if want != now {
			debug.SetGCPercent(want)
			now = want
		}
	}
}
