package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/loglineos/loglineos/sidecar/turns"
)

const (
	startTimeout = 10 * time.Second // from exec to hello
	startTries   = 3                // for one run
	backoffFirst = 20 * time.Millisecond
	backoffMost  = 5 * time.Second
	maxRuns      = 10_000 // of one code worker, then it is replaced
	maxOwing     = 1000   // tenants that are remembered for the workers that they broke
	freshSpares  = 2      // idle workers beyond Workers that no tenant has used, once a run asked to be Alone
)

var errClosed = errors.New("the sandbox is closed")

// Pool owns the children. Its methods may be called concurrently.
type Pool struct {
	options  Options
	starter  *starter
	places   *turns.Turns // one for each code worker; of three or more no tenant holds the last
	closing  context.Context
	close    context.CancelFunc
	running  sync.WaitGroup // runs, and starts of spares
	counters poolCounters

	mu       sync.Mutex
	closed   bool
	children map[*child]struct{} // all that may be alive
	idle     []*worker           // last used last
	host     *child              // the kernel host, if one was started
	hosting  chan struct{}       // closed when a start of the host that is under way has ended
	failures int                 // starts in a row that gave no hello
	retryAt  time.Time
	walls    []Wall         // around the child that was started last
	spares   int            // freshSpares once they are wanted
	owing    map[string]int // workers that tenants broke and have not started anew
}

// worker is a code worker at rest or in use.
type worker struct {
	*child
	runs  int
	mixed bool // it served more than one tenant
}

// fits reports whether r may run here: whatever may, unless r is to be alone with its tenant's past.
func (w *worker) fits(r *Run) bool {
	return !r.Alone || w.runs == 0 || w.tenant == r.Tenant && !w.mixed
}

// New makes a Pool and starts its first code worker, so that an executable that cannot serve is an error
// here.
func New(o Options) (*Pool, error) {
	if len(os.Args) > 1 && os.Args[1] == ChildArg {
		return nil,
			errors.New("make sandbox: this process is a sandbox child: main must call sandbox.Main first")
	}
	if o.Workers <= 0 {
		o.Workers = runtime.NumCPU()
	}
	if o.HostMemoryBytes <= 0 {
		o.HostMemoryBytes = 512 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Executable == "" {
		o.Executable = selfExecutable
	}
	if o.Executable == "" {
		path, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own executable: %w", err)
		}
		o.Executable = path
	}
	s, err := newStarter()
	if err != nil {
		return nil, err
	}
	p := &Pool{options: o, starter: s,
		places:   turns.NewLending(o.Workers, max(o.Workers-1, 2), aliveFor*o.Workers),
		children: map[*child]struct{}{}, owing: map[string]int{}}
	p.closing, p.close = context.WithCancel(context.Background())
	first, err := p.startReady(p.closing, false)
	if err != nil {
		p.Close()
		return nil, err
	}
	p.put(&worker{child: first})
	return p, nil
}

// Close kills all children and returns when they and every goroutine of the Pool are gone. Runs that are
// under way end with the code "crash" or "cancelled".
func (p *Pool) Close() {
	p.mu.Lock()
	already := p.closed
	p.closed = true
	list := make([]*child, 0, len(p.children))
	for c := range p.children {
		list = append(list, c)
	}
	p.mu.Unlock()
	p.close()
	for _, c := range list {
		c.kill()
	}
	p.running.Wait()
	for _, c := range list {
		<-c.gone
	}
	if !already {
		p.starter.stop()
	}
}

// Walls returns the kernel's walls around the child that was started last: all children are started alike.
func (p *Pool) Walls() []Wall {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.walls)
}

// RunCode runs r in a code worker and waits for a free one. It returns when the run and its host calls have
// ended.
func (p *Pool) RunCode(ctx context.Context, r Run) Result {
	if e := r.prepare(); e != nil {
		return Result{Err: e}
	}
	if !p.enter() {
		return refused(errClosed)
	}
	defer p.running.Done()
	if !p.places.Take(ctx, p.closing.Done(), r.Tenant) {
		if ctx.Err() != nil {
			return Result{Err: cancelled(ctx)}
		}
		return refused(errClosed)
	}
	lease := &lease{turns: p.places, tenant: r.Tenant}
	defer lease.end()
	w, err := p.take(ctx, &r)
	if err != nil {
		if ctx.Err() != nil {
			return Result{Err: cancelled(ctx)}
		}
		return refused(err)
	}
	w.mixed = w.mixed || w.runs > 0 && w.tenant != r.Tenant
	w.tenant = r.Tenant
	p.counters.runs.Add(1)
	result, reusable := w.serve(ctx, &r, p.options.Log, lease)
	if w.runs++; reusable && w.runs < maxRuns && w.alive() {
		p.put(w)
		return result
	}
	p.retire(w.child)
	if reusable {
		p.spare()
	} else {
		p.counters.breaches.Add(1)
		p.owe(r.Tenant)
	}
	return result
}

// owe notes that a tenant broke a worker: its next run starts a new one and takes none that others have warm,
// or each breach would cost somebody else the start.
func (p *Pool) owe(tenant string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.owing) >= maxOwing {
		clear(p.owing)
	}
	p.owing[tenant]++
}

// RunKernel runs r in the kernel host, beside any number of other kernels. It never waits for a slot.
func (p *Pool) RunKernel(ctx context.Context, r Run) Result {
	if e := r.prepare(); e != nil {
		return Result{Err: e}
	}
	if !p.enter() {
		return refused(errClosed)
	}
	defer p.running.Done()
	host, err := p.takeHost(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return Result{Err: cancelled(ctx)}
		}
		return refused(err)
	}
	result, _ := host.serve(ctx, &r, p.options.Log, nil)
	return result
}

func refused(err error) Result {
	return Result{Err: &Error{Code: CodeCrash, Message: cut(err.Error())}, Cause: err}
}

// enter counts a run in, unless the pool is closed.
func (p *Pool) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.running.Add(1)
	return true
}

// take returns an idle worker, the tenant's own if there is one, or starts one.
func (p *Pool) take(ctx context.Context, r *Run) (*worker, error) {
	p.mu.Lock()
	w := p.choose(r)
	if r.Alone {
		p.spares = freshSpares
	}
	p.mu.Unlock()
	if r.Alone && (w == nil || w.runs == 0) {
		p.spare() // for the tenant that comes next
	}
	if w != nil && w.alive() && w.awaitReady(ctx) == nil {
		return w, nil
	}
	if w != nil {
		p.retire(w.child)
	}
	c, err := p.startReady(ctx, false)
	if err != nil {
		return nil, err
	}
	return &worker{child: c}, nil
}

// choose takes the best worker for r out of the idle ones: the tenant's own, else one that nobody has used,
// else the one that was used last. The caller holds p.mu.
func (p *Pool) choose(r *Run) *worker {
	best, own := -1, false
	for i := len(p.idle) - 1; i >= 0 && !own; i-- {
		w := p.idle[i]
		if !w.fits(r) {
			continue
		}
		if own = w.runs > 0 && w.tenant == r.Tenant; own || best < 0 || w.runs == 0 && p.idle[best].runs > 0 {
			best = i
		}
	}
	if best < 0 || !own && p.owing[r.Tenant] > 0 {
		if p.owing[r.Tenant]--; p.owing[r.Tenant] <= 0 {
			delete(p.owing, r.Tenant)
		}
		return nil
	}
	w := p.idle[best]
	p.idle = slices.Delete(p.idle, best, best+1)
	return w
}

// put makes a worker idle. Beyond the number of workers, and of spares where they are wanted, the one that
// was used longest ago goes; fresh ones go last.
func (p *Pool) put(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, w)
	if len(p.idle) <= p.options.Workers+p.spares {
		return
	}
	// Spares that were slow to start may be more than are wanted: none takes the place of one that served.
	fresh := 0
	for _, idle := range p.idle {
		if idle.runs == 0 {
			fresh++
		}
	}
	isTooFresh := fresh > p.spares
	oldest := max(slices.IndexFunc(p.idle, func(w *worker) bool { return (w.runs == 0) == isTooFresh }), 0)
	gone := p.idle[oldest]
	p.idle = slices.Delete(p.idle, oldest, oldest+1)
	delete(p.children, gone.child)
	gone.kill()
}

// retire kills a child and forgets it.
func (p *Pool) retire(c *child) {
	c.kill()
	<-c.gone
	p.mu.Lock()
	delete(p.children, c)
	p.mu.Unlock()
}

// spare starts a worker ahead of the next run, in the place of one that was retired.
func (p *Pool) spare() {
	if !p.enter() {
		return
	}
	go func() {
		defer p.running.Done()
		c, err := p.startReady(p.closing, false)
		if err != nil {
			p.options.Log.Warn("no spare sandbox child", "error", err)
			return
		}
		p.put(&worker{child: c})
	}()
}

// takeHost returns the kernel host and starts it if it is not there. Callers that come during a start share
// it.
func (p *Pool) takeHost(ctx context.Context) (*child, error) {
	for {
		p.mu.Lock()
		switch {
		case p.host != nil && p.host.alive():
			host := p.host
			p.mu.Unlock()
			return host, nil
		case p.hosting != nil:
			wait := p.hosting
			p.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			continue
		}
		gone := p.host
		started := make(chan struct{})
		p.host, p.hosting = nil, started
		p.mu.Unlock()
		if gone != nil {
			p.retire(gone)
		}
		// Others wait for this start: it must not end with this caller's ctx.
		host, err := p.startReady(p.closing, true)
		p.mu.Lock()
		p.host, p.hosting = host, nil
		p.mu.Unlock()
		close(started)
		return host, err
	}
}

// startReady starts a child and waits for its hello. After failures it waits longer and longer, and
// gives up after startTries.
func (p *Pool) startReady(ctx context.Context, kernel bool) (*child, error) {
	for try := 1; ; try++ {
		if err := p.backoff(ctx); err != nil {
			return nil, err
		}
		c, err := p.startOnce(ctx, kernel)
		p.mu.Lock()
		if err == nil {
			p.failures = 0
			p.mu.Unlock()
			return c, nil
		}
		if ctx.Err() == nil {
			p.retryAt = time.Now().Add(min(backoffFirst<<min(p.failures, 16), backoffMost))
			p.failures++
		}
		p.mu.Unlock()
		p.options.Log.Warn("sandbox child did not start", "try", try, "error", err)
		if try == startTries || ctx.Err() != nil || errors.Is(err, errClosed) || errors.Is(err,
			exec.ErrNotFound) ||
			errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return nil, err
		}
	}
}

func (p *Pool) backoff(ctx context.Context) error {
	p.mu.Lock()
	wait := time.Until(p.retryAt)
	p.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing.Done():
		return errClosed
	}
}

func (p *Pool) startOnce(ctx context.Context, kernel bool) (*child, error) {
	c, err := startChild(p.starter, p.options, kernel)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.children[c] = struct{}{}
	closed := p.closed
	p.mu.Unlock()
	if closed {
		p.retire(c)
		return nil, errClosed
	}
	ready, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.awaitReady(ready); err != nil {
		p.retire(c)
		return nil, err
	}
	p.options.Log.Debug("sandbox child started", "pid", c.cmd.Process.Pid, "kernel", kernel)
	p.counters.starts.Add(1)
	p.mu.Lock()
	p.walls = c.walls
	p.mu.Unlock()
	return c, nil
}

// Warm starts the kernel host and a code worker, so that the first run does not wait for them. Its
// error says why no child can live here.
func (p *Pool) Warm(ctx context.Context) error {
	empty := Run{Program: Program{Name: "warm-up", Source: "return null"}}
	for _, run := range []func(context.Context, Run) Result{p.RunKernel, p.RunCode} {
		if result := run(ctx, empty); result.Err != nil {
			return fmt.Errorf("start a sandbox child: %w", result.Err)
		}
	}
	return nil
}
