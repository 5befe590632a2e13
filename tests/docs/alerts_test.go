package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/metrics"
	"github.com/loglineos/loglineos/tests/program"
)

var (
	alertNames  = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
	metricNames = regexp.MustCompile(`\blogline_[a-z_]+\b`)
)

// Each rule asks for metrics that a sidecar has, is told of in docs/operations.md, and fires in a unit test.
func TestAlertsAskForWhatThereIs(t *testing.T) {
	t.Parallel()
	rules, page := contents(t, "docs/alerts.yml"), contents(t, "docs/operations.md")
	cases := contents(t, "tests/docs/testdata/alerts.yml")
	known := []string{}
	for _, m := range metrics.All() {
		known = append(known, m.Name)
		if m.Kind == metrics.Histogram {
			known = append(known, m.Name+"_bucket", m.Name+"_sum", m.Name+"_count")
		}
	}
	for _, name := range metricNames.FindAllString(rules+cases, -1) {
		if !slices.Contains(known, name) {
			t.Errorf("the rules ask for %s, which no sidecar has", name)
		}
	}
	alerts := alertNames.FindAllStringSubmatch(rules, -1)
	if len(alerts) < 12 {
		t.Errorf("%d alerts are found", len(alerts))
	}
	for _, alert := range alerts {
		if !strings.Contains(page, "`"+alert[1]+"`") {
			t.Errorf("docs/operations.md does not say what to do about %s", alert[1])
		}
		if !strings.Contains(cases, `alertname="`+alert[1]+`"`) {
			t.Errorf("no unit test has %s fire", alert[1])
		}
	}
}

// Prometheus' own tool reads the rules, and runs the unit tests.
func TestPromtoolAcceptsTheAlerts(t *testing.T) {
	t.Parallel()
	tool := program.Find(t, "promtool")
	for _, arguments := range [][]string{
		{"check", "rules", filepath.Join(root, "docs", "alerts.yml")},
		{"test", "rules", filepath.Join("testdata", "alerts.yml")},
	} {
		said, err := exec.CommandContext(t.Context(), tool, arguments...).CombinedOutput()
		if err != nil || !strings.Contains(string(said), "SUCCESS") {
			t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, said)
		}
	}
}

func contents(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
