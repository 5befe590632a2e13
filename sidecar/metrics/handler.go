package metrics

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readTimeout bounds one scrape: what is not there by then is left out.
const readTimeout = 2 * time.Second

// Read puts the present values into r, within ctx. It may be called concurrently.
type Read func(ctx context.Context, r *Reading)

// Handler answers a scrape with what read puts, and with the usual metrics of the Go runtime and the process.
func Handler(read Read) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newCollector(read))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// collector gives Prometheus the list of this package, with the values of the moment.
type collector struct {
	read Read
	of   map[string]described
}

type described struct {
	metric Metric
	desc   *prometheus.Desc
}

func newCollector(read Read) *collector {
	c := &collector{read: read, of: map[string]described{}}
	for _, metric := range All() {
		c.of[metric.Name] = described{metric, prometheus.NewDesc(metric.Name, metric.Help, metric.labels(), nil)}
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.of {
		to <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	c.read(ctx, &Reading{c, to})
}

// Reading takes the values of one scrape.
type Reading struct {
	collector *collector
	to        chan<- prometheus.Metric
}

// Set puts a counter's or gauge's value; label is that of the metric's label, where it has one. A name that
// is not in the list is a fault of the program.
func (r *Reading) Set(name string, value float64, label ...string) {
	d := r.described(name)
	kind := prometheus.GaugeValue
	if d.metric.Kind == Counter {
		kind = prometheus.CounterValue
	}
	r.to <- prometheus.MustNewConstMetric(d.desc, kind, value, label...)
}

// Distribution puts a histogram.
func (r *Reading) Distribution(name string, of *Distribution) {
	count, sum, below := of.cumulative()
	r.to <- prometheus.MustNewConstHistogram(r.described(name).desc, count, sum, below)
}

func (r *Reading) described(name string) described {
	d, known := r.collector.of[name]
	if !known {
		panic("a metric that is not in the list: " + name)
	}
	return d
}
