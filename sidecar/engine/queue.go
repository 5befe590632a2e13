package engine

import (
	"slices"
)

// fair is the queue of requests that may run: tenants take turns, and each tenant's requests come in
// the order in which they were queued.
type fair struct {
	first   []*request // whose turn has come already
	tenants map[string][]*request
	turn    []string // tenants with something queued
	bytes   int      // of the bodies that are queued
}

func newFair() *fair { return &fair{tenants: map[string][]*request{}} }

func (f *fair) push(r *request) {
	f.hold(r)
	tenant := r.span.TenantID
	if len(f.tenants[tenant]) == 0 {
		f.turn = append(f.turn, tenant)
	}
	f.tenants[tenant] = append(f.tenants[tenant], r)
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
	for _, queue := range f.tenants {
		for _, r := range queue {
			see(r)
		}
	}
}

// pop takes up to n requests that have the same kernel, one a tenant and turn. A tenant may hold no more
// places than it leaves free; held says how many each has now. One without room keeps its turn.
func (f *fair) pop(n, free int, held map[string]int) []*request {
	var batch []*request
	taken := map[string]int{}
	n = min(n, free)
	for len(batch) < n && len(f.first) > 0 && (len(batch) == 0 || f.first[0].kernel == batch[0].kernel) {
		f.letGo(f.first[0])
		taken[f.first[0].span.TenantID]++
		batch, f.first = append(batch, f.first[0]), f.first[1:]
	}
	for next := 0; len(batch) < n && next < len(f.turn); {
		tenant := f.turn[next]
		queue := f.tenants[tenant]
		// Of one place only, the first that comes has it.
		if mine := held[tenant] + taken[tenant]; mine > 0 && mine >= free-len(batch) {
			next++
			continue
		}
		if len(batch) > 0 && queue[0].kernel != batch[0].kernel {
			break
		}
		f.letGo(queue[0])
		batch = append(batch, queue[0])
		taken[tenant]++
		queue[0] = nil
		f.turn = slices.Delete(f.turn, next, next+1)
		if queue = queue[1:]; len(queue) == 0 {
			delete(f.tenants, tenant)
			continue
		}
		f.tenants[tenant] = queue
		f.turn = append(f.turn, tenant)
	}
	return batch
}

// pushBack takes back what pop gave: its turn has come, and stays.
func (f *fair) pushBack(batch []*request) {
	for _, r := range batch {
		f.hold(r)
	}
	f.first = append(slices.Clone(batch), f.first...)
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

func (f *fair) remove(r *request) {
	if r.phase != queued {
		return
	}
	f.letGo(r)
	f.first = slices.DeleteFunc(f.first, func(other *request) bool { return other == r })
	tenant := r.span.TenantID
	queue := slices.DeleteFunc(f.tenants[tenant], func(other *request) bool { return other == r })
	if len(queue) > 0 {
		f.tenants[tenant] = queue
		return
	}
	delete(f.tenants, tenant)
	f.turn = slices.DeleteFunc(f.turn, func(other string) bool { return other == tenant })
}
