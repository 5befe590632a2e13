// Command noop is `logline serve` with a worker in Go in the place of request_worker: it verifies nothing
// and runs nothing, and gives each request the execution and the last version that a run leaves behind.
// Benchmarks measure with it what the engine and the ledger cost without JavaScript. It is no part of the
// product: it would run a revoked function as gladly as any.
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/engine"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == sandbox.ChildArg {
		sandbox.Main() // a child of the sandbox: never returns
	}
	debug.SetGCPercent(400) // as logline does
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := serve(log); err != nil {
		log.Error("noop ended", "error", err)
		os.Exit(1)
	}
}

func serve(log *slog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	c, err := config.Load()
	if err != nil {
		return err
	}
	listener, err := app.Listen(c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	sidecar, err := app.NewWith(ctx, c, log, func(config *engine.Config) {
		w := worker{seal: config.Seal, next: config.Boot}
		config.Boot = w.boot
	})
	if err != nil {
		return err
	}
	defer sidecar.Close()
	return sidecar.Run(ctx, listener)
}

// worker answers for request_worker, and leaves every other kernel to Stage-0.
type worker struct {
	seal ledger.Sealer
	next func(ctx context.Context, job engine.Job) error
}

func (w worker) boot(ctx context.Context, job engine.Job) error {
	if job.Kernel != "request_worker" {
		return w.next(ctx, job)
	}
	for _, request := range job.Batch {
		group, err := w.answer(request)
		if err != nil {
			return err
		}
		job.Emit(request.Key(), group, nil)
	}
	return nil
}

// answer is what a function leaves behind that returns null.
func (w worker) answer(request *span.Span) (ledger.Group, error) {
	attempt, at := 1, request.At
	if request.Attempt != nil {
		attempt = *request.Attempt
	}
	if request.AcceptedAt != nil {
		at = *request.AcceptedAt
	}
	meta := span.EngineMeta{Cause: request.Key(), Root: request.ID, Depth: 1, Kind: "execution"}
	if above, derived := request.Engine(); derived {
		meta.Root, meta.Depth = above.Root, above.Depth+1
	}
	metadata, err := span.SetEngine(nil, meta)
	if err != nil {
		return ledger.Group{}, err
	}
	execution := &span.Span{
		ID:         span.Derive("execution", at.Time, []span.ID{request.ID}, int64(attempt)),
		EntityType: "execution", Who: "kernel:run_code", Did: new("executed"), This: new("run_code"),
		At: span.NewTime(time.Now()), OwnerID: request.OwnerID, TenantID: request.TenantID,
		Visibility: request.Visibility, Status: new("complete"), ParentID: request.ParentID,
		RelatedTo: []span.ID{request.ID}, TraceID: request.TraceID, Attempt: &attempt, Input: request.Input,
		Output: json.RawMessage("null"), DurationMs: new(0), Metadata: metadata,
	}
	end := request.NextRequest("kernel:run_code", "complete")
	end.Did = new("ran")
	group := ledger.Group{Fence: end, Rows: []*span.Span{execution}}
	return group, group.Seal(w.seal)
}
