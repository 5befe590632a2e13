package examples_test

import (
	"testing"

	"github.com/loglineos/loglineos/tests/pages"
)

// The page of the order pipeline does what it shows, and nobody moves an order on but its pipeline.
func TestOrders(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.read(pages.Marked(t, "docs/examples/orders/README.md"), nil)

	const late = `select f.id from ledger.visible_timeline as f join ledger.visible_timeline as o on o.id = f.parent_id
		where f.entity_type = 'fulfilment' and o.name like '% late'`
	s.becomes("closed", ops, `select status from ledger.visible_timeline
		where entity_type = 'escalation' and name like '% late'`)

	// A customer sees his fulfilment and cannot move it on; nobody else's tenant sees anything.
	id := s.text(alice, late)
	if code := s.write(alice, `insert into ledger.universal_registry (id, seq, entity_type, status)
		select id, seq + 1, 'fulfilment', 'shipped' from ledger.visible_timeline where id = $1`,
		id); code != "LL002" {
		t.Errorf("a customer ships by himself: %q, want LL002", code)
	}
	for _, kind := range []string{"escalation", "function", "policy", "execution"} {
		const question = "select count(*) from ledger.visible_timeline where entity_type = $1 and tenant_id = 'acme'"
		if got := s.text(alice, question, kind); got != "0" {
			t.Errorf("alice sees %s of type %s", got, kind)
		}
	}
	if seen := s.text(bob, `select count(*) from ledger.visible_timeline
		where entity_type in ('order', 'fulfilment', 'product')`); seen != "0" {
		t.Errorf("bob of another tenant sees %s spans", seen)
	}
	if errors := s.text(ops, `select string_agg(error ->> 'message', '; ') from ledger.visible_timeline
		where entity_type = 'policy_error'`); errors != "" {
		t.Errorf("policies fail: %s", errors)
	}

	// An order that is changed later is not charged again.
	if code := s.write(alice, `insert into ledger.universal_registry
			(id, seq, entity_type, status, visibility, name, content)
		select id, seq + 1, entity_type, status, visibility, name,
			'{"item": "lamp", "quantity": 9, "card": "tok_ok"}'
		from ledger.visible_timeline where entity_type = 'order' and name like '% good'`); code != "" {
		t.Fatalf("alice changes her order: %s", code)
	}
	if code := s.write(alice, `insert into ledger.universal_registry
			(entity_type, status, visibility, name, content)
		values ('order', 'placed', 'tenant', 'behind it',
			'{"item": "rug", "quantity": 1, "card": "tok_ok"}')`); code != "" {
		t.Fatalf("alice orders: %s", code)
	}
	s.becomes("there is no product rug", ops,
		"select reason from ledger.visible_timeline where entity_type = 'fulfilment' and name = 'behind it'")
	// Three of the page's four cards, and the one behind it: the fourth never answered.
	if got := s.text(ops, `select count(*) from ledger.visible_timeline as x
		join ledger.visible_timeline as f on f.id = x.parent_id
		where x.entity_type = 'execution' and x.status = 'complete' and f.name = 'orders.charge'`); got != "4" {
		t.Errorf("%s charges, want 4: a change of an order is charged", got)
	}
}
