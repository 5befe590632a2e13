package reference

import (
	"fmt"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/metrics"
)

const metricsHead = `# Reference: metrics

What ` + "`GET /metrics`" + ` of a sidecar answers, in the text format of Prometheus: written by ` + "`make gen`" + ` from
` + "`sidecar/metrics`" + `. Do not edit. Counters and histograms count since the start of the process; besides these
there are the usual ` + "`go_…` and `process_…`" + `. What to alert on: [operations.md](../operations.md#metrics).

`

func TestMetricsPage(t *testing.T) {
	t.Parallel()
	p := &page{t: t}
	p.put(metricsHead)
	var rows [][]string
	for _, m := range metrics.All() {
		label := ""
		switch {
		case m.Label == "":
		case len(m.Values) > 0:
			label = fmt.Sprintf("`%s`: %s", m.Label, strings.Join(m.Values, ", "))
		default:
			label = "`" + m.Label + "`"
		}
		rows = append(rows, []string{"`" + m.Name + "`", string(m.Kind), m.Unit, label, m.Help})
	}
	p.table("name,kind,unit,label,meaning", rows)
	golden(t, "metrics.md", p.String())
}

// A name says the unit: a counter ends in _total, a time in seconds. Each has a help.
func TestMetricsAreNamedByTheirUnit(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, m := range metrics.All() {
		name := strings.TrimSuffix(m.Name, "_total")
		switch {
		case seen[m.Name]:
			t.Errorf("%s is listed twice", m.Name)
		case !strings.HasPrefix(m.Name, "logline_"), !strings.HasSuffix(m.Help, "."), m.Unit == "":
			t.Errorf("%s needs the prefix logline_, a unit and a sentence", m.Name)
		case (m.Kind == metrics.Counter) != strings.HasSuffix(m.Name, "_total"):
			t.Errorf("%s is a %s: counters, and they alone, end in _total", m.Name, m.Kind)
		case (m.Unit == "seconds") != strings.HasSuffix(name, "_seconds"),
			(m.Unit == "bytes") != strings.HasSuffix(name, "_bytes"):
			t.Errorf("%s does not end in its unit, %s", m.Name, m.Unit)
		}
		seen[m.Name] = true
	}
}
