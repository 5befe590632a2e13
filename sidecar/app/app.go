// Package app builds the sidecar from its parts, owns every goroutine, and stops them in order.
//
//	start:  ledger ─► sandbox ─► stage0 (manifest, kernels) ─► http ─► engine ─► tail
//	stop:   engine (drain) ─► tail (last cursor) ─► http ─► boot events ─► sandbox ─► ledger
//
// The parts do not know each other: app hands each the functions of the others that it needs.
package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/engine"
	"github.com/loglineos/loglineos/sidecar/fetch"
	"github.com/loglineos/loglineos/sidecar/httpapi"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/metrics"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/stage0"
	"github.com/loglineos/loglineos/sidecar/tail"
)

// connectionsMax bounds the pool: two commits, reads of bodies, and five reads of code's own.
const connectionsMax = 10

// App is one sidecar. Make it with New, run it once with Run, and Close it in any case.
type App struct {
	config *config.Config
	log    *slog.Logger
	ledger *ledger.Ledger
	pool   *sandbox.Pool
	fetch  *fetch.Client
	stage0 *stage0.Stage0
	engine *engine.Engine
	tail   *tail.Tail
	walls  *walls
	signer *sign.Signer // nil: no key is configured
}

// New connects, starts the sandbox and reads the manifest. Its errors name what to mend.
func New(ctx context.Context, c *config.Config, log *slog.Logger) (*App, error) {
	return NewWith(ctx, c, log, nil)
}

// NewWith is New with another engine: change gets what the engine would have, and alters it. nil changes
// nothing. Benchmarks measure with it what the engine costs without JavaScript; no command calls it.
func NewWith(ctx context.Context, c *config.Config, log *slog.Logger, change func(*engine.Config)) (
	_ *App, err error) {
	a := &App{config: c, log: log}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	var incarnation span.ID
	rand.Read(incarnation[:]) // never fails: crypto/rand
	a.ledger, err = ledger.OpenAs(ctx, c.DatabaseURL, connectionsMax, incarnation.String())
	if err != nil {
		return nil, err
	}
	if a.signer, err = newSigner(ctx, c, a.ledger, log); err != nil {
		return nil, err
	}
	if a.walls, err = newWalls(a.ledger, log); err != nil {
		return nil, err
	}
	if a.pool, err = sandbox.New(sandbox.Options{Workers: c.Workers, Log: log}); err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	if err = a.pool.Warm(ctx); err != nil {
		return nil, err
	}
	a.logSandbox()
	if a.fetch, err = newFetch(c); err != nil {
		return nil, err
	}
	a.stage0 = stage0.New(
		stage0.Config{Ledger: a.ledger, Pool: a.pool, Node: c.Node, Incarnation: incarnation, Log: log,
			Signer: a.signer, TrustRoot: c.TrustRoot, Fetch: a.fetch})
	if err = a.stage0.Reload(ctx); err != nil {
		return nil, err
	}
	if err = a.stage0.CheckSigner(); err != nil {
		return nil, fmt.Errorf("start the sidecar: %w", err)
	}
	engineConfig := engine.Config{
		Ledger: a.ledger, Manifest: a.stage0.Manifest, ManifestSince: a.stage0.ManifestSince,
		Failure: a.stage0.Failure, Cancelled: a.stage0.Cancelled,
		Boot: func(ctx context.Context, job engine.Job) error { return a.stage0.Boot(ctx, stage0.Job(job)) },
		Load: a.stage0.Load, Prefetch: a.stage0.Prefetch, Settled: a.stage0.Settled,
		IsTrusted: func() bool { return a.tail.IsTrusted() }, Seal: a.signer.Seal,
		Node:        c.Node,
		InFlightMax: c.MaxInFlight, Log: log,
	}
	if change != nil {
		change(&engineConfig)
	}
	a.engine = engine.New(engineConfig)
	a.tail = a.newTail(incarnation)
	return a, nil
}

// newTail follows the ledger for Stage-0 and the engine.
func (a *App) newTail(incarnation span.ID) *tail.Tail {
	c := a.config
	return tail.New(tail.Config{
		DatabaseURL: c.DatabaseURL, ReplicationURL: c.ReplicationURL, Slot: c.Slot, Publication: c.Publication,
		Source: tail.Source(c.Source), Node: c.Node, Incarnation: incarnation.String(), Log: a.log,
		Prepare: ledger.AssumeRole,
	}, tail.Handler{
		Lead: func(ctx context.Context, since string) error {
			if err := a.stage0.Lead(ctx); err != nil {
				return err
			}
			return a.engine.Lead(ctx, since)
		},
		Lose: a.engine.Lose, Stored: a.engine.Stored,
		Row: func(ctx context.Context, row *span.Published, position *tail.Position) error {
			if err := a.stage0.Observe(ctx, row); err != nil {
				return err
			}
			return a.engine.Row(ctx, row, position.Done)
		},
	})
}

// newFetch is the way out for granted code, as far as the operator's lists allow.
func newFetch(c *config.Config) (*fetch.Client, error) {
	lists := fetch.Config{Allow: c.FetchAllow}
	for _, secret := range c.FetchSecrets() {
		lists.Secrets = append(lists.Secrets, fetch.Secret(secret))
	}
	return fetch.New(lists)
}

// Run works until ctx ends, and then stops in order. listener, where there is one, serves the health
// of the process and is closed. The error is the first that ended a part.
func (a *App) Run(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tailCtx, stopTail := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTail()

	var failed error
	var once sync.Once
	fail := func(err error) {
		if err != nil {
			once.Do(func() { failed = err })
			cancel()
		}
	}
	var engineDone, rest sync.WaitGroup
	engineDone.Go(func() { a.engine.Run(ctx, time.Duration(a.config.DrainMs)*time.Millisecond) })
	rest.Go(func() { fail(a.tail.Run(tailCtx)) })
	rest.Go(func() { a.recordBoots(tailCtx) })
	rest.Go(func() { watchGarbage(tailCtx) })
	rest.Go(func() { a.walls.watch(tailCtx, time.Duration(a.config.WallsMs)*time.Millisecond) })
	server := &http.Server{Handler: httpapi.New(a.Status, metrics.Handler(a.measure)),
		ReadHeaderTimeout: 5 * time.Second}
	if listener != nil {
		rest.Go(func() {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				fail(fmt.Errorf("serve %s: %w", listener.Addr(), err))
			}
		})
	}
	engineDone.Wait()
	stopTail()
	stopCtx, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancelStop()
	if err := server.Shutdown(stopCtx); err != nil {
		a.log.Warn("http server did not stop in time", "error", err)
	}
	rest.Wait()
	if err := a.engine.AppendCursor(stopCtx); err != nil {
		a.log.Warn("the last policy_cursor is not recorded", "error", err)
	}
	if err := a.stage0.AppendBoots(stopCtx, true); err != nil {
		a.log.Warn("boot events not recorded", "error", err)
	}
	return failed
}

// recordBoots appends the boot events of each minute, and looks whether something has taken force by the
// clock alone, while no row came.
func (a *App) recordBoots(ctx context.Context) {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := a.stage0.AppendBoots(ctx, false); err != nil {
				a.log.Warn("boot events not recorded, trying again in a minute", "error", err)
			}
			if err := a.stage0.LookAtClock(ctx); err != nil {
				a.log.Warn("the database's clock is not known, trying again in a minute", "error", err)
			}
			if err := a.stage0.Refresh(ctx); err != nil {
				a.log.Warn("what has come into force is not known, trying again in a minute", "error", err)
			}
			a.engine.Look(ctx)
		}
	}
}

// Hurry makes a stop wait for nothing: what runs stays open in the ledger and is taken over.
func (a *App) Hurry() { a.engine.Hurry() }

// Close ends the children and the connections.
func (a *App) Close() {
	if a.pool != nil {
		a.pool.Close()
	}
	if a.fetch != nil {
		a.fetch.Close()
	}
	if a.ledger != nil {
		a.ledger.Close()
	}
}

// Status says whether this sidecar works: its slot streams, the walls of the ledger stand (as of the last
// look) and the kernels that run requests verify. Of others that do not, it says so.
func (a *App) Status(ctx context.Context) httpapi.Status {
	phase, fault := a.tail.State()
	fault = ledger.ConnectText(fault)
	status := httpapi.Status{Phase: string(phase), Reason: fault, Version: Version(), Sandbox: a.sandboxWalls()}
	if key, isSigned, ok := a.stage0.InForce(); ok {
		status.Manifest = &httpapi.Manifest{Seq: key.Seq, Signed: isSigned}
	}
	if phase != tail.Streaming && phase != tail.Polling {
		status.Pending = true
		return status
	}
	if status.Reason = a.tail.Health().Stuck; status.Reason != "" {
		return status
	}
	if status.Reason = a.walls.fault(); status.Reason != "" {
		status.Pending = status.Reason == wallsUnknown
		return status
	}
	if status.Reason = a.sandboxFault(); status.Reason != "" {
		return status
	}
	status.Degraded = a.stage0.Degraded(ctx)
	if fault != "" { // it polls, for its slot is not there yet
		if status.Degraded == nil {
			status.Degraded = map[string]string{}
		}
		status.Degraded["tail"] = fault
	}
	if err := a.stage0.Verify(ctx); err != nil {
		status.Reason = err.Error()
		return status
	}
	status.Ready = true
	return status
}
