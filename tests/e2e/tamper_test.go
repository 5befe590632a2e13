package e2e_test

import (
	"crypto/rand"
	"encoding/json"
	"syscall"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// rewrite changes a stored row as the owner, with the triggers off for that one transaction.
func (s *system) rewrite(id span.ID, set string) {
	s.t.Helper()
	s.exec(`do $$ declare v_name text; begin
		alter table ledger.universal_registry disable trigger all;
		update ledger.universal_registry set ` + set + ` where id = '` + id.String() + `';
		for v_name in select tgname from pg_trigger
			where tgrelid = 'ledger.universal_registry'::regclass and not tgisinternal
		loop
			execute format('alter table ledger.universal_registry enable always trigger %I', v_name);
		end loop;
	end $$`)
}

// hashed appends a function of alice's, as one who hashes what he appends: with every hashed column stated.
func (s *system) hashed(code string) span.ID {
	s.t.Helper()
	f := &span.Span{ID: span.MustID(one[string](s, "select ledger.uuid7()::text")), EntityType: "function",
		Who: "user:alice", At: span.NewTime(time.Now()), OwnerID: alice.sub, TenantID: alice.tenant,
		Visibility: "private", Status: new("active"), Language: new("javascript"), Code: &code,
		Input:    json.RawMessage(`{"to":[{"account":"alice"}]}`),
		Metadata: json.RawMessage(`{"limits":{"eur":10}}`)}
	if err := f.Seal(nil); err != nil {
		s.t.Fatal(err)
	}
	raw, err := json.Marshal(f)
	if err != nil {
		s.t.Fatal(err)
	}
	c := columns{}
	if err := json.Unmarshal(raw, &c); err != nil {
		s.t.Fatal(err)
	}
	return s.insert(alice, c).ID
}

// call requests a function once, and returns its execution.
func (s *system) call(function span.ID) *span.Span {
	s.t.Helper()
	trace := rand.Text()
	s.insert(alice, columns{"entity_type": "request", "status": "scheduled", "parent_id": function,
		"trace_id": trace})
	return s.settled(trace, 1)[0].execution(s.t)
}

// Whoever owns the database may rewrite a function that states its hash; it does not run then.
func TestARewrittenFunctionDoesNotRun(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const code = "return input.to[0].account"
	rewritten := map[string]span.ID{} // before a sidecar reads them: what it has verified, it runs
	for name, set := range map[string]string{
		"the code":           "code = 'return ''bob'''",
		"an input's leaf":    `input = jsonb_set(input, '{to,0,account}', '"bob"')`,
		"metadata's leaf":    "metadata = jsonb_set(metadata, '{limits,eur}', '1000')",
		"a name":             "name = 'pay'",
		"an empty list more": "tags = '{}'",
		"a key added":        `input = input || '{"as":null}'`,
	} {
		rewritten[name] = s.hashed(code)
		s.rewrite(rewritten[name], set)
	}
	first := s.serve()
	honest := s.hashed(code)
	sameJSON(t, s.call(honest).Output, `"alice"`)
	for name, id := range rewritten {
		if execution := s.call(id); codeOf(execution) != "hash_mismatch" {
			t.Errorf("%s: output %s, error %s, want hash_mismatch", name, execution.Output, execution.Error)
		}
	}
	s.rewrite(honest, "code = 'return ''bob'''")
	if execution := s.call(honest); execution.StatusText() == "complete" {
		sameJSON(t, execution.Output, `"alice"`) // what was verified is kept; what was put in its place is not run
	}
	first.Stop(syscall.SIGTERM)
	s.serve()
	if execution := s.call(honest); codeOf(execution) != "hash_mismatch" {
		t.Errorf("after a restart: output %s, error %s", execution.Output, execution.Error)
	}
}
