package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/loglineos/loglineos/sidecar/httpapi"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// start makes the sidecar. Where the ledger itself forbids that (its manifest was taken out of force), it
// says so and tries again and again: Postgres has to stay up for whoever mends it. nil without an error: ctx
// has ended.
func (u *up) start(ctx context.Context, listener net.Listener, start func() (*App, error)) (*App, error) {
	sidecar, err := start()
	if !isRefusal(err) {
		return sidecar, err
	}
	u.unready(err.Error(), true)
	status := httpapi.Status{Phase: "refused", Reason: err.Error(), Version: Version()}
	stop, serveErr := serveStatus(listener, status)
	if serveErr != nil {
		return nil, errors.Join(err, serveErr)
	}
	defer stop()
	ticker := time.NewTicker(upRetry)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case <-ticker.C:
		}
		if sidecar, err = start(); !isRefusal(err) {
			return sidecar, err
		}
	}
}

// isRefusal reports whether err is a refusal of what the ledger holds.
func isRefusal(err error) bool {
	var refusal *span.RunError
	var malformed *span.Refusal
	return errors.As(err, &refusal) || errors.As(err, &malformed)
}

// serveStatus answers with status until stop is called, and leaves listener open.
func serveStatus(listener net.Listener, status httpapi.Status) (stop func(), err error) {
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", listener.Addr(), err)
	}
	defer file.Close()
	double, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", listener.Addr(), err)
	}
	server := &http.Server{
		Handler:           httpapi.New(func(context.Context) httpapi.Status { return status }, nil),
		ReadHeaderTimeout: 5 * time.Second,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(double) // until it is closed: nobody waits for its answers but by HTTP
	}()
	return func() {
		server.Close()
		<-ended
	}, nil
}

// unready says why the system does not work, and where to mend it: by a manifest or a kernel, or else by the
// statement that reason ends with.
func (u *up) unready(reason string, byRow bool) {
	fmt.Fprintf(u.Out, "not ready  %s  %s\n", u.env["LOGLINE_URL"], reason)
	if !byRow {
		fmt.Fprintf(u.Out, "           Postgres stays up. To mend it: . %s, then psql \"$DATABASE_URL\". "+
			"Ctrl-C stops everything.\n", filepath.Join(u.Dir, "up.env"))
		return
	}
	fmt.Fprintf(u.Out, "           Postgres stays up. To mend it: . %s, then logline manifest > FILE, change "+
		"it, logline manifest --file FILE;\n           or append a kernel's next version. Ctrl-C stops "+
		"everything.\n", filepath.Join(u.Dir, "up.env"))
}

// present waits until the sidecar is ready, runs the example and says what to do next. It reports false
// where somebody has to mend something first, which it says.
func (u *up) present(ctx context.Context, sidecar *App, owner *ledger.Owner, ended chan error) (bool, error) {
	began := time.Now()
	status, err := u.waitReady(ctx, sidecar, ended)
	if err != nil {
		return false, err
	}
	if !status.Ready {
		u.unready(status.Reason, sidecar.walls.fault() == "")
		return false, nil
	}
	u.say("sidecar    ready in %d ms: the slot streams, the walls stand, the kernels verify",
		time.Since(began).Milliseconds())
	for _, name := range slices.Sorted(maps.Keys(status.Degraded)) {
		fmt.Fprintf(u.Out, "degraded   kernel %s cannot boot: %s\n", name, status.Degraded[name])
	}
	required := sidecar.stage0.Manifest().Features.SignaturesRequired
	if err := u.example(ctx, owner, required.For("function")); err != nil {
		fmt.Fprintf(u.Err, "logline: the example did not run: %s\n", err)
	}
	u.ready()
	return true, nil
}

func (u *up) ready() {
	fmt.Fprintf(u.Out, "ready      %s  (connection strings and demo tokens: %s)\n", u.env["LOGLINE_URL"],
		filepath.Join(u.Dir, "up.env"))
	u.say("           Ctrl-C stops everything; the data stays.")
}

// watchReady looks again and again whether the sidecar is ready, and says in a line of its own when it no
// longer is, why, and when it is again. wasReady is what has been said last.
func (u *up) watchReady(ctx context.Context, sidecar *App, wasReady bool) {
	isFirst := !wasReady
	ticker := time.NewTicker(upRetry)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		status := sidecar.Status(ctx)
		switch {
		case ctx.Err() != nil || status.Ready == wasReady:
			continue
		case status.Ready && isFirst:
			u.ready()
		case status.Ready:
			fmt.Fprintf(u.Out, "ready      %s  again\n", u.env["LOGLINE_URL"])
		default:
			fmt.Fprintf(u.Out, "not ready  %s  %s (`logline doctor` says more)\n", u.env["LOGLINE_URL"],
				onOneLine(cmp.Or(status.Reason, status.Phase)))
		}
		wasReady, isFirst = status.Ready, isFirst && !status.Ready
	}
}

// onOneLine takes out what a terminal would act on: a reason may quote a stranger.
func onOneLine(text string) string {
	return strings.Map(func(letter rune) rune {
		if !unicode.IsPrint(letter) {
			return ' '
		}
		return letter
	}, text)
}

// waitReady returns when the sidecar is ready, or is not and will not be unless somebody mends something.
func (u *up) waitReady(ctx context.Context, sidecar *App, ended chan error) (httpapi.Status, error) {
	deadline, cancel := context.WithTimeout(ctx, upReadyMax)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		status := sidecar.Status(deadline)
		if status.Ready || !status.Pending && deadline.Err() == nil {
			return status, nil
		}
		select {
		case err := <-ended:
			ended <- nil
			if err == nil {
				err = errors.New("the sidecar stopped")
			}
			return status, err
		case <-deadline.Done():
			if ctx.Err() != nil {
				return status, ctx.Err()
			}
			return status, fmt.Errorf("the sidecar is not ready after %d s: %s", int(upReadyMax.Seconds()),
				status.Reason)
		case <-ticker.C:
		}
	}
}
