package metrics

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func scrape(t *testing.T, read Read) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	Handler(read).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	raw, err := io.ReadAll(recorder.Result().Body)
	if err != nil || recorder.Code != 200 {
		t.Fatalf("the scrape answers %d, %v: %s", recorder.Code, err, raw)
	}
	return string(raw)
}

func TestADistributionCountsEachValueOnce(t *testing.T) {
	t.Parallel()
	d := NewDistribution(1, 10)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				for _, value := range []float64{0.5, 1, 1.5, 10, 11} {
					d.Observe(value)
				}
			}
		})
	}
	all.Wait()
	count, sum, below := d.cumulative()
	if count != 4000 || d.Count() != 4000 || sum != 24*800 || below[1] != 1600 || below[10] != 3200 {
		t.Errorf("count %d, sum %g, at or below %v", count, sum, below)
	}
	d.Took(-time.Second)
	if _, after, _ := d.cumulative(); after != sum {
		t.Errorf("a negative duration changes the sum by %g", after-sum)
	}
	var nobody *Distribution
	nobody.Observe(1)
	if nobody.Count() != 0 {
		t.Error("nil counts")
	}
}

func TestAScrapeSaysKindValueAndLabel(t *testing.T) {
	t.Parallel()
	d := NewDurations()
	d.Took(4 * time.Millisecond)
	text := scrape(t, func(_ context.Context, r *Reading) {
		r.Set("logline_commits_total", 3)
		r.Set("logline_tenant_requests_queued", 2, `a "tenant"`)
		r.Distribution("logline_latency_seconds", d)
	})
	for _, line := range []string{
		"# TYPE logline_commits_total counter", "logline_commits_total 3",
		"# TYPE logline_tenant_requests_queued gauge", `logline_tenant_requests_queued{tenant="a \"tenant\""} 2`,
		"# TYPE logline_latency_seconds histogram", `logline_latency_seconds_bucket{le="0.003"} 0`,
		`logline_latency_seconds_bucket{le="0.005"} 1`, "logline_latency_seconds_sum 0.004", "go_goroutines ",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the scrape lacks %q:\n%s", line, text)
		}
	}
}

func TestAValueThatIsNotInTheListIsAFault(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a name that nobody has described was taken")
		}
	}()
	(&Reading{collector: newCollector(nil)}).Set("logline_surprise", 1)
}
