package engine

import (
	"runtime"
	"slices"
	"sort"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// fair is the queue of requests that may run: tenants take turns by what their runs cost, in each tenant its
// functions take turns, and the requests of a function come in the order in which they were queued. Who has
// been served pays for it: his next turn is as much later as his runs last. So each gets the same share of
// the time, not of the starts.
type fair struct {
	first    []*request // whose turn has come already
	tenants  map[string]*queuedOf
	turn     []*queuedOf        // those with something queued, by what they have paid
	paid     float64            // of the one that was served last: whoever comes anew begins there
	owing    map[string]float64 // of those that have nothing queued, and have paid more than that
	bytes    int                // of the bodies that are queued
	paces    *paces
	quickMax int // places of one tenant whose runs are short, while others come
}

// queuedOf is what one tenant has in the queue.
type queuedOf struct {
	tenant    string
	functions []*queuedFunction // in the order of their turns; none is empty
	paid      float64
}

// queuedFunction is what one tenant has of one function in the queue.
type queuedFunction struct {
	id       span.ID
	requests []*request
}

// functionOf is the function of a request, in its tenant.
type functionOf struct {
	tenant string
	id     span.ID
}

func functionOfRequest(r *request) functionOf {
	of := functionOf{tenant: r.span.TenantID}
	if r.span.ParentID != nil {
		of.id = *r.span.ParentID
	}
	return of
}

// taken is how many places of a queue tenants have, and their functions.
type taken struct {
	tenants   map[string]int
	functions map[functionOf]int
}

func newTaken() taken { return taken{map[string]int{}, map[functionOf]int{}} }

func (h taken) add(r *request) {
	h.tenants[r.span.TenantID]++
	h.functions[functionOfRequest(r)]++
}

const (
	owingMax   = 1000 // tenants whose payments are remembered
	costMost   = 100  // times the cheapest run, that one counts at most
	quickRun   = 50 * time.Millisecond
	placesKept = 8 // one place in so many is for those that have none
	leavesFree = 3 // places for each that a tenant has while others come
	quickFree  = 7 // those, where its runs are short
	quickLeast = 2 // and it may have so many, or as many as there are processors

	functionLeast = 3 // places that one function may have, be they all that its tenant may
)

func newFair(p *paces) *fair {
	return &fair{tenants: map[string]*queuedOf{}, owing: map[string]float64{}, paces: p,
		quickMax: max(runtime.GOMAXPROCS(0), quickLeast)}
}

func (f *fair) push(r *request) {
	f.hold(r)
	name := r.span.TenantID
	t := f.tenants[name]
	if t == nil {
		t = &queuedOf{tenant: name, paid: max(f.paid, f.owing[name])}
		delete(f.owing, name)
		f.tenants[name] = t
		f.lineUp(t)
	}
	t.push(r)
}

func (t *queuedOf) push(r *request) {
	id := functionOfRequest(r).id
	for _, q := range t.functions {
		if q.id == id {
			q.requests = append(q.requests, r)
			return
		}
	}
	t.functions = append(t.functions, &queuedFunction{id, []*request{r}})
}

// take takes the next request of a function. The function's next turn is behind the others.
func (t *queuedOf) take(q *queuedFunction) *request {
	r := q.requests[0]
	q.requests[0] = nil
	q.requests = q.requests[1:]
	t.functions = slices.DeleteFunc(t.functions, func(other *queuedFunction) bool { return other == q })
	if len(q.requests) > 0 {
		t.functions = append(t.functions, q)
	}
	return r
}

// lineUp gives t its turn, behind those that have paid as much.
func (f *fair) lineUp(t *queuedOf) {
	at := sort.Search(len(f.turn), func(i int) bool { return f.turn[i].paid > t.paid })
	f.turn = slices.Insert(f.turn, at, t)
}

// leave forgets a tenant that has nothing queued, but for what it has paid ahead.
func (f *fair) leave(t *queuedOf) {
	delete(f.tenants, t.tenant)
	if t.paid <= f.paid {
		return
	}
	if len(f.owing) >= owingMax {
		for name, paid := range f.owing {
			if paid <= f.paid {
				delete(f.owing, name)
			}
		}
		if len(f.owing) >= owingMax {
			clear(f.owing)
		}
	}
	f.owing[t.tenant] = t.paid
}

// pushFirst queues a request whose turn has come before.
func (f *fair) pushFirst(r *request) {
	f.hold(r)
	f.first = append(f.first, r)
}

func (f *fair) hold(r *request) {
	r.bytes = bodyBytes(r.span)
	f.bytes += r.bytes
}

func (f *fair) letGo(r *request) {
	f.bytes -= r.bytes
	r.bytes = 0
}

func (f *fair) empty() bool { return len(f.first) == 0 && len(f.turn) == 0 }

// each calls see with every queued request.
func (f *fair) each(see func(*request)) {
	for _, r := range f.first {
		see(r)
	}
	for _, t := range f.tenants {
		for _, q := range t.functions {
			for _, r := range q.requests {
				see(r)
			}
		}
	}
}

// pop takes up to n requests that have the same kernel, one a tenant and turn, and adds them to what is held.
// A tenant without room keeps its turn.
func (f *fair) pop(n, free int, h taken) []*request {
	var batch []*request
	places := free
	for _, n := range h.tenants {
		places += n
	}
	n = min(n, free)
	now := time.Now()
	take := func(r *request) {
		f.letGo(r)
		h.add(r)
		batch = append(batch, r)
	}
	for len(batch) < n && len(f.first) > 0 && (len(batch) == 0 || f.first[0].kernel == batch[0].kernel) {
		take(f.first[0])
		f.first = f.first[1:]
	}
	for next := 0; len(batch) < n && next < len(f.turn); {
		t := f.turn[next]
		q := f.next(t, h, free-len(batch), places, now)
		if q == nil {
			next++
			continue
		}
		if len(batch) > 0 && q.requests[0].kernel != batch[0].kernel {
			break
		}
		take(t.take(q))
		f.turn = slices.Delete(f.turn, next, next+1)
		f.paid = max(f.paid, t.paid)
		if t.paid += f.paces.cost(t.tenant); len(t.functions) == 0 {
			f.leave(t)
			continue
		}
		f.lineUp(t)
	}
	return batch
}

// next returns the function of a tenant whose turn it is, nil where the tenant may have no place. The last
// one of a tenant whose runs are long is for a function of his that has few: another's may last for hours.
func (f *fair) next(t *queuedOf, h taken, free, places int, now time.Time) *queuedFunction {
	isAlone, isQuick := f.paces.isAlone(t.tenant, now), f.paces.isQuick(t.tenant)
	mine := h.tenants[t.tenant]
	switch {
	case !hasPlace(mine, free, places, isAlone, isQuick),
		isQuick && !isAlone && mine >= f.quickMax:
		return nil
	}
	isLast := !isQuick && !hasPlace(mine+1, free-1, places, isAlone, isQuick)
	for _, q := range t.functions {
		if !isLast || h.functions[functionOf{t.tenant, q.id}] < functionLeast {
			return q
		}
	}
	return nil
}

// hasPlace reports whether a tenant that has mine places may take one of those that are free. It leaves
// three free for each: so one that comes finds a place, however long the runs of others last, and runs beside
// few, since all share the processors. Short runs wait for those and for nothing else: they leave more, and
// next gives them no more than there are processors. While nobody else comes it leaves one for each; where
// its runs are short then, so that places soon come free, it may have all but a few. Of one place only, the
// first that comes has it.
func hasPlace(mine, free, places int, isAlone, isQuick bool) bool {
	switch {
	case mine == 0:
		return true
	case isAlone && isQuick:
		return free > max(places/placesKept, 1)
	case isAlone:
		return mine < free
	case isQuick:
		return mine < (free+quickFree-1)/quickFree
	}
	return mine < (free+leavesFree-1)/leavesFree
}

// pushBack takes back what pop gave: its turn has come, and stays.
func (f *fair) pushBack(batch []*request) {
	for _, r := range batch {
		f.hold(r)
	}
	f.first = append(slices.Clone(batch), f.first...)
}

// keepRare takes back what pop gave but for the requests of tenants that had no run of late.
func (f *fair) keepRare(batch []*request) (rare []*request) {
	now := time.Now()
	var others []*request
	for _, r := range batch {
		if f.paces.isRare(r.span.TenantID, now) {
			rare = append(rare, r)
		} else {
			others = append(others, r)
		}
	}
	f.pushBack(others)
	return rare
}

func (f *fair) remove(r *request) {
	if r.phase != queued {
		return
	}
	f.letGo(r)
	isIt := func(other *request) bool { return other == r }
	f.first = slices.DeleteFunc(f.first, isIt)
	t := f.tenants[r.span.TenantID]
	if t == nil {
		return
	}
	for _, q := range t.functions {
		q.requests = slices.DeleteFunc(q.requests, isIt)
	}
	isEmpty := func(q *queuedFunction) bool { return len(q.requests) == 0 }
	if t.functions = slices.DeleteFunc(t.functions, isEmpty); len(t.functions) == 0 {
		f.turn = slices.DeleteFunc(f.turn, func(other *queuedOf) bool { return other == t })
		f.leave(t)
	}
}

// loads is the queue of requests whose bodies are to be read: tenants take turns here, too.
type loads struct {
	tenants map[string][]*request
	turn    []string
	n       int
}

func (l *loads) push(requests ...*request) {
	if l.tenants == nil {
		l.tenants = map[string][]*request{}
	}
	for _, r := range requests {
		if len(l.tenants[r.tenant]) == 0 {
			l.turn = append(l.turn, r.tenant)
		}
		l.tenants[r.tenant] = append(l.tenants[r.tenant], r)
		l.n++
	}
}

// take takes up to n, one a tenant and turn.
func (l *loads) take(n int) []*request {
	var batch []*request
	for len(batch) < n && len(l.turn) > 0 {
		tenant := l.turn[0]
		l.turn = l.turn[1:]
		queue := l.tenants[tenant]
		batch = append(batch, queue[0])
		queue[0] = nil
		l.n--
		if queue = queue[1:]; len(queue) == 0 {
			delete(l.tenants, tenant)
			continue
		}
		l.tenants[tenant] = queue
		l.turn = append(l.turn, tenant)
	}
	return batch
}

// paces are how long the runs of each tenant's requests have lasted of late, in milliseconds.
type paces struct {
	of   map[string]float64
	last map[string]time.Time // when a run of theirs began

	newest   string    // whose run began last
	newestAt time.Time // when
	othersAt time.Time // when the last one of anybody else began
}

const (
	pacesMax   = 10_000
	paceWeight = 0.2 // of the last run
	rareAfter  = 100 * time.Millisecond
	aloneAfter = time.Second
)

func newPaces() *paces { return &paces{of: map[string]float64{}, last: map[string]time.Time{}} }

// started notes that a run of a tenant begins.
func (p *paces) started(tenant string, now time.Time) {
	if len(p.last) >= pacesMax {
		clear(p.last)
	}
	p.last[tenant] = now
	if tenant != p.newest {
		p.othersAt, p.newest = p.newestAt, tenant
	}
	p.newestAt = now
}

// isAlone reports whether a tenant is the only one that had runs of late.
func (p *paces) isAlone(tenant string, now time.Time) bool {
	return (p.newest == tenant || p.newest == "") && now.Sub(p.othersAt) > aloneAfter
}

// isRare reports whether a tenant had no run of late: its next one waits for no company.
func (p *paces) isRare(tenant string, now time.Time) bool {
	return now.Sub(p.last[tenant]) > rareAfter
}

// note takes the length of a run.
func (p *paces) note(tenant string, took time.Duration) {
	ms := float64(took) / float64(time.Millisecond)
	before, isKnown := p.of[tenant]
	if !isKnown {
		if len(p.of) >= pacesMax {
			clear(p.of)
		}
		before = ms
	}
	p.of[tenant] = before + paceWeight*(ms-before)
}

// cost is what a run of a tenant counts: 1 for a millisecond, which is also the least.
func (p *paces) cost(tenant string) float64 { return min(max(p.of[tenant], 1), costMost) }

// isQuick reports whether runs of a tenant are known to be short.
func (p *paces) isQuick(tenant string) bool {
	ms, isKnown := p.of[tenant]
	return isKnown && ms < float64(quickRun/time.Millisecond)
}
