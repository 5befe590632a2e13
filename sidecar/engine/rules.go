package engine

import (
	"slices"

	"github.com/loglineos/loglineos/sidecar/span"
)

// rules are the policies in force, found by what they ask for: a row that no policy asks for costs one look.
type rules struct {
	byID   map[span.ID]*policy
	byType map[string][]*policy // those that name entity types
	any    []*policy            // those that do not; they see no bookkeeping
	timed  map[span.ID]*policy
	timers map[timerKey]int // time-driven policies of each tenant, and of each owner in it
	counts map[string]int   // policies of each tenant
}

func newRules() *rules {
	return &rules{byID: map[span.ID]*policy{}, byType: map[string][]*policy{}, timed: map[span.ID]*policy{},
		timers: map[timerKey]int{}, counts: map[string]int{}}
}

// timerKey says whose time-driven policies are counted; of a whole tenant where it names no owner.
type timerKey struct{ tenant, owner string }

func (r *rules) count(p *policy, n int) {
	for _, key := range []timerKey{{tenant: p.tenant}, {p.tenant, p.owner}} {
		if r.timers[key] += n; r.timers[key] == 0 {
			delete(r.timers, key)
		}
	}
}

// set puts p in force, in place of its version before.
func (r *rules) set(p *policy) {
	r.drop(p.id)
	r.byID[p.id] = p
	r.counts[p.tenant]++
	types := p.when.Names("entity_type")
	switch {
	case p.timing != nil:
		r.timed[p.id] = p
		r.count(p, 1)
	case types == nil:
		r.any = append(r.any, p)
	default:
		for _, entityType := range types {
			r.byType[entityType] = append(r.byType[entityType], p)
		}
	}
}

// drop takes a policy out of force.
func (r *rules) drop(id span.ID) {
	p := r.byID[id]
	if p == nil {
		return
	}
	delete(r.byID, id)
	if r.counts[p.tenant]--; r.counts[p.tenant] == 0 {
		delete(r.counts, p.tenant)
	}
	isIt := func(other *policy) bool { return other == p }
	switch types := p.when.Names("entity_type"); {
	case p.timing != nil:
		delete(r.timed, id)
		r.count(p, -1)
	case types == nil:
		r.any = slices.DeleteFunc(r.any, isIt)
	default:
		for _, entityType := range types {
			if r.byType[entityType] = slices.DeleteFunc(r.byType[entityType], isIt); len(r.byType[entityType]) == 0 {
				delete(r.byType, entityType)
			}
		}
	}
}

// match returns the policies that must judge row, in any order. A policy of the system acts in each tenant; a
// tenant's one on what its owner may read in that tenant. Bookkeeping is for those that name its type.
func (r *rules) match(row *span.Published) []*policy {
	matches := matching(nil, r.byType[row.EntityType], row)
	if !span.IsEngineType(row.EntityType) {
		matches = matching(matches, r.any, row)
	}
	return matches
}

func matching(matches, candidates []*policy, row *span.Published) []*policy {
	for _, p := range candidates {
		if p.id == row.ID || !p.when.Matches(row) {
			continue
		}
		shared := row.Visibility != "private" || row.OwnerID == p.owner
		if p.isOfSystem() || (p.tenant == row.TenantID && shared) {
			matches = append(matches, p)
		}
	}
	return matches
}
