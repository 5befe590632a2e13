package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// results is the file of one benchmark: results/NAME.jsonl, a line for the machine and one for each figure.
// scripts/benchtable makes the tables of docs/benchmarks.md of them. With -quick they go to the
// folder for temporary files.
type results struct {
	b    *testing.B
	file *os.File
	mu   sync.Mutex
}

// figure is one line: what one system did in one round of one case. Values are named by what and unit:
// p50_ms, jobs_per_s. The table shows medians over rounds.
type figure struct {
	Case     string             `json:"case"`
	System   string             `json:"system"`
	Round    int                `json:"round"`
	Values   map[string]float64 `json:"values"`
	Settings string             `json:"settings,omitempty"`
	Load     float64            `json:"load"` // average of the minute before
	At       time.Time          `json:"at"`
}

// newResults begins the file of a benchmark anew. databaseURL is asked for its version.
func newResults(b *testing.B, name, databaseURL string) *results {
	b.Helper()
	dir := "results"
	if *isQuick {
		dir = filepath.Join(os.TempDir(), "loglineos-bench-quick")
	}
	must(b, os.MkdirAll(dir, 0o755))
	file, err := os.Create(filepath.Join(dir, name+".jsonl"))
	must(b, err)
	b.Cleanup(func() { must(b, file.Close()) })
	conn, err := pgx.Connect(b.Context(), databaseURL)
	must(b, err)
	defer conn.Close(b.Context())
	var version string
	must(b, conn.QueryRow(b.Context(), "show server_version").Scan(&version))
	version, _, _ = strings.Cut(version, " ")
	r := &results{b: b, file: file}
	r.put(map[string]any{
		"benchmark": name, "at": time.Now().UTC().Truncate(time.Second), "commit": commit(), "postgres": version,
		"go": runtime.Version(), "cpu": cpuModel(), "cores": runtime.NumCPU(), "quick": *isQuick,
	})
	return r
}

// add writes a figure and prints it.
func (r *results) add(f figure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.Load, f.At = loadAverage(), time.Now().UTC().Truncate(time.Second)
	r.put(f)
	values, err := json.Marshal(f.Values)
	must(r.b, err)
	fmt.Printf("    %-36s %-24s round %d  %s\n", f.Case, f.System, f.Round, values)
}

func (r *results) put(line any) {
	raw, err := json.Marshal(line)
	must(r.b, err)
	_, err = r.file.Write(append(raw, '\n'))
	must(r.b, err)
}

// announce says beforehand how long a benchmark takes.
func announce(name string, took time.Duration) {
	fmt.Printf("%s: about %s, load average %.1f\n", name, took.Round(time.Second), loadAverage())
}

// scaled is n, or a tenth of it with -quick, at least one.
func scaled(n int) int {
	if *isQuick {
		return max(n/10, 1)
	}
	return n
}

// notQuick skips a benchmark with -quick: it has no shorter form.
func notQuick(b *testing.B) {
	b.Helper()
	if *isQuick {
		b.Skip("skipped with -quick: it has no shorter form")
	}
}

// commit is what is checked out, with a + where something is changed.
func commit() string {
	out, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	name := strings.TrimSpace(string(out))
	if err := exec.Command("git", "diff", "--quiet", "HEAD").Run(); err != nil {
		name += "+"
	}
	return name
}

func cpuModel() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	_, rest, _ := strings.Cut(string(raw), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(strings.TrimLeft(line, "\t :"))
}

func loadAverage() float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var load float64
	_, _ = fmt.Sscan(string(raw), &load)
	return load
}
