package sqlrules

import "testing"

// may_call answers its asker alone: of others, and of what is not there, it says no.
func TestMayCallAnswersTheAskerAlone(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.given(alice, "id", id(1), "entity_type", "function", "status", "active")
	l.given(alice, "id", id(2), "entity_type", "function", "status", "active", "visibility", "tenant")
	for _, c := range []struct {
		who          actor
		function     int
		user, tenant any
		want         bool
	}{
		{alice, 1, "alice", "t1", true},
		{ann, 2, "ann", "t1", true},
		{service, 1, "alice", "t1", true},
		{ann, 1, "ann", "t1", false},
		{ann, 1, "alice", "t1", false},
		{bob, 2, "ann", "t1", false},
		{bob, 1, nil, nil, false},
		{nobody, 1, nil, nil, false},
		{nobody, 1, "alice", "t1", false},
		{service, 1, "bob", "t2", false},
		{alice, 9, "alice", "t1", false},
	} {
		if got := ask[bool](l, c.who, "select ledger_private.may_call($1, $2, $3)", id(c.function), c.user,
			c.tenant); got != c.want {
			t.Errorf("%s %s: may %v of %v call %d: %t", c.who.role, c.who.claims, c.user, c.tenant, c.function, got)
		}
	}
}
