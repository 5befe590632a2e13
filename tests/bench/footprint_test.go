package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkFootprint measures what a sidecar takes: the size of the binary, the time from its start to
// ready, and its memory and its children's: idle, and while 1,000 calls of one function, or 1,000 new
// functions, come in each second (an open loop: they come whether it keeps up or not). The baseline of
// the start is a run of `logline version`, which starts a child of the sandbox and speaks to no
// database. Memory is what Linux calls the proportional set (shared pages are divided among those that
// share them) and the resident one.
func BenchmarkFootprint(b *testing.B) {
	starts, seconds := scaled(10), scaled(30)
	announce("Footprint", time.Duration(2*seconds+25)*time.Second)
	c := newCells(b)
	out := newResults(b, "footprint", c.server.URL("postgres"))
	for b.Loop() {
		info, err := os.Stat(binary)
		must(b, err)
		out.add(figure{Case: "binary, with symbols", System: "LogLineOS", Round: 1,
			Values: map[string]float64{"size_mb": round3(float64(info.Size()) / 1e6)}})
		s, drop := c.ledger()
		var ready, version []time.Duration
		for range starts {
			began := time.Now()
			must(b, exec.Command(binary, "version").Run())
			version = append(version, time.Since(began))
			a, took := s.awaken(b)
			ready = append(ready, took)
			a.stop()
		}
		for system, took := range map[string][]time.Duration{"logline version (baseline)": version,
			"LogLineOS": ready} {
			out.add(figure{Case: "from start to ready", System: system, Round: 1, Values: map[string]float64{
				"p50_ms": percentile(took, 50), "max_ms": percentile(took, 100)}})
		}
		a := s.attach(b, binary, s.login)
		<-time.After(5 * time.Second) // what its start has left to do
		idle := s.memory(b)
		out.add(figure{Case: "memory, idle", System: "LogLineOS", Round: 1, Values: idle.values()})

		a.stop()
		drop()
		for _, kind := range []string{"calls of one function", "new functions"} {
			most := c.loaded(b, kind, seconds)
			out.add(figure{Case: "memory, 1,000 " + kind + " a second, most", System: "LogLineOS", Round: 1,
				Values: most})
			b.ReportMetric(most["all_pss_mb"], "MB")
		}
		b.ReportMetric(percentile(ready, 50), "ms_to_ready")
	}
}

// loaded is the most memory a sidecar takes while 1,000 runs a second are asked for, and how many it ran.
func (c *cells) loaded(b *testing.B, kind string, seconds int) map[string]float64 {
	b.Helper()
	const perSecond = 1000
	s, drop := c.ledger()
	defer drop()
	a := s.attach(b, binary, s.login)
	defer a.stop()
	conn := s.connect(b)
	feed := func() { insert(b, conn, "footprint", perSecond/10) }
	if kind == "calls of one function" {
		feed = func() { must(b, call(b.Context(), conn, 0, perSecond/10)) }
	}
	before, began := a.ended(b, "complete"), time.Now()
	var most memory
	beats := time.NewTicker(100 * time.Millisecond)
	defer beats.Stop()
	for i := range seconds * 10 {
		<-beats.C
		feed()
		if i%10 == 9 {
			most = most.or(s.memory(b))
		}
	}
	await(b, time.Minute, func() bool { return a.ended(b, "complete")-before >= seconds*perSecond })
	values := most.values()
	values["executions_per_s"] = round3(float64(seconds*perSecond) / time.Since(began).Seconds())
	return values
}

// awaken starts a sidecar and says after how long it was ready.
func (s *system) awaken(b *testing.B) (*attached, time.Duration) {
	b.Helper()
	began := time.Now()
	a := s.spawn(b, binary, s.login)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for limit := time.After(time.Minute); ; {
		if response, err := http.Get(a.address + "/readyz"); err == nil {
			must(b, response.Body.Close())
			if response.StatusCode == http.StatusOK {
				return a, time.Since(began)
			}
		}
		select {
		case <-ticker.C:
		case <-limit:
			b.Fatal("the sidecar is not ready within a minute")
		}
	}
}

// memory is of the sidecar and of all its children, in KiB.
type memory struct {
	sidecar, sidecarResident, all int
	children                      int
}

func (m memory) values() map[string]float64 {
	mb := func(kib int) float64 { return round3(float64(kib) * 1024 / 1e6) }
	return map[string]float64{"sidecar_pss_mb": mb(m.sidecar), "sidecar_rss_mb": mb(m.sidecarResident),
		"all_pss_mb": mb(m.all), "children": float64(m.children)}
}

// or is the larger of each.
func (m memory) or(other memory) memory {
	return memory{max(m.sidecar, other.sidecar), max(m.sidecarResident, other.sidecarResident),
		max(m.all, other.all), max(m.children, other.children)}
}

// memory reads /proc of the sidecar and of the processes that it has started.
func (s *system) memory(b *testing.B) memory {
	b.Helper()
	var m memory
	var known bool
	if m.sidecar, m.sidecarResident, known = rollup(s.sidecar); !known {
		b.Fatalf("no smaps_rollup of the sidecar, pid %d", s.sidecar)
	}
	m.all = m.sidecar
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.sidecar))
	must(b, err)
	var pids []string
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err == nil { // else the thread has ended
			pids = append(pids, strings.Fields(string(text))...)
		}
	}
	slices.Sort(pids)
	for _, pid := range slices.Compact(pids) {
		id, err := strconv.Atoi(pid)
		must(b, err)
		if pss, _, alive := rollup(id); alive {
			m.all += pss
			m.children++
		}
	}
	return m
}

// rollup is the proportional and the resident set of a process, in KiB; false where it has ended.
func rollup(pid int) (pss, rss int, alive bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, false
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		value, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(rest, "kB")))
		switch {
		case err != nil:
		case name == "Pss":
			pss = value
		case name == "Rss":
			rss = value
		}
	}
	return pss, rss, pss > 0
}
