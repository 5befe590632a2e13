package span

import (
	"encoding/json"
	"errors"
	"slices"
)

// Manifest is the metadata of the manifest span: what may boot, what reacts to what, who may do
// what, and the limits. The defaults stand in DefaultManifest.
type Manifest struct {
	Version        string        // of the document, for people
	Kernels        map[string]ID // name to id
	AllowedBootIDs []ID          // what Stage-0 may start
	Throttle       Throttle
	Policy         Policy
	Features       Features
	Triggers       []Trigger          // all matching ones run
	Grants         map[string][]Grant // by kernel name, function id, user:<id> or tenant:<id>; absent means none
	Limits         Limits
	// Callable are the kernels, by name, that a client's request may call.
	Callable []string
	// Pins name the very version of a kernel that boots, by the kernel's name.
	Pins map[string]int
	// Timelocks are the hours from accepted_at to force of a new version of a kernel, by its name, or of
	// the manifest, by "manifest". A first version waits for nothing.
	Timelocks map[string]int
	// RateLimits are the boots of a kernel that a tenant may have in a minute, by the kernel's name.
	RateLimits map[string]int
}

// TimelockHoursMax bounds every timelock, so that what is older needs no look at them.
const TimelockHoursMax = 720

// Throttle bounds executions. 0 allows none.
type Throttle struct {
	PerTenantDailyExecLimit int
	PerUserDailyExecLimit   int // scheduled runs do not count here
}

// Policy holds the figures that run_code and the policies go by.
type Policy struct {
	SlowMs                  int // a longer run is labeled slow
	TimeoutMs               int // the hard cap of JavaScript time
	CircuitBreakerThreshold int
}

// Features are the switches.
type Features struct {
	SignaturesRequired SignaturesRequired
	StrictMode         bool // every guard fails closed
	AuditLog           AuditLog
}

// SignaturesRequired is false, true (All) or a list of SignableTypes. The zero value requires none. All is
// what runs or rules: functions, kernels among them, policies, providers and the manifest; requests, which
// are mostly made by clients without keys, only a list can name.
type SignaturesRequired struct {
	All   bool
	Types []string
}

// IsAny reports whether anything must be signed.
func (r SignaturesRequired) IsAny() bool { return r.All || len(r.Types) > 0 }

// SignableTypes are the entity types whose signature somebody looks at. It must not be changed.
var SignableTypes = []string{"execution", "function", "key", "manifest", "policy", "provider", "request"}

// For reports whether spans of entityType must be signed.
func (r SignaturesRequired) For(entityType string) bool {
	return r.All && entityType != "request" || slices.Contains(r.Types, entityType)
}

// AuditLog says how boot events are written: none, one per kernel version and minute, one per batch.
type AuditLog string

// The values of AuditLog; in JSON false, true and "full".
const (
	AuditOff  AuditLog = "off"
	AuditOn   AuditLog = "on"
	AuditFull AuditLog = "full"
)

// Limits are those of the sandbox for one run (docs/decisions.md). A manifest may lower them;
// IOTimeoutMs it may raise to 300000.
type Limits struct {
	MemoryMB    int // memory_mb
	SourceBytes int // source_bytes
	OutputBytes int // output_bytes
	LogBytes    int // log_bytes
	FrameBytes  int // frame_bytes: one message between host and child
	Spans       int // spans: appended by one run
	SQLCalls    int // sql_calls
	SQLRows     int // sql_rows
	NetCalls    int // net_calls: of ctx.fetch by one run
	IOTimeoutMs int // io_timeout_ms: waiting on host calls
}

// Trigger starts a kernel for every row that matches.
type Trigger struct {
	Kernel string
	When   When
}

// DefaultManifest returns what a manifest that states nothing means: the five kernels, no
// triggers and no grants.
func DefaultManifest() *Manifest {
	return &Manifest{
		Version: "1.0.0",
		Kernels: map[string]ID{
			"run_code": RunCodeID, "observer_bot": ObserverBotID, "request_worker": RequestWorkerID,
			"policy_agent": PolicyAgentID, "provider_exec": ProviderExecID,
		},
		AllowedBootIDs: []ID{RunCodeID, ObserverBotID, RequestWorkerID, PolicyAgentID, ProviderExecID},
		Throttle:       Throttle{PerTenantDailyExecLimit: 1000, PerUserDailyExecLimit: 100},
		Policy:         Policy{SlowMs: 5000, TimeoutMs: 30000, CircuitBreakerThreshold: 10},
		Features:       Features{AuditLog: AuditOn},
		Grants:         map[string][]Grant{},
		Limits: Limits{MemoryMB: 128, SourceBytes: 256 << 10, OutputBytes: 256 << 10, LogBytes: 64 << 10,
			FrameBytes: 1 << 20, Spans: 50, SQLCalls: 100, SQLRows: 10000, NetCalls: 20, IOTimeoutMs: 120000},
		Pins: map[string]int{}, Timelocks: map[string]int{}, RateLimits: map[string]int{},
	}
}

// ParseManifest reads the metadata of a manifest span. What it does not state has its default; a
// key that it states wrongly, or that is unknown, is a fault: a manifest with a fault never takes
// force. The error joins a *Refusal for each fault, and each names key, cause and mend.
func ParseManifest(raw json.RawMessage) (*Manifest, error) {
	if err := CheckJSON(raw); err != nil {
		return nil, err
	}
	m := DefaultManifest()
	var d document
	d.manifest(m, raw)
	if err := d.err(); err != nil {
		return nil, err
	}
	return m, nil
}

// Allows reports whether the manifest grants action on object to holder: a kernel name, the text of
// a function id, user:<user id> or tenant:<tenant id>. object is an entity type, host:port or a
// secret's name, and "" for run, reserve and sql. It allocates nothing.
func (m *Manifest) Allows(holder, action, object string) bool {
	grants := m.Grants[holder]
	for i := range grants {
		if grants[i].allows(action, object) {
			return true
		}
	}
	return false
}

// HasNetwork reports whether the function or kernel of this id has a fetch grant.
func (m *Manifest) HasNetwork(functionID ID) bool {
	if slices.ContainsFunc(m.Grants[functionID.String()], isFetch) {
		return true
	}
	for name, id := range m.Kernels {
		if id == functionID {
			return slices.ContainsFunc(m.Grants[name], isFetch)
		}
	}
	return false
}

func isFetch(grant Grant) bool { return grant.Action == ActionFetch }

func (d *document) manifest(m *Manifest, raw json.RawMessage) {
	o := d.object("", raw)
	o.text("version", &m.Version)
	var author string
	o.text("created_at", &author) // for people, as version
	o.text("created_by", &author)
	d.kernels(o, m)
	o.each("throttle", func(o object) {
		o.integer("per_tenant_daily_exec_limit", &m.Throttle.PerTenantDailyExecLimit, 0, 1e9)
		o.integer("per_user_daily_exec_limit", &m.Throttle.PerUserDailyExecLimit, 0, 1e9)
	})
	o.each("policy", func(o object) {
		o.integer("slow_ms", &m.Policy.SlowMs, 0, 1e9)
		o.integer("timeout_ms", &m.Policy.TimeoutMs, 1, m.Policy.TimeoutMs)
		o.integer("circuit_breaker_threshold", &m.Policy.CircuitBreakerThreshold, 1, 1e9)
	})
	o.each("features", func(o object) {
		d.signaturesRequired(o, &m.Features.SignaturesRequired)
		o.boolean("strict_mode", &m.Features.StrictMode)
		d.auditLog(o, &m.Features.AuditLog)
	})
	o.each("limits", func(o object) {
		limits := &m.Limits
		o.integer("memory_mb", &limits.MemoryMB, 8, limits.MemoryMB)
		o.integer("source_bytes", &limits.SourceBytes, 1, limits.SourceBytes)
		o.integer("output_bytes", &limits.OutputBytes, 1, limits.OutputBytes)
		o.integer("log_bytes", &limits.LogBytes, 0, limits.LogBytes)
		o.integer("frame_bytes", &limits.FrameBytes, 1024, limits.FrameBytes)
		o.integer("spans", &limits.Spans, 0, limits.Spans)
		o.integer("sql_calls", &limits.SQLCalls, 0, limits.SQLCalls)
		o.integer("sql_rows", &limits.SQLRows, 0, limits.SQLRows)
		o.integer("net_calls", &limits.NetCalls, 0, 1000)
		o.integer("io_timeout_ms", &limits.IOTimeoutMs, 1, 300000)
	})
	d.triggers(o, m)
	d.grants(o, m)
	d.callable(o, m)
	d.pins(o, m)
	d.timelocks(o, m)
	d.rateLimits(o, m)
	o.refuseUnknown()
}

// err joins the faults.
func (d *document) err() error { return errors.Join(d.faults...) }
