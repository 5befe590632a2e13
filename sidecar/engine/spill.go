package engine

// hold keeps an open request of a tenant in memory.
func (e *Engine) hold(r *request, tenant string) {
	r.tenant = tenant
	e.open[r.id] = r
}

// forget lets go of it.
func (e *Engine) forget(r *request) {
	delete(e.open, r.id)
}
