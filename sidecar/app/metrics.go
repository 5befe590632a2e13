package app

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/loglineos/loglineos/sidecar/metrics"
	"github.com/loglineos/loglineos/sidecar/tail"
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
	measureSlot(a.tail.Health(), r)
	a.measureEngine(ctx, r)
	a.measureRuns(r)
}

func measureSlot(h tail.Health, r *metrics.Reading) {
	r.Set("logline_leading", flag(h.Leads))
	r.Set("logline_tail_undisposed_rows", float64(h.Undisposed))
	r.Set("logline_tail_lag_bytes", float64(h.LagBytes))
	r.Set("logline_tail_lag_seconds", h.LagSeconds)
	r.Set("logline_tail_stuck", flag(h.Stuck != ""))
	age, safe := math.NaN(), math.Inf(1)
	if !h.CursorAt.IsZero() {
		age = time.Since(h.CursorAt).Seconds()
	}
	if h.SafeBytes >= 0 && !h.CareAt.IsZero() {
		safe = float64(h.SafeBytes)
	}
	r.Set("logline_cursor_age_seconds", age)
	r.Set("logline_wal_retained_bytes", float64(h.RetainedBytes))
	r.Set("logline_wal_safe_bytes", safe)
	for _, status := range metrics.Statuses {
		r.Set("logline_slot_status", flag(status == h.WALStatus), status)
	}
	r.Set("logline_slots_inactive", float64(len(h.InactiveSlots)))
	r.Set("logline_wal_sheds_total", float64(h.Sheds))
	r.Set("logline_leader_sessions_total", float64(h.Sessions))
	r.Set("logline_leaders_ended_total", float64(h.Takeovers))
	r.Set("logline_polls_total", float64(h.Polls))
	for reason, scans := range h.GapScans {
		r.Set("logline_gap_scans_total", float64(scans), reason)
	}
	for reason, rows := range h.GapRows {
		r.Set("logline_gap_rows_total", float64(rows), reason)
	}
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
	count("logline_requests_passed_over_total", &stats.PassedOver)
	count("logline_request_refills_total", &stats.Refills)
	count("logline_policy_lanes_behind", &stats.LanesBehind)
	count("logline_policy_repeated_total", &stats.Repeated)
	count("logline_schedules", &stats.Schedules)
	count("logline_schedule_ticks_total", &stats.Ticks)
	count("logline_schedule_missed_total", &stats.TicksMissed)
	count("logline_schedule_skipped_total", &stats.TicksSkipped)
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
