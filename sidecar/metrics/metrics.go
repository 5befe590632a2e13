// Package metrics is everything that the sidecar tells about itself: each metric with its name, unit and
// help, and the handler that Prometheus scrapes.
//
// The parts count by themselves, in atomics of their own; at a scrape app reads them and puts the values
// here (Reading). The list is closed: a value whose name is not in it is a fault of the program, and one
// of the list that is not put is missing from the answer, which a test tells. A label has values from a list
// of this package, or at most TenantsMax of them: no number of tenants, functions or policies makes a scrape
// grow.
//
// To add one: a line in All, a Set in sidecar/app/metrics.go, then make gen.
package metrics

// TenantsMax is how many tenants a metric names: those with most to do.
const TenantsMax = 10

// Kind is what a metric's value means.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"   // since the start of the process
	Gauge     Kind = "gauge"     // now
	Histogram Kind = "histogram" // how many values of which size, since the start
)

// Metric is one line of the list.
type Metric struct {
	Name string
	Kind Kind
	Unit string
	Help string
	// Label is the one label that it has, "" where there is none; Values are those of the label, nil where
	// they are tenants.
	Label  string
	Values []string
}

func (m Metric) labels() []string {
	if m.Label == "" {
		return nil
	}
	return []string{m.Label}
}

// The values of labels.
var (
	Phases    = []string{"connecting", "standby", "catching up", "streaming", "polling"}
	Statuses  = []string{"reserved", "extended", "unreserved", "lost"}
	Endings   = []string{"complete", "error", "dead", "cancelled"}
	Refusals  = []string{"tenant", "user", "rate", "breaker"}
	Circuits  = []string{"open", "half_open"}
	Workers   = []string{"idle", "busy"}
	Sessions  = []string{"idle", "used"}
	BuildInfo = "logline_build_info"
)

// All returns the list, in the order of the reference page.
func All() []Metric {
	var all []Metric
	for _, part := range [][]Metric{health(), tail(), slot(), requests(),
		commits(), policies(), schedules(), sandbox(), pool()} {
		all = append(all, part...)
	}
	return all
}

func health() []Metric {
	return []Metric{
		{Name: BuildInfo, Kind: Gauge, Unit: "1", Label: "version", Values: []string{},
			Help: "1, with the version of this sidecar."},
		{Name: "logline_ready", Kind: Gauge, Unit: "0 or 1",
			Help: "1 where /readyz answers 200. A standby is not ready."},
	}
}

func tail() []Metric {
	return []Metric{
		{Name: "logline_clock_steps_total", Kind: Counter, Unit: "jumps",
			Help: "Jumps of the database's clock that were seen."},
		{Name: "logline_tail_phase", Kind: Gauge, Unit: "0 or 1", Label: "phase", Values: Phases,
			Help: "1 for what the tail does now. Exactly one sidecar of a cell streams."},
		{Name: "logline_tail_rows_total", Kind: Counter, Unit: "rows",
			Help: "Rows of the ledger that were handed to the engine, from the stream and from gap scans."},
		{Name: "logline_tail_undisposed_rows", Kind: Gauge, Unit: "rows",
			Help: "Rows that were handed over and are not disposed of yet: the slot waits for them."},
	}
}

// slot is empty of meaning where LOGLINE_SOURCE is poll.
func slot() []Metric {
	return []Metric{
		{Name: "logline_leading", Kind: Gauge, Unit: "0 or 1",
			Help: "1 where this sidecar leads: of one cell exactly one does."},
		{Name: "logline_tail_lag_bytes", Kind: Gauge, Unit: "bytes", Help: "WAL whose rows are not disposed of."},
		{Name: "logline_tail_lag_seconds", Kind: Gauge, Unit: "seconds", Help: "How old the oldest of it is."},
		{Name: "logline_tail_stuck", Kind: Gauge, Unit: "0 or 1",
			Help: "1 where that lag grows and nothing has moved for half a minute."},
		{Name: "logline_cursor_age_seconds", Kind: Gauge, Unit: "seconds",
			Help: "Since the leader stored its cursor; NaN before the first time. Idle, it stores none."},
		{Name: "logline_wal_retained_bytes", Kind: Gauge, Unit: "bytes", Help: "WAL that the slot holds back."},
		{Name: "logline_wal_safe_bytes", Kind: Gauge, Unit: "bytes",
			Help: "WAL that may still be written before the server gives the slot up; +Inf without a bound."},
		{Name: "logline_slot_status", Kind: Gauge, Unit: "0 or 1", Label: "status", Values: Statuses,
			Help: "1 for the slot's wal_status."},
		{Name: "logline_slots_inactive", Kind: Gauge, Unit: "slots",
			Help: "Slots of the server that nobody uses: each keeps WAL."},
		{Name: "logline_wal_sheds_total", Kind: Counter, Unit: "times",
			Help: "How often WAL was given up before the server would have taken the slot."},
		{Name: "logline_leader_sessions_total", Kind: Counter, Unit: "times",
			Help: "How often this sidecar has come to lead."},
		{Name: "logline_leaders_ended_total", Kind: Counter, Unit: "sessions",
			Help: "Sessions of leaders that did not beat any more, and were ended by this sidecar."},
		{Name: "logline_polls_total", Kind: Counter, Unit: "questions",
			Help: "Questions to the table for new rows, without a slot."},
		{Name: "logline_gap_scans_total", Kind: Counter, Unit: "scans", Label: "reason", Values: []string{},
			Help: "Times that rows were read from the table which no stream brings, and why."},
		{Name: "logline_gap_rows_total", Kind: Counter, Unit: "rows", Label: "reason", Values: []string{},
			Help: "Rows of those scans."},
	}
}

func requests() []Metric {
	return []Metric{
		{Name: "logline_requests_open", Kind: Gauge, Unit: "requests",
			Help: "Open requests in this sidecar's memory: queued, running, or due within 5 minutes. It is bounded: " +
				"the ledger may have more (`logline requests --status open`)."},
		{Name: "logline_requests_in_flight", Kind: Gauge, Unit: "requests",
			Help: "Requests that run, or whose result waits for its commit."},
		{Name: "logline_requests_queued", Kind: Gauge, Unit: "requests",
			Help: "Requests that may run and wait for a place."},
		{Name: "logline_requests_waiting", Kind: Gauge, Unit: "requests",
			Help: "Requests that are due within minutes: delayed, to be retried, or blocked."},
		{Name: "logline_queue_oldest_seconds", Kind: Gauge, Unit: "seconds",
			Help: "How long the oldest queued request of all tenants has waited since it was accepted, or due."},
		{Name: "logline_tenant_requests_queued", Kind: Gauge, Unit: "requests", Label: "tenant",
			Help: "Queued requests of the tenants that have most of them, at most ten."},
		{Name: "logline_tenant_oldest_seconds", Kind: Gauge, Unit: "seconds", Label: "tenant",
			Help: "How long the oldest queued request of those tenants has waited."},
		{Name: "logline_requests_ended_total", Kind: Counter, Unit: "requests", Label: "status", Values: Endings,
			Help: "Requests whose end this sidecar has committed."},
		{Name: "logline_requests_retried_total", Kind: Counter, Unit: "requests",
			Help: "Attempts that failed and are to be tried again (metadata.retry)."},
		{Name: "logline_requests_blocked_total", Kind: Counter, Unit: "requests",
			Help: "Requests that met a limit and wait, each time."},
		{Name: "logline_requests_passed_over_total", Kind: Counter, Unit: "requests",
			Help: "Requests that memory had no room for: they are read again from the ledger in their turn."},
		{Name: "logline_request_refills_total", Kind: Counter, Unit: "pages",
			Help: "Pages of requests that were read again so."},
		{Name: "logline_requests_refused_total", Kind: Counter, Unit: "requests",
			Help: "Requests that ended without their kernel: it could not be booted, or did not answer."},
		{Name: "logline_reservations_refused_total", Kind: Counter, Unit: "requests", Label: "reason",
			Values: Refusals, Help: "Runs that a limit refused: the day's of the tenant or user, a rate, a circuit."},
		{Name: "logline_circuits", Kind: Gauge, Unit: "circuits", Label: "state", Values: Circuits,
			Help: "Circuits of (function, caller) that let nothing through, or one run to try."},
		{Name: "logline_takeovers_total", Kind: Counter, Unit: "requests",
			Help: "Requests that were open under another sidecar, or an earlier life of this one, and were claimed."},
		{Name: "logline_fences_lost_total", Kind: Counter, Unit: "requests",
			Help: "Results that were dropped because somebody else had moved the request on."},
		{Name: "logline_latency_seconds", Kind: Histogram, Unit: "seconds",
			Help: "From the acceptance of the cause (a scheduled function, a client's request), or when it was " +
				"due, to the commit of its execution."},
		{Name: "logline_run_seconds", Kind: Histogram, Unit: "seconds",
			Help: "From the start of a request's kernel to its result: the code, and waiting for a worker."},
	}
}

func commits() []Metric {
	return []Metric{
		{Name: "logline_kernel_boots_total", Kind: Counter, Unit: "runs",
			Help: "Runs of kernels, each of a batch of spans."},
		{Name: "logline_commits_total", Kind: Counter, Unit: "commits", Help: "Commits of the engine."},
		{Name: "logline_commit_rows_total", Kind: Counter, Unit: "rows",
			Help: "Rows in them, with those whose fence was lost."},
		{Name: "logline_commit_rows", Kind: Histogram, Unit: "rows", Help: "Rows of one commit."},
		{Name: "logline_commit_seconds", Kind: Histogram, Unit: "seconds",
			Help: "From the start of a commit to the server's answer, with tries."},
	}
}

func policies() []Metric {
	return []Metric{
		{Name: "logline_policy_lanes", Kind: Gauge, Unit: "lanes",
			Help: "Owners whose policies have work: each has a lane of its own in each tenant."},
		{Name: "logline_policy_spans_waiting", Kind: Gauge, Unit: "spans",
			Help: "Spans that wait for policies, in all lanes."},
		{Name: "logline_policy_oldest_seconds", Kind: Gauge, Unit: "seconds",
			Help: "How long the oldest of them has waited since it was accepted."},
		{Name: "logline_policy_lanes_behind", Kind: Gauge, Unit: "lanes",
			Help: "Lanes that have fallen behind, and read their spans again from the ledger."},
		{Name: "logline_policy_repeated_total", Kind: Counter, Unit: "judgments",
			Help: "Judgments that had been made before: nothing of them was written."},
	}
}

func schedules() []Metric {
	return []Metric{
		{Name: "logline_schedules", Kind: Gauge, Unit: "functions", Help: "Functions with a schedule in force."},
		{Name: "logline_schedule_ticks_total", Kind: Counter, Unit: "ticks",
			Help: "Ticks that were handed to their kernel."},
		{Name: "logline_schedule_missed_total", Kind: Counter, Unit: "ticks",
			Help: "Ticks that came while nobody led, and are not made up for."},
		{Name: "logline_schedule_skipped_total", Kind: Counter, Unit: "ticks",
			Help: "Ticks of which the kernel made nothing."},
	}
}

func sandbox() []Metric {
	return []Metric{
		{Name: "logline_sandbox_workers", Kind: Gauge, Unit: "processes", Label: "state", Values: Workers,
			Help: "Code workers that are alive."},
		{Name: "logline_sandbox_starts_total", Kind: Counter, Unit: "processes",
			Help: "Children that were started: code workers and kernel hosts."},
		{Name: "logline_sandbox_runs_total", Kind: Counter, Unit: "runs",
			Help: "Runs of functions and policies in code workers."},
		{Name: "logline_sandbox_breaches_total", Kind: Counter, Unit: "runs",
			Help: "Runs after which their worker was replaced: a limit, a crash, a cancellation."},
	}
}

func pool() []Metric {
	return []Metric{
		{Name: "logline_ledger_connections", Kind: Gauge, Unit: "connections", Label: "state", Values: Sessions,
			Help: "Connections of the ledger's pool."},
		{Name: "logline_ledger_connections_max", Kind: Gauge, Unit: "connections",
			Help: "How many it may have."},
		{Name: "logline_ledger_waits_total", Kind: Counter, Unit: "times",
			Help: "How often somebody waited for one."},
		{Name: "logline_ledger_wait_seconds_total", Kind: Counter, Unit: "seconds",
			Help: "How long they waited in all."},
	}
}
