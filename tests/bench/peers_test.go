package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// rival is one system of BenchmarkPeers.
type rival struct {
	name    string
	command []string // a peer's; nil: ours
	binary  string   // of ours
}

// finding is what a rival did: the line that a peer prints.
type finding struct {
	Ms       []float64 `json:"ms"`
	Jobs     int       `json:"jobs"`
	Seconds  float64   `json:"seconds"`
	Settings string    `json:"settings"`
}

// measure is one row of the plan of BenchmarkPeers.
type measure struct {
	name    string
	rounds  int
	n       int
	seconds int
	costs   time.Duration // of one rival and round, about
}

func measures() []measure {
	if *isQuick {
		return []measure{{"latency", 1, 30, 0, 2 * time.Second}, {"sustained", 1, 0, 1, 4 * time.Second},
			{"drain", 1, 2000, 10, 5 * time.Second}}
	}
	return []measure{{"latency", 3, 200, 0, 4 * time.Second}, {"sustained", 3, 0, 3, 6 * time.Second},
		{"drain", 1, 100_000, 20, 20 * time.Second}}
}

// BenchmarkPeers measures LogLineOS, with JavaScript and with a worker in Go that does nothing, beside River,
// graphile-worker and pg-boss: on the same Postgres, each measurement in a database of its own, all systems
// in turns. Each case is taken with 1, 50 and 1,000 tenants, which the peers carry as data.
//
// Latency goes from the client's commit, at 100 a second, for ours to the commit of the execution, for peers
// to the start of the job. Sustained is what is worked off while it is inserted, at most 5,000 waiting. Drain
// is 100,000 that wait when the process starts, or what of them is done after 20 s.
func BenchmarkPeers(b *testing.B) {
	all := rivals(b)
	tenants := []int{1, 50, 1000}
	if *isQuick {
		tenants = []int{1, 50}
	}
	var estimate time.Duration
	for _, m := range measures() {
		estimate += time.Duration(m.rounds*len(tenants)*len(all)) * m.costs
	}
	announce("Peers", estimate)
	c := newCells(b)
	out := newResults(b, "peers", c.server.URL("postgres"))
	for b.Loop() {
		for _, m := range measures() {
			for round := range m.rounds {
				for _, t := range tenants {
					for _, who := range all {
						found := c.measure(who, m, t)
						name := fmt.Sprintf("%s, %s", m.name, counted(t, "tenant"))
						out.add(figure{Case: name, System: who.name, Round: round + 1, Values: found.values(),
							Settings: found.Settings})
					}
				}
			}
		}
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func (m finding) values() map[string]float64 {
	if m.Ms == nil {
		return map[string]float64{"jobs_per_s": round3(float64(m.Jobs) / m.Seconds), "jobs": float64(m.Jobs)}
	}
	took := make([]time.Duration, len(m.Ms))
	for i, ms := range m.Ms {
		took[i] = time.Duration(ms * float64(time.Millisecond))
	}
	return map[string]float64{"p50_ms": percentile(took, 50), "p95_ms": percentile(took, 95),
		"p99_ms": percentile(took, 99)}
}

func round3(x float64) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64)
	return rounded
}

// rivals builds and installs what is measured. A peer that cannot be had is left out by name.
func rivals(b *testing.B) []rival {
	b.Helper()
	all := []rival{{name: "LogLineOS, JavaScript", binary: binary},
		{name: "LogLineOS, no-op in Go", binary: noop}}
	river := filepath.Join(b.TempDir(), "river")
	build := exec.Command("go", "build", "-o", river, ".")
	build.Dir, build.Env = "peers", append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly")
	if out, err := build.CombinedOutput(); err != nil {
		leaveOut("River", fmt.Errorf("%w: %s", err, out))
	} else {
		all = append(all, rival{name: "River", command: []string{river}})
	}
	folder := filepath.Join("peers", "node")
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "pg-boss")); err != nil {
		install := exec.Command("npm", "ci", "--prefix", folder, "--no-audit", "--no-fund")
		if out, err := install.CombinedOutput(); err != nil {
			leaveOut("graphile-worker and pg-boss", fmt.Errorf("%w: %s", err, out))
			return all
		}
	}
	script := filepath.Join(folder, "measure.mjs")
	for _, name := range []string{"graphile-worker", "pg-boss"} {
		all = append(all, rival{name: name, command: []string{"node", script, name}})
	}
	return all
}

// leaveOut tells of a peer that is not measured.
func leaveOut(name string, why error) { fmt.Printf("WITHOUT %s: %v\n", name, why) }

// measure takes one figure in a database of its own.
func (c *cells) measure(who rival, m measure, tenants int) finding {
	c.b.Helper()
	if who.command == nil {
		return c.measureOurs(who, m, tenants)
	}
	databaseURL, drop := c.empty()
	defer drop()
	flags := []string{"--database", databaseURL, "--measure", m.name, "--n", strconv.Itoa(m.n),
		"--seconds", strconv.Itoa(m.seconds), "--tenants", strconv.Itoa(tenants)}
	command := exec.Command(who.command[0], slices.Concat(who.command[1:], flags)...)
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	if err := command.Run(); err != nil {
		c.b.Fatalf("%s, %s: %v\n%s", who.name, m.name, err, errOut.String())
	}
	var found finding
	must(c.b, json.Unmarshal(out.Bytes(), &found))
	return found
}

func (c *cells) measureOurs(who rival, m measure, tenants int) finding {
	c.b.Helper()
	s, drop := c.ledger()
	defer drop()
	found := finding{Settings: "defaults"}
	var took time.Duration
	switch m.name {
	case "latency":
		found.Settings = "defaults; to the commit of the execution"
		for _, took := range s.latencies(c.b, who.binary, m.n, tenants) {
			found.Ms = append(found.Ms, float64(took.Microseconds())/1000)
		}
	case "sustained":
		found.Jobs, took = s.sustained(c.b, who.binary, time.Duration(m.seconds)*time.Second, tenants)
	case "drain":
		found.Jobs, took = s.drain(c.b, who.binary, m.n, tenants, time.Duration(m.seconds)*time.Second)
	}
	found.Seconds = took.Seconds()
	return found
}
