package app

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/stage0"
)

// ReplayReport is what a repeated run gave, beside what is recorded.
type ReplayReport = stage0.Replay

// ReplayCode is other code to run against the record of an execution.
type ReplayCode = stage0.ReplayCode

// Replay runs the function of an execution again, in a sandbox of its own, with host calls answered from the
// record. It reads the ledger of databaseURL and writes nothing.
func Replay(ctx context.Context, databaseURL string, execution span.ID, other *ReplayCode) (*ReplayReport,
	error) {
	reader, err := ledger.OpenReader(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	pool, err := sandbox.New(sandbox.Options{Workers: 1})
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	defer pool.Close()
	s := stage0.New(stage0.Config{Ledger: reader, Pool: pool, Node: "replay",
		Log: slog.New(slog.DiscardHandler)})
	return s.Replay(ctx, execution, other)
}
