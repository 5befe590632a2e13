package app

import (
	"context"
	"sync/atomic"

	"github.com/loglineos/loglineos/sidecar/metrics"
)

// measure puts what every part has counted into r. What does not answer within ctx is left out.
func (a *App) measure(ctx context.Context, r *metrics.Reading) {
	r.Set(metrics.BuildInfo, 1, Version())
	r.Set("logline_ready", flag(a.Status(ctx).Ready))
	phase, _ := a.tail.State()
	for _, name := range metrics.Phases {
		r.Set("logline_tail_phase", flag(name == string(phase)), name)
	}
	r.Set("logline_tail_rows_total", float64(a.tail.Rows()))
	a.measureEngine(ctx, r)
	a.measureRuns(r)
}

func (a *App) measureEngine(ctx context.Context, r *metrics.Reading) {
	stats := a.engine.Stats()
	count := func(name string, value *atomic.Int64, label ...string) {
		r.Set(name, float64(value.Load()), label...)
	}
	count("logline_clock_steps_total", &stats.ClockSteps)
	count("logline_requests_open", &stats.Open)
	count("logline_requests_in_flight", &stats.InFlight)
	count("logline_requests_ended_total", &stats.Complete, "complete")
	count("logline_requests_ended_total", &stats.Failed, "error")
	count("logline_requests_ended_total", &stats.Dead, "dead")
	count("logline_requests_ended_total", &stats.Cancelled, "cancelled")
	count("logline_requests_retried_total", &stats.Retried)
	count("logline_requests_blocked_total", &stats.Blocked)
	count("logline_requests_refused_total", &stats.Refused)
	count("logline_takeovers_total", &stats.Takeovers)
	count("logline_fences_lost_total", &stats.FencesLost)
	count("logline_kernel_boots_total", &stats.Boots)
	count("logline_commits_total", &stats.Commits)
	count("logline_commit_rows_total", &stats.CommittedRows)
	r.Distribution("logline_latency_seconds", stats.Latency)
	r.Distribution("logline_run_seconds", stats.Run)
	r.Distribution("logline_commit_rows", stats.CommitRows)
	r.Distribution("logline_commit_seconds", stats.CommitTime)

	depths, err := a.engine.Depths(ctx, metrics.TenantsMax)
	if err != nil {
		a.log.Warn("the engine does not say what waits", "error", err)
		return
	}
	r.Set("logline_tail_undisposed_rows", float64(depths.Undisposed))
	r.Set("logline_requests_queued", float64(depths.Queued))
	r.Set("logline_requests_waiting", float64(depths.Waiting))
	r.Set("logline_queue_oldest_seconds", depths.Oldest.Seconds())
	for _, tenant := range depths.Tenants {
		r.Set("logline_tenant_requests_queued", float64(tenant.Queued), tenant.Tenant)
		r.Set("logline_tenant_oldest_seconds", tenant.Oldest.Seconds(), tenant.Tenant)
	}
	r.Set("logline_policy_lanes", float64(depths.Lanes))
	r.Set("logline_policy_spans_waiting", float64(depths.LaneSpans))
	r.Set("logline_policy_oldest_seconds", depths.LaneOldest.Seconds())
}

// measureRuns puts what surrounds a run: limits, children, connections.
func (a *App) measureRuns(r *metrics.Reading) {
	limits := a.stage0.Stats()
	for _, reason := range metrics.Refusals {
		r.Set("logline_reservations_refused_total", float64(limits.Refused[reason]), reason)
	}
	r.Set("logline_circuits", float64(limits.CircuitsOpen), "open")
	r.Set("logline_circuits", float64(limits.CircuitsTrying), "half_open")
	children := a.pool.Stats()
	r.Set("logline_sandbox_workers", float64(children.Idle), "idle")
	r.Set("logline_sandbox_workers", float64(children.Busy), "busy")
	r.Set("logline_sandbox_starts_total", float64(children.Starts))
	r.Set("logline_sandbox_runs_total", float64(children.Runs))
	r.Set("logline_sandbox_breaches_total", float64(children.Breaches))
	connections := a.ledger.Stats()
	r.Set("logline_ledger_connections", float64(connections.Idle), "idle")
	r.Set("logline_ledger_connections", float64(connections.Used), "used")
	r.Set("logline_ledger_connections_max", float64(connections.Max))
	r.Set("logline_ledger_waits_total", float64(connections.Waits))
	r.Set("logline_ledger_wait_seconds_total", connections.Waited.Seconds())
}

func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
