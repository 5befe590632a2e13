package app

import "testing"

func TestAHeapThatGrowsLeavesLessGarbage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		liveMB uint64
		want   int
	}{{0, 400}, {6, 400}, {16, 400}, {32, 200}, {64, 100}, {500, 100}} {
		if got := garbagePercent(test.liveMB << 20); got != test.want {
			t.Errorf("%d MB: %d %%, want %d", test.liveMB, got, test.want)
		}
	}
}
