package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/fetch"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/stage0"
)

// Workbench runs functions that are not in the ledger: in a sandbox of its own, as a sidecar would, and
// keeping nothing. Close it.
type Workbench struct {
	pool     *sandbox.Pool
	reader   *ledger.Ledger // nil: it reads no ledger
	fetch    *fetch.Client
	stage0   *stage0.Stage0
	manifest json.RawMessage
	hosts    []string
}

// Tried is what a run on a workbench gave.
type Tried = stage0.Tried

// NewWorkbench starts the sandbox. Where databaseURL names a ledger, code may read it, in sessions that
// cannot write, and the limits are those of its manifest. hosts (host:port) may be reached.
func NewWorkbench(ctx context.Context, databaseURL string, hosts []string) (_ *Workbench, err error) {
	b := &Workbench{hosts: hosts}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if b.manifest, err = kernels.Manifest(); err != nil {
		return nil, err
	}
	if databaseURL != "" {
		if b.reader, err = ledger.OpenReader(ctx, databaseURL); err != nil {
			return nil, err
		}
		found, err := b.reader.Latest(ctx, []span.ID{span.ManifestID})
		if err != nil {
			return nil, fmt.Errorf("read the manifest: %w", err)
		}
		if row := found[span.ManifestID]; row != nil && row.Metadata != nil {
			b.manifest = row.Metadata
		}
	}
	if b.fetch, err = fetch.New(fetch.Config{Allow: hosts}); err != nil {
		return nil, err
	}
	if b.pool, err = sandbox.New(sandbox.Options{Workers: 1}); err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	b.stage0 = stage0.New(stage0.Config{Ledger: b.reader, Pool: b.pool, Node: "workbench", Fetch: b.fetch,
		Log: slog.New(slog.DiscardHandler)})
	return b, nil
}

// Close ends the sandbox.
func (b *Workbench) Close() {
	if b.pool != nil {
		b.pool.Close()
	}
	if b.fetch != nil {
		b.fetch.Close()
	}
	if b.reader != nil {
		b.reader.Close()
	}
}

// Try runs the function of a file once, called by actor with input.
func (b *Workbench) Try(ctx context.Context, file *FunctionFile, input json.RawMessage, actor ledger.Actor) (
	*Tried, error) {
	return b.stage0.Try(ctx, stage0.Trial{Name: file.Path, Source: file.Source, Language: file.Language,
		Input: input, User: actor.User, Tenant: actor.Tenant, Manifest: b.manifest, FetchHosts: b.hosts})
}

// settled is how long a file has to be left alone after a change: editors write more than once.
const settled = 50 * time.Millisecond

// OnEachSave calls run now, and again after each time that one of the files is saved, until ctx ends. A save
// ends the run that is under way: its ctx does.
func OnEachSave(ctx context.Context, files []string, run func(context.Context)) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer watcher.Close()
	watched := map[string]bool{}
	for _, file := range files {
		path, err := filepath.Abs(file)
		if err != nil {
			return fmt.Errorf("watch %s: %w", file, err)
		}
		// The folder, for many editors put a new file in the place of the old one.
		if err := watcher.Add(filepath.Dir(path)); err != nil {
			return fmt.Errorf("watch %s: %w", filepath.Dir(path), err)
		}
		watched[path] = true
		// Where it is a link, what it leads to is what is saved.
		if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
			if err := watcher.Add(filepath.Dir(real)); err != nil {
				return fmt.Errorf("watch %s: %w", filepath.Dir(real), err)
			}
			watched[real] = true
		}
	}
	for ctx.Err() == nil {
		runCtx, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			run(runCtx)
		}()
		err := awaitSave(ctx, watcher, watched)
		stop()
		<-ended
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitSave returns when a watched file was changed and then left alone, or ctx ends.
func awaitSave(ctx context.Context, watcher *fsnotify.Watcher, watched map[string]bool) error {
	timer := time.NewTimer(settled)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			return nil
		case event, isOpen := <-watcher.Events:
			if !isOpen {
				return errors.New("watch files: the watcher has ended")
			}
			if watched[event.Name] && event.Op != fsnotify.Chmod {
				timer.Reset(settled)
			}
		case err := <-watcher.Errors:
			return fmt.Errorf("watch files: %w", err)
		}
	}
}

// LogLine is one line of what code logged.
type LogLine = sandbox.Log

// LogsOf returns what the run of an execution logged.
func LogsOf(execution *span.Span) []LogLine {
	var metadata struct {
		Run struct {
			Logs []LogLine `json:"logs"`
		} `json:"run"`
	}
	if execution.Metadata == nil || json.Unmarshal(execution.Metadata, &metadata) != nil {
		return nil
	}
	return metadata.Run.Logs
}
