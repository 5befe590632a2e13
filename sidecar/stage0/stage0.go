// Package stage0 is the fixed loader: it runs what the manifest allows, and nothing else.
//
// The path of a run, in the order in which it is best read:
//
//	manifest.go   which manifest is in force: fixed id, effective time, timelock, signature, no fault
//	manifest.go   pick: the version of a kernel that the manifest pins, or the newest whose time has come
//	verify.go     on the whitelist? there? not revoked? in force? what was hashed? signed (trust.go)?
//	boot.go       the kernel runs in the kernel host, once for a batch (boots.go records it)
//	host.go       what it may call: find, sql, insertSpan, version, reserve, run, each by its grant
//	reserve.go    circuit, rate, quota, force: may this request run now? (circuit.go, rate.go, quota.go)
//	run.go        a function or policy, verified as above, runs in a code worker, with limits
//	emit.go       what was appended is checked, completed, hashed, signed and handed on, a group for each cause
//
// The rest serves one call each (find.go, fetch.go, act.go), the older style (alias.go) or runs an execution
// again from its record (replay.go).
//
// It owns the whitelist, the verification of code, the host side of ctx, the completion of what code
// appends (id from the cause; owner, tenant and visibility of the cause), the limits of the manifest and boot
// events. It refuses with a code of docs/contract.md §5. It does not know when something runs, and it commits
// nothing but boot events and incidents: groups go to whoever asked for the run.
package stage0

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/loglineos/loglineos/sidecar/fetch"
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
	// Fetch makes the calls of ctx.fetch. nil reaches no host.
	Fetch *fetch.Client
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
	drops    int          // of kernels, because a version of one was committed
	faulty   map[int]bool // versions of the manifest whose incident is in the ledger
	started  time.Time    // with a monotonic reading
	ahead    atomic.Int64 // the database's clock before ours, in nanoseconds
	nextAt   time.Time    // when a version takes force by the clock alone; zero: none is known
	boots    *bootCounter
	roots    rootCounter
	quotas   *quotas
	rates    rates
	circuits circuits
	led      time.Time // since when it leads
	refusals refusals
	breaker  breaker
}

// kernel is the version of a kernel in force, or why there is none.
type kernel struct {
	name string
	span *span.Span
	err  *span.RunError
	// isForMany: it goes over ctx.batch; one that does not is run for each cause alone.
	isForMany bool
}

// New returns a Stage0 that has not read its manifest yet: call Reload.
func New(config Config) *Stage0 {
	if config.Fetch == nil {
		config.Fetch, _ = fetch.New(fetch.Config{}) // empty lists have no fault
	}
	s := &Stage0{
		config:   config,
		started:  time.Now(),
		versions: newVersions(config.Ledger),
		kernels:  map[span.ID]*kernel{},
		faulty:   map[int]bool{},
		boots:    newBootCounter(),
		quotas:   newQuotas(config.Ledger),
	}
	s.trust.Store(sign.NewTrust(config.TrustRoot, nil))
	return s
}

// Observe keeps what is cached in step with the ledger. It must be called for every row, in order,
// before the row is routed.
func (s *Stage0) Observe(ctx context.Context, row *span.Published) error {
	if err := s.Refresh(ctx); err != nil {
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
	case "key":
		if row.TenantID != "system" {
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

// Lead forgets what another sidecar's turn may have made stale, and reads the manifest anew. It must be
// called before the engine leads: a standby has seen no row.
func (s *Stage0) Lead(ctx context.Context) error {
	s.versions.forgetLatest()
	if err := s.config.Ledger.AwaitOthers(ctx); errors.Is(err, ledger.ErrOthers) {
		s.config.Log.Warn("the day's executions may be counted too low by what it commits", "error", err)
	} else if err != nil {
		return err
	}
	s.quotas.forget()
	s.circuits.forget()
	s.rates.forget()
	s.roots.forget()
	s.mu.Lock()
	s.led = s.now()
	s.drops++ // what is being read now is not kept either
	clear(s.kernels)
	s.mu.Unlock()
	return s.tolerate(s.Reload(ctx))
}

// ledSince is when this sidecar came to lead; the zero time where it does not.
func (s *Stage0) ledSince() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.led
}

// Prefetch starts to read versions that a run will soon need.
func (s *Stage0) Prefetch(ctx context.Context, keys []span.Key) { s.versions.prefetch(ctx, keys) }

// Load reads versions that the WAL has named through the cache, and waits until they are visible.
func (s *Stage0) Load(ctx context.Context, keys []span.Key) ([]*span.Span, error) {
	return s.versions.load(ctx, keys, true)
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
