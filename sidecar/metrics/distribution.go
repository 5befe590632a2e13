package metrics

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// Distribution counts values by size. Make it with NewDistribution or NewDurations; nil takes values and
// keeps none. Its methods may be called concurrently, and cost some nanoseconds.
type Distribution struct {
	bounds []float64      // upper ends, the last of them of all but the rest
	counts []atomic.Int64 // one more than bounds: the rest
	sum    atomic.Uint64  // bits of a float64
}

// NewDistribution returns one whose classes end at bounds, which must rise.
func NewDistribution(bounds ...float64) *Distribution {
	return &Distribution{bounds: bounds, counts: make([]atomic.Int64, len(bounds)+1)}
}

// NewDurations returns one for seconds, from 0.5 ms to 2 min.
func NewDurations() *Distribution {
	return NewDistribution(.0005, .001, .002, .003, .005, .0075, .01, .015, .025, .05, .1, .25, .5, 1, 2.5, 5,
		10, 30, 60, 120)
}

// Observe counts value.
func (d *Distribution) Observe(value float64) {
	if d == nil {
		return
	}
	place, _ := slices.BinarySearch(d.bounds, value)
	d.counts[place].Add(1)
	for {
		old := d.sum.Load()
		if d.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+value)) {
			return
		}
	}
}

// Took counts a duration, in seconds. One below zero (two clocks) counts as zero.
func (d *Distribution) Took(took time.Duration) { d.Observe(max(took, 0).Seconds()) }

// Count returns how many values were counted.
func (d *Distribution) Count() int64 {
	if d == nil {
		return 0
	}
	var n int64
	for i := range d.counts {
		n += d.counts[i].Load()
	}
	return n
}

// cumulative is what Prometheus takes: how many values stand at or below each bound.
func (d *Distribution) cumulative() (count uint64, sum float64, below map[float64]uint64) {
	below = make(map[float64]uint64, len(d.bounds))
	for i := range d.counts {
		count += uint64(d.counts[i].Load())
		if i < len(d.bounds) {
			below[d.bounds[i]] = count
		}
	}
	return count, math.Float64frombits(d.sum.Load()), below
}
