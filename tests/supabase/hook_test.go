package supabase_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/tests/platform"
)

// event is what Supabase Auth hands to a custom access token hook, in the form of its documents.
const event = `{
	"user_id": "a11ce000-0000-4000-8000-000000000001",
	"claims": {
		"iss": "https://project.supabase.co/auth/v1", "aud": "authenticated", "exp": 1800003600, "iat": 1800000000,
		"sub": "a11ce000-0000-4000-8000-000000000001", "email": "alice@example.com", "phone": "",
		"app_metadata": {"provider": "email", "providers": ["email"]}, "user_metadata": {"tenant_id": "globex"},
		"role": "authenticated", "aal": "aal1", "amr": [{"method": "password", "timestamp": 1800000000}],
		"session_id": "4b938a09-5372-4177-a314-cfa292099ea2", "is_anonymous": false
	},
	"authentication_method": "password"
}`

// hooked is a project with the ledger and the optional hook, and alice in auth.users.
func hooked(t *testing.T) *project {
	t.Helper()
	p := pushed(t)
	platform.Run(t, p.conn, read(t, filepath.Join(root, "supabase", "optional", "tenant_claim.sql")))
	platform.Run(t, platform.Connect(t, p.AdminURL),
		"insert into auth.users (id, email) values ('"+aliceID+"', 'alice@example.com')")
	return p
}

// calls asks the hook as Supabase Auth does: as supabase_auth_admin, in a transaction with a time limit.
func (p *project) calls() (answer map[string]any) {
	p.t.Helper()
	auth := platform.Connect(p.t, platform.As(p.t, p.URL, "supabase_auth_admin", "auth"))
	err := pgx.BeginFunc(p.t.Context(), auth, func(tx pgx.Tx) error {
		if _, err := tx.Exec(p.t.Context(), "set local statement_timeout = 2000"); err != nil {
			return err
		}
		return tx.QueryRow(p.t.Context(), "select public.tenant_claim($1::jsonb)", event).Scan(&answer)
	})
	if err != nil {
		p.t.Fatalf("the hook: %v", err)
	}
	return answer
}

// The hook adds one claim and leaves the rest, leaves the token of others alone, and refuses who is blocked.
// The ledger takes the tenant of the token.
func TestTheTokenHookGivesATenantOrRefuses(t *testing.T) {
	t.Parallel()
	p := hooked(t)
	var want map[string]any
	if err := json.Unmarshal([]byte(event), &want); err != nil {
		t.Fatal(err)
	}
	if got := p.calls(); !reflect.DeepEqual(got, want) {
		t.Errorf("of who is in no tenant it makes %v", got)
	}
	platform.Run(t, p.conn, "insert into public.tenant_member values ('"+aliceID+"', 'acme')")
	want["claims"].(map[string]any)["tenant_id"] = "acme"
	got := p.calls()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("of a member it makes\n%v\nwant\n%v", got, want)
	}
	claims, err := json.Marshal(got["claims"])
	if err != nil {
		t.Fatal(err)
	}
	var tenant string
	err = pgx.BeginFunc(t.Context(), p.conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select set_config('role', 'authenticated', true), "+
			"set_config('request.jwt.claims', $1, true)", string(claims))
		if err != nil {
			return err
		}
		return tx.QueryRow(t.Context(), "insert into ledger.universal_registry (entity_type) values ('note') "+
			"returning tenant_id").Scan(&tenant)
	})
	if err != nil || tenant != "acme" {
		t.Errorf("with that token a span is of tenant %q, %v", tenant, err)
	}
	platform.Run(t, p.conn, "update public.tenant_member set is_blocked = true")
	refusal := p.calls()
	body, isRefused := refusal["error"].(map[string]any)
	if !isRefused || len(refusal) != 1 || body["http_code"] != float64(403) || body["message"] == "" {
		t.Errorf("of who is blocked it makes %v", refusal)
	}
}

// Nobody but Supabase Auth calls the hook, no client reads or writes its table, nobody becomes the system,
// and the linters find nothing.
func TestTheTokenHookIsClosedToClients(t *testing.T) {
	t.Parallel()
	p := hooked(t)
	refused := func(role, statement, code string) {
		t.Helper()
		err := pgx.BeginFunc(t.Context(), p.conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "select set_config('role', $1, true)", role); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), statement)
			return err
		})
		var refusal *pgconn.PgError
		if !errors.As(err, &refusal) || refusal.Code != code {
			t.Errorf("%s: %s: got %v, want %s", role, statement, err, code)
		}
	}
	for _, role := range []string{"anon", "authenticated", "service_role"} {
		refused(role, "select public.tenant_claim('{}')", "42501")
	}
	for _, role := range []string{"anon", "authenticated"} {
		for _, statement := range []string{"select * from public.tenant_member", "truncate public.tenant_member",
			"insert into public.tenant_member values ('" + aliceID + "', 'acme')"} {
			refused(role, statement, "42501")
		}
	}
	refused("service_role", "insert into public.tenant_member values ('"+aliceID+"', 'system')", "23514")
	if r := p.advise(); r.code != 0 {
		t.Errorf("supabase db advisors: %s", r)
	}
}

// The hook finds a member by the index, and asks nothing of the table for an id that is none. In a table as
// small as this one the planner must be told that reading all of it is dear: it does so still where it must.
func TestTheTokenHookFindsAMemberByTheIndex(t *testing.T) {
	t.Parallel()
	p := hooked(t)
	platform.Run(t, p.conn, "insert into public.tenant_member values ('"+aliceID+"', 'acme')")
	for _, c := range []struct {
		event, tenant string
		byIndex       int
	}{
		{event, "acme", 1},
		{strings.ReplaceAll(event, "a11ce000", "A11CE000"), "acme", 1},
		{strings.ReplaceAll(event, aliceID, "nobody"), "", 0},
		{`{"claims": {}}`, "", 0},
		{`{"user_id": null, "claims": {}}`, "", 0},
	} {
		err := pgx.BeginFunc(t.Context(), p.conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "set local enable_seqscan = off"); err != nil {
				return err
			}
			const sums = `select coalesce(pg_stat_get_xact_numscans('public.tenant_member'::regclass), 0)::int,
				coalesce(pg_stat_get_xact_numscans('public.tenant_member_pkey'::regclass), 0)::int`
			var tenant string
			var whole, byIndex, wholeBefore, indexBefore int // the session counts on
			if err := tx.QueryRow(t.Context(), sums).Scan(&wholeBefore, &indexBefore); err != nil {
				return err
			}
			err := tx.QueryRow(t.Context(), "select coalesce(public.tenant_claim($1::jsonb) #>> "+
				"'{claims,tenant_id}', '')", c.event).Scan(&tenant)
			if err != nil {
				return err
			}
			if err := tx.QueryRow(t.Context(), sums).Scan(&whole, &byIndex); err != nil {
				return err
			}
			whole, byIndex = whole-wholeBefore, byIndex-indexBefore
			if tenant != c.tenant || whole != 0 || byIndex != c.byIndex {
				t.Errorf("%.60s…: the tenant is %q, want %q; it reads the table %d times, the index %d times, want 0, %d",
					c.event, tenant, c.tenant, whole, byIndex, c.byIndex)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", c.event, err)
		}
	}
}
