// Package stage0 is the fixed loader: it runs what the manifest allows, and nothing else.
//
//	manifest (fixed id) ─► kernel on the whitelist? ─► version in force ─► hash ─► kernel host
//	                                                                                  │ host calls
//	     group of spans ◄─ completed, checked, hashed ◄─ insertSpan, version ◄────────┤
//	     code worker    ◄─ callable, hash, limits     ◄─ run ◄───────────────────────-┘
//
// It owns the whitelist, the verification of code, the host side of ctx, the completion of what code
// appends (id from the cause; owner, tenant and visibility of the cause) and boot events. It refuses
// with a code of docs/contract.md §5. It does not know when something runs, and it commits nothing but boot
// events and incidents: groups go to whoever asked for the run.
package stage0

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Config is what Stage-0 works with.
type Config struct {
	Ledger *ledger.Ledger
	Pool   *sandbox.Pool
	// Node names this sidecar in who (sidecar:<node>); Incarnation tells one process from the next.
	Node        string
	Incarnation span.ID
	Log         *slog.Logger
	// Signer seals what Stage-0 and what runs append; nil only hashes.
	Signer *sign.Signer
	// TrustRoot is the pinned fingerprint of the root key, "" where none is: then no key counts.
	TrustRoot string
}

// Stage0 runs kernels, and through them functions and policies. It is safe for concurrent use.
type Stage0 struct {
	config   Config
	versions *versions
	manifest atomic.Pointer[governed]
	trust    atomic.Pointer[sign.Trust]
	reload   sync.Mutex // one reading of the manifest at a time: an older one never comes last
	mu       sync.Mutex
	kernels  map[span.ID]*kernel
	drops    int       // of kernels, because a version of one was committed
	nextAt   time.Time // when a version takes force by the clock alone; zero: none is known
	boots    *bootCounter
	roots    rootCounter
	breaker  breaker
}

// governed is the manifest in force, in the forms that runs need.
type governed struct {
	*span.Manifest
	key  span.Key
	lazy map[string]json.RawMessage // ctx.manifest
}

// kernel is the version of a kernel in force, or why there is none.
type kernel struct {
	name string
	span *span.Span
	err  *span.RunError
}

// New returns a Stage0 that has not read its manifest yet: call Reload.
func New(config Config) *Stage0 {
	s := &Stage0{
		config:   config,
		versions: newVersions(config.Ledger),
		kernels:  map[span.ID]*kernel{},
		boots:    newBootCounter(),
	}
	s.trust.Store(sign.NewTrust(config.TrustRoot, nil))
	return s
}

// Manifest returns the manifest in force, or nil before the first Reload.
func (s *Stage0) Manifest() *span.Manifest {
	if current := s.manifest.Load(); current != nil {
		return current.Manifest
	}
	return nil
}

// Reload reads the manifest and puts it in force. A manifest with a fault does not take force: the
// one before stays, and the fault is returned and recorded as an incident span.
func (s *Stage0) Reload(ctx context.Context) error {
	s.reload.Lock()
	defer s.reload.Unlock()
	if err := s.noteEffective(ctx, span.ManifestID); err != nil {
		return err
	}
	found, err := s.config.Ledger.InForce(ctx, []span.ID{span.ManifestID})
	if err != nil {
		return fmt.Errorf("read the manifest: %w", err)
	}
	row := found[span.ManifestID]
	if row == nil {
		return &span.RunError{
			Code:    span.RunNotFound,
			Message: "the ledger has no manifest: run `logline bootstrap`",
		}
	}
	if current := s.manifest.Load(); current != nil && current.key == row.Key() {
		return nil
	}
	manifest, err := readManifest(row)
	if err != nil {
		s.incident(ctx, row, "manifest refused", err)
		refused := fmt.Errorf("take manifest version %d into force: %w", row.Seq, err)
		if s.manifest.Load() != nil || isRevoked(err) {
			return refused
		}
		if manifest, err = s.soundBefore(ctx, row); err != nil || manifest == nil {
			return errors.Join(refused, err)
		}
		s.config.Log.Error("manifest refused; the one before stays in force", "error", refused)
		row = &span.Span{ID: manifest.key.ID, Seq: manifest.key.Seq}
	}
	s.manifest.Store(manifest)
	s.mu.Lock()
	clear(s.kernels)
	s.mu.Unlock()
	s.config.Log.Info("manifest in force", "seq", row.Seq, "version", manifest.Version)
	return nil
}

// soundBefore returns the newest manifest before row that may be in force, nil where there is none: a
// restart must not change which one is.
func (s *Stage0) soundBefore(ctx context.Context, row *span.Span) (*governed, error) {
	for key := row.Key(); key.Seq > 0; {
		key.Seq--
		found, err := s.config.Ledger.Load(ctx, []span.Key{key})
		if err != nil {
			return nil, fmt.Errorf("read manifest version %d: %w", key.Seq, err)
		}
		before := found[key]
		if before == nil || before.EffectiveAt != nil && before.EffectiveAt.After(time.Now()) {
			continue
		}
		manifest, err := readManifest(before)
		if err == nil {
			return manifest, nil
		}
		if isRevoked(err) {
			break
		}
	}
	return nil, nil
}

// isRevoked reports whether a manifest was refused because its governor took it back.
func isRevoked(err error) bool {
	var refusal *span.RunError
	return errors.As(err, &refusal) && refusal.Code == span.RunRevoked
}

// noteEffective notes when the next version of id takes force. It comes before the one in force is read,
// so that none falls between the two.
func (s *Stage0) noteEffective(ctx context.Context, id span.ID) error {
	next, err := s.config.Ledger.NextEffective(ctx, []span.ID{id})
	if err != nil || next.IsZero() {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nextAt.IsZero() || next.Before(s.nextAt) {
		s.nextAt = next
	}
	return nil
}

// refresh puts into force what has become effective since it was committed.
func (s *Stage0) refresh(ctx context.Context) error {
	s.mu.Lock()
	at := s.nextAt
	isDue := !at.IsZero() && !time.Now().Before(at)
	if isDue {
		s.nextAt = time.Time{}
		s.drops++
		clear(s.kernels)
	}
	s.mu.Unlock()
	if !isDue {
		return nil
	}
	err := s.tolerate(s.Reload(ctx))
	if err != nil {
		s.mu.Lock()
		s.nextAt = at
		s.mu.Unlock()
	}
	return err
}

// tolerate logs the refusal of a manifest, which leaves the one before in force, and returns other errors.
func (s *Stage0) tolerate(err error) error {
	var refusal *span.RunError
	var malformed *span.Refusal
	if errors.As(err, &refusal) || errors.As(err, &malformed) {
		s.config.Log.Error("manifest refused; the one before stays in force", "error", err)
		return nil
	}
	return err
}

func readManifest(row *span.Span) (*governed, error) {
	if row.StatusText() != "active" {
		return nil, &span.RunError{Code: span.RunRevoked,
			Message: fmt.Sprintf("the manifest has the status %q, not active", row.StatusText())}
	}
	if err := verifyHash(row, true); err != nil {
		return nil, err
	}
	manifest, err := span.ParseManifest(row.Metadata)
	if err != nil {
		return nil, fmt.Errorf("parse the manifest: %w", err)
	}
	document, err := manifestJSON(manifest, row.Metadata)
	if err != nil {
		return nil, err
	}
	return &governed{
		Manifest: manifest,
		key:      row.Key(),
		lazy:     map[string]json.RawMessage{"manifest": document},
	}, nil
}

// manifestJSON is the document with the defaults that kernels read filled in.
func manifestJSON(m *span.Manifest, raw json.RawMessage) (json.RawMessage, error) {
	document := map[string]any{}
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, fmt.Errorf("decode the manifest: %w", err)
	}
	delete(document, "triggers") // the engine's business; leaves every run with less to parse
	grants := map[string][]string{}
	for holder, list := range m.Grants {
		for _, grant := range list {
			grants[holder] = append(grants[holder], grant.String())
		}
	}
	document["version"], document["kernels"], document["grants"] = m.Version, m.Kernels, grants
	document["policy"] = map[string]int{"slow_ms": m.Policy.SlowMs, "timeout_ms": m.Policy.TimeoutMs,
		"circuit_breaker_threshold": m.Policy.CircuitBreakerThreshold}
	document["throttle"] = map[string]int{
		"per_tenant_daily_exec_limit": m.Throttle.PerTenantDailyExecLimit,
		"per_user_daily_exec_limit":   m.Throttle.PerUserDailyExecLimit}
	encoded, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return encoded, nil
}

// Verify loads every kernel that the manifest names and reports those that Stage-0 would refuse.
func (s *Stage0) Verify(ctx context.Context) error {
	manifest := s.manifest.Load()
	if manifest == nil {
		return errors.New("no manifest is in force")
	}
	var faults []error
	for name := range manifest.Kernels {
		if _, err := s.kernel(ctx, manifest, name); err != nil {
			faults = append(faults, fmt.Errorf("kernel %s: %w", name, err))
		}
	}
	return errors.Join(faults...)
}

// Observe keeps what is cached in step with the ledger. It must be called for every row, in order,
// before the row is routed.
func (s *Stage0) Observe(ctx context.Context, row *span.Published) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	switch row.EntityType {
	case "manifest":
		if row.ID != span.ManifestID {
			return nil
		}
		if _, err := s.config.Ledger.LoadVisible(ctx, []span.Key{row.Key()}); err != nil {
			return err
		}
		return s.tolerate(s.Reload(ctx))
	case "function":
		s.versions.observe(row.Key())
		return s.observeKernel(ctx, row)
	}
	return nil
}

// observeKernel drops the kernel that row is a version of, once row can be read.
func (s *Stage0) observeKernel(ctx context.Context, row *span.Published) error {
	manifest := s.manifest.Load()
	if manifest == nil || !manifest.names(row.ID) {
		return nil
	}
	if _, err := s.config.Ledger.LoadVisible(ctx, []span.Key{row.Key()}); err != nil {
		return err
	}
	s.mu.Lock()
	s.drops++
	delete(s.kernels, row.ID)
	s.mu.Unlock()
	return nil
}

// names reports whether id is a kernel of the manifest.
func (g *governed) names(id span.ID) bool {
	for _, kernel := range g.Kernels {
		if kernel == id {
			return true
		}
	}
	return false
}

// Lead forgets what another sidecar's turn may have made stale, and reads the manifest anew. It must be
// called before the engine leads: a standby has seen no row.
func (s *Stage0) Lead(ctx context.Context) error {
	s.versions.forgetLatest()
	s.mu.Lock()
	s.drops++ // what is being read now is not kept either
	clear(s.kernels)
	s.mu.Unlock()
	return s.tolerate(s.Reload(ctx))
}

// Prefetch starts to read versions that a run will soon need.
func (s *Stage0) Prefetch(ctx context.Context, keys []span.Key) { s.versions.prefetch(ctx, keys) }

// Load reads versions that the WAL has named through the cache, and waits until they are visible.
func (s *Stage0) Load(ctx context.Context, keys []span.Key) ([]*span.Span, error) {
	return s.versions.load(ctx, keys, true)
}

// kernel returns the version of a kernel in force, verified. A refusal is a *span.RunError.
func (s *Stage0) kernel(ctx context.Context, manifest *governed, name string) (*kernel, error) {
	id, known := manifest.Kernels[name]
	if !known {
		return nil, &span.RunError{Code: span.RunNotFound, Message: "the manifest names no kernel " + name}
	}
	s.mu.Lock()
	found, drops := s.kernels[id], s.drops
	s.mu.Unlock()
	if found == nil {
		if err := s.noteEffective(ctx, id); err != nil {
			return nil, err
		}
		rows, err := s.config.Ledger.InForce(ctx, []span.ID{id})
		if err != nil {
			return nil, fmt.Errorf("load kernel %s: %w", name, err)
		}
		found = &kernel{name: name, span: rows[id]}
		found.err = verifyKernel(manifest, id, rows[id])
		s.mu.Lock()
		// What was read or judged before a change must not outlive it.
		if s.drops == drops && s.manifest.Load() == manifest {
			s.kernels[id] = found
		}
		s.mu.Unlock()
	}
	if found.err != nil {
		return nil, found.err
	}
	return found, nil
}

// incident records a fault of the system's own documents. It is best effort: the fault itself is
// returned or logged by the caller.
func (s *Stage0) incident(ctx context.Context, cause *span.Span, what string, fault error) {
	incident, err := s.systemSpan(cause, "incident", what)
	if err == nil {
		incident.Status = new("open")
		incident.Error, err = json.Marshal(
			map[string]string{"code": "malformed", "message": clip(fault.Error(), 4000)})
	}
	if err == nil {
		err = s.config.Signer.Seal(incident, nil)
	}
	if err == nil {
		_, err = s.config.Ledger.Append(ctx, []ledger.Group{{Rows: []*span.Span{incident}}})
	}
	if err != nil {
		s.config.Log.Error("incident not recorded", "what", what, "error", err)
	}
}

// systemSpan drafts a span of the engine's own about cause, private to system.
func (s *Stage0) systemSpan(cause *span.Span, entityType, did string) (*span.Span, error) {
	at := cause.At
	if cause.AcceptedAt != nil {
		at = *cause.AcceptedAt
	}
	meta := span.EngineMeta{Cause: cause.Key(), Root: cause.ID, Depth: 1, Kind: entityType}
	metadata, err := span.SetEngine(nil, meta)
	if err != nil {
		return nil, err
	}
	return &span.Span{
		ID:         span.Derive(entityType, at.Time, []span.ID{cause.ID}, int64(cause.Seq)),
		EntityType: entityType, Who: "sidecar:" + s.config.Node, Did: &did, At: span.NewTime(time.Now()),
		OwnerID: "system", TenantID: "system", Visibility: "private", ParentID: &cause.ID, Metadata: metadata,
	}, nil
}

func clip(text string, bytesMax int) string {
	if len(text) <= bytesMax {
		return text
	}
	return text[:bytesMax] + "…"
}
