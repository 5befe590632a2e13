package engine

import (
	"slices"

	"github.com/loglineos/loglineos/sidecar/span"
)

// versionsMax is how many versions of one policy are kept at most; of more, the oldest are forgotten, and
// the one after them judges in their place.
const versionsMax = 100

// rules are the policies in force, found by what they ask for: a row that no policy asks for costs one look.
// Of each policy they keep the versions that may still judge a row, because a row is judged by the version
// that is in force at its own place: of another transaction's rows that is the newest version whose
// transaction began before theirs. So the place of a row decides, not when it is read.
type rules struct {
	byID   map[span.ID]*policy // the newest version of each
	byType map[string]*ruleSet // those that name entity types
	any    *ruleSet            // those that do not; they see no bookkeeping
	before []*policy           // versions with one after them
	out    []*policy           // newest versions that end their policy
	timed  map[span.ID]*policy
	timers map[timerKey]int // time-driven policies of each tenant, and of each owner in it
	counts map[string]int   // policies of each tenant
}

// ruleSet is policies by whom they may concern: the tenant, or with the tenant "" all, and the status that a
// row must have, where they name it.
type ruleSet struct{ byPlace map[rulePlace][]*policy }

type rulePlace struct {
	tenant, status string
	isNamed        bool // status is
}

func newRuleSet() *ruleSet { return &ruleSet{map[rulePlace][]*policy{}} }

func newRules() *rules {
	return &rules{byID: map[span.ID]*policy{}, byType: map[string]*ruleSet{}, any: newRuleSet(),
		timed: map[span.ID]*policy{}, timers: map[timerKey]int{}, counts: map[string]int{}}
}

// timerKey says whose time-driven policies are counted; of a whole tenant where it names no owner.
type timerKey struct{ tenant, owner string }

func (r *rules) count(p *policy, n int) {
	if p.isOut {
		return
	}
	if r.counts[p.tenant] += n; r.counts[p.tenant] == 0 {
		delete(r.counts, p.tenant)
	}
	if p.timing == nil {
		return
	}
	for _, key := range []timerKey{{tenant: p.tenant}, {p.tenant, p.owner}} {
		if r.timers[key] += n; r.timers[key] == 0 {
			delete(r.timers, key)
		}
	}
}

// inForce is the newest version of a policy, where it is in force; else nil.
func (r *rules) inForce(id span.ID) *policy {
	if p := r.byID[id]; p != nil && !p.isOut {
		return p
	}
	return nil
}

// set puts p in force, or out of it where p.isOut, after the version that is there.
func (r *rules) set(p *policy) {
	if known := r.byID[p.id]; known != nil {
		known.next, p.previous = p, known
		p.versions = known.versions + 1
		r.count(known, -1)
		delete(r.timed, p.id)
		r.before = append(r.before, known)
		if p.versions >= versionsMax {
			r.forgetOldest(p)
		}
	}
	r.byID[p.id] = p
	r.count(p, 1)
	switch {
	case p.isOut:
		r.out = append(r.out, p)
	case p.timing != nil:
		r.timed[p.id] = p
	default:
		for _, set := range r.setsOf(p) {
			set.add(p)
		}
	}
}

// setsOf are the sets in which p stands, or is to.
func (r *rules) setsOf(p *policy) []*ruleSet {
	types := p.when.Names("entity_type")
	if types == nil {
		return []*ruleSet{r.any}
	}
	var sets []*ruleSet
	for _, entityType := range types {
		if r.byType[entityType] == nil {
			r.byType[entityType] = newRuleSet()
		}
		sets = append(sets, r.byType[entityType])
	}
	return sets
}

// forgetOldest lets the version go that is furthest before p.
func (r *rules) forgetOldest(p *policy) {
	oldest := p
	for oldest.previous != nil {
		oldest = oldest.previous
	}
	oldest.next.xact, oldest.next.acceptedAt = oldest.xact, oldest.acceptedAt
	r.forget(oldest)
	r.before = slices.DeleteFunc(r.before, func(known *policy) bool { return known == oldest })
}

// prune forgets the versions that no row from the transaction horizon on is judged by.
func (r *rules) prune(horizon uint64) {
	r.before = slices.DeleteFunc(r.before, func(p *policy) bool {
		isOver := p.next.xact < horizon
		if isOver {
			r.forget(p)
		}
		return isOver
	})
	// A policy that has ended is forgotten whole: an older version of it can come no more.
	r.out = slices.DeleteFunc(r.out, func(p *policy) bool {
		isOver := p.previous == nil && p.xact < horizon
		if isOver && r.byID[p.id] == p {
			delete(r.byID, p.id)
		}
		return isOver || p.next != nil
	})
}

// forget takes a version out that has one after it.
func (r *rules) forget(p *policy) {
	if p.next.previous = p.previous; p.previous != nil {
		p.previous.next = p.next
	}
	for later := p.next; later != nil; later = later.next {
		later.versions--
	}
	if p.isOut || p.timing != nil {
		return
	}
	for _, set := range r.setsOf(p) {
		set.remove(p)
	}
	for _, entityType := range p.when.Names("entity_type") {
		if set := r.byType[entityType]; set != nil && len(set.byPlace) == 0 {
			delete(r.byType, entityType)
		}
	}
}

// places are those of p in a set.
func (p *policy) places() []rulePlace {
	tenant := p.tenant
	if p.isOfSystem() {
		tenant = ""
	}
	statuses, types := p.when.Names("status"), p.when.Names("entity_type")
	// Types times statuses may be many: then the type alone finds it.
	isMany := len(statuses)*max(len(types), 1) > whenValuesMax
	if statuses == nil || isMany || p.when.TakesNull("status") {
		return []rulePlace{{tenant: tenant}}
	}
	var places []rulePlace
	for _, status := range statuses {
		places = append(places, rulePlace{tenant, status, true})
	}
	return places
}

func (s *ruleSet) add(p *policy) {
	for _, place := range p.places() {
		if !slices.Contains(s.byPlace[place], p) { // a type or status may be named twice
			s.byPlace[place] = append(s.byPlace[place], p)
		}
	}
}

func (s *ruleSet) remove(p *policy) {
	for _, place := range p.places() {
		s.byPlace[place] = slices.DeleteFunc(s.byPlace[place], func(other *policy) bool { return other == p })
		if len(s.byPlace[place]) == 0 {
			delete(s.byPlace, place)
		}
	}
}

// match returns the policies that must judge row, in any order. A policy of the system acts in each tenant; a
// tenant's one on what its owner may read in that tenant. Bookkeeping is for those that name its type.
func (r *rules) match(row *span.Published) []*policy {
	var matches []*policy
	if set := r.byType[row.EntityType]; set != nil {
		matches = set.match(matches, row)
	}
	if !span.IsEngineType(row.EntityType) {
		matches = r.any.match(matches, row)
	}
	return matches
}

func (s *ruleSet) match(matches []*policy, row *span.Published) []*policy {
	for _, tenant := range [2]string{row.TenantID, ""} {
		matches = matching(matches, s.byPlace[rulePlace{tenant: tenant}], row)
		if row.Status != nil {
			matches = matching(matches, s.byPlace[rulePlace{tenant, *row.Status, true}], row)
		}
	}
	return matches
}

func matching(matches, candidates []*policy, row *span.Published) []*policy {
	for _, p := range candidates {
		if p.isInForceAt(row) && p.concerns(row) {
			matches = append(matches, p)
		}
	}
	return matches
}

// concerns reports whether p asks for row, of its tenant, and may read it.
func (p *policy) concerns(row *span.Published) bool {
	return p.id != row.ID && p.when.Matches(row) &&
		(p.isOfSystem() || row.Visibility != "private" || row.OwnerID == p.owner)
}

// isInForceAt reports whether p is the version that judges row.
func (p *policy) isInForceAt(row *span.Published) bool {
	return p.isBefore(row) && (p.next == nil || !p.next.isBefore(row))
}

// isBefore reports whether p was appended before row: by an earlier transaction, or by an earlier statement
// of the same.
func (p *policy) isBefore(row *span.Published) bool {
	return p.xact < row.Xact || p.xact == row.Xact && p.acceptedAt.Before(row.AcceptedAt.Time)
}
