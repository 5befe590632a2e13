package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// system is a migrated and bootstrapped ledger in a Postgres of its own.
type system struct {
	t       *testing.T
	cluster *pgtest.Cluster
	db      *pgtest.Database
	owner   *pgxpool.Pool // the superuser
	api     *pgxpool.Pool // PostgREST's login, with no right but to become a role
}

// columns are the stated columns of a span.
type columns = map[string]any

// user is who the verified token names. Its zero value is nobody: the role anon.
type user struct{ sub, tenant string }

var (
	alice = user{"alice", "acme"}
	carol = user{"carol", "acme"}
	bob   = user{"bob", "globex"}
	anon  = user{}
)

// setup makes a system whose quotas are out of the way.
func setup(t *testing.T) *system {
	t.Helper()
	s := migrated(t, pgtest.NewCluster(t, nil))
	s.bootstrap()
	s.govern(func(manifest map[string]any) {
		manifest["throttle"] = map[string]int{
			"per_tenant_daily_exec_limit": 1_000_000, "per_user_daily_exec_limit": 1_000_000}
	})
	return s
}

// migrated makes a database with the schema and nothing in it.
func migrated(t *testing.T, cluster *pgtest.Cluster) *system {
	t.Helper()
	s := &system{t: t, cluster: cluster, db: cluster.New(t)}
	s.owner = s.open(s.db.URL)
	s.letClientsIn()
	return s
}

// letClientsIn makes PostgREST's login in a cluster that has a ledger.
func (s *system) letClientsIn() {
	s.t.Helper()
	const password = "postgrest"
	s.exec("create role authenticator login noinherit password '" + password + "'")
	s.exec("grant anon, authenticated, service_role to authenticator")
	s.api = s.open(s.urlOf("authenticator", password))
}

// urlOf is the database's URL for another login.
func (s *system) urlOf(login, password string) string {
	s.t.Helper()
	parsed, err := url.Parse(s.db.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	parsed.User = url.UserPassword(login, password)
	return parsed.String()
}

func (s *system) open(databaseURL string) *pgxpool.Pool {
	s.t.Helper()
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		s.t.Fatal(err)
	}
	config.MaxConns = 8
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(s.t.Context(), config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(pool.Close)
	return pool
}

func (s *system) bootstrap() {
	s.t.Helper()
	p := program.Start(s.t, nil, "bootstrap", "--database", s.db.URL)
	if code := p.Wait(); code != 0 {
		s.t.Fatalf("bootstrap exits with %d:\n%s", code, p.Err.String())
	}
}

// exec runs a statement as the owner.
func (s *system) exec(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.owner.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// one reads one value as the owner.
func one[T any](s *system, sql string, args ...any) T {
	s.t.Helper()
	var value T
	if err := s.owner.QueryRow(s.t.Context(), sql, args...).Scan(&value); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// environment is that of `logline serve`; more goes over it.
func (s *system) environment(more ...string) []string {
	return append([]string{
		"DATABASE_URL=" + s.db.SidecarURL, "LOGLINE_LISTEN=127.0.0.1:0", "LOGLINE_NODE=e2e", "LOGLINE_WORKERS=2",
	}, more...)
}

// spawn starts a sidecar; serve waits until it is ready, too.
func (s *system) spawn(more ...string) *program.Process {
	s.t.Helper()
	return program.Start(s.t, s.environment(more...), "serve")
}

func (s *system) serve(more ...string) *program.Process {
	s.t.Helper()
	return s.spawn(more...).AwaitReady()
}

// as runs do in a transaction as PostgREST makes it.
func (s *system) as(u user, do func(ctx context.Context, tx pgx.Tx) error) error {
	role, claims := "anon", "{}"
	if u != anon {
		role = "authenticated"
		encoded, err := json.Marshal(map[string]any{
			"sub": u.sub, "role": role, "aud": role, "app_metadata": map[string]string{"tenant_id": u.tenant}})
		if err != nil {
			return err
		}
		claims = string(encoded)
	}
	ctx := s.t.Context()
	return pgx.BeginFunc(ctx, s.api, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true)",
			role, claims); err != nil {
			return err
		}
		return do(ctx, tx)
	})
}

// try inserts a span as PostgREST does: the stated columns of a JSON body.
func (s *system) try(u user, c columns) (span.Key, error) {
	names, list := sorted(c)
	body, err := json.Marshal(c)
	if err != nil {
		return span.Key{}, err
	}
	var key span.Key
	err = s.as(u, func(ctx context.Context, tx pgx.Tx) error {
		var id string
		sql := `insert into ledger.universal_registry (` + names + `) select ` + list + `
			from json_populate_record(null::ledger.universal_registry, $1::json) as b returning id::text, seq`
		if err := tx.QueryRow(ctx, sql, string(body)).Scan(&id, &key.Seq); err != nil {
			return err
		}
		key.ID = span.MustID(id)
		return nil
	})
	return key, err
}

// sorted lists the stated columns, for insert and for select.
func sorted(c columns) (names, list string) {
	all := slices.Sorted(maps.Keys(c))
	return strings.Join(all, ", "), "b." + strings.Join(all, ", b.")
}

func (s *system) insert(u user, c columns) span.Key {
	s.t.Helper()
	key, err := s.try(u, c)
	if err != nil {
		s.t.Fatalf("insert %v as %s: %v", c["entity_type"], u.sub, err)
	}
	return key
}

// refused inserts a span that the ledger must refuse with this code.
func (s *system) refused(u user, code span.Code, c columns) {
	s.t.Helper()
	key, err := s.try(u, c)
	var refusal *pgconn.PgError
	switch {
	case err == nil:
		s.t.Errorf("%s may insert %v %s, want %s", u.sub, c["entity_type"], key.ID, code)
	case !errors.As(err, &refusal) || refusal.Code != string(code):
		s.t.Errorf("insert %v as %s: %v, want %s", c["entity_type"], u.sub, err, code)
	}
}

// with returns base with more over it.
func with(base columns, more ...columns) columns {
	result := maps.Clone(base)
	for _, c := range more {
		maps.Copy(result, c)
	}
	return result
}

// function is a scheduled function of JavaScript with a trace of its own.
func function(code string, more ...columns) columns {
	return with(columns{
		"entity_type": "function", "status": "scheduled", "name": "e2e", "language": "javascript", "code": code,
		"trace_id": rand.Text(),
	}, more...)
}

// run schedules a function and returns what came of it.
func (s *system) run(u user, code string, more ...columns) run {
	s.t.Helper()
	c := function(code, more...)
	s.insert(u, c)
	return s.settled(c["trace_id"].(string), 1)[0]
}

// read returns all spans that match, in key order, as the owner sees them.
func (s *system) read(where string, args ...any) []*span.Span {
	s.t.Helper()
	spans, err := query(s.t.Context(), s.owner, "ledger.universal_registry", where, args)
	if err != nil {
		s.t.Fatal(err)
	}
	return spans
}

// seen returns what a user sees in a view.
func (s *system) seen(u user, view, where string, args ...any) []*span.Span {
	s.t.Helper()
	var spans []*span.Span
	err := s.as(u, func(ctx context.Context, tx pgx.Tx) (err error) {
		spans, err = query(ctx, tx, view, where, args)
		return err
	})
	if err != nil {
		s.t.Fatalf("read %s as %q: %v", view, u.sub, err)
	}
	return spans
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func query(ctx context.Context, q querier, view, where string, args []any) ([]*span.Span, error) {
	sql := "select to_json(r)::text from " + view + " as r where " + where + " order by r.id, r.seq"
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read spans: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*span.Span, error) {
		var text string
		if err := row.Scan(&text); err != nil {
			return nil, err
		}
		s := new(span.Span)
		return s, json.Unmarshal([]byte(text), s)
	})
}

// run is one request and its executions.
type run struct {
	versions   []*span.Span // of the request, by seq
	executions []*span.Span
}

func (r run) request() *span.Span { return r.versions[0] }
func (r run) last() *span.Span    { return r.versions[len(r.versions)-1] }

// execution is the only one.
func (r run) execution(t testing.TB) *span.Span {
	t.Helper()
	if len(r.executions) != 1 {
		t.Fatalf("request %s, %s, has %d executions, want 1", r.request().ID, r.last().StatusText(),
			len(r.executions))
	}
	return r.executions[0]
}

// runs returns the requests of a trace in order of id, and whether each of them has ended.
func (s *system) runs(trace string) (runs []run, ended bool) {
	s.t.Helper()
	byID := map[span.ID]int{}
	spans := s.read("trace_id = $1", trace)
	for _, row := range spans {
		if row.EntityType != "request" {
			continue
		}
		place, known := byID[row.ID]
		if !known {
			place = len(runs)
			byID[row.ID], runs = place, append(runs, run{})
		}
		runs[place].versions = append(runs[place].versions, row)
	}
	for _, row := range spans {
		if row.EntityType == "execution" {
			place, known := byID[row.RelatedTo[0]]
			if !known {
				s.t.Fatalf("execution %s is of no request of trace %s", row.ID, trace)
			}
			runs[place].executions = append(runs[place].executions, row)
		}
	}
	ended = true
	for _, r := range runs {
		ended = ended && span.IsTerminal(r.last().StatusText())
	}
	return runs, ended
}

// settled returns the runs of a trace when n requests are there and each has ended.
func (s *system) settled(trace string, n int) []run {
	s.t.Helper()
	var runs []run
	if !program.Within(s.t, patience, func() bool {
		found, ended := s.runs(trace)
		runs = found
		return ended && len(found) >= n
	}) {
		s.t.Fatalf("trace %s: %d requests, want %d that have ended: %s", trace, len(runs), n, describe(runs))
	}
	if len(runs) != n {
		s.t.Fatalf("trace %s has %d requests, want %d: %s", trace, len(runs), n, describe(runs))
	}
	return runs
}

func describe(runs []run) string {
	var text strings.Builder
	for _, r := range runs {
		fmt.Fprintf(&text, "\n  %s", r.request().ID)
		for _, version := range r.versions {
			fmt.Fprintf(&text, " %s", version.StatusText())
		}
		for _, execution := range r.executions {
			fmt.Fprintf(&text, "; execution %s %s", execution.StatusText(), execution.Error)
		}
	}
	return text.String()
}

// publish appends system spans as `logline bootstrap` does.
func (s *system) publish(spans ...*span.Span) {
	s.t.Helper()
	conn, err := s.owner.Acquire(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Release()
	if _, err := ledger.NewOwner(conn.Conn()).Publish(s.t.Context(), spans); err != nil {
		s.t.Fatal(err)
	}
}

// latest is the newest version of a span.
func (s *system) latest(id span.ID) *span.Span {
	s.t.Helper()
	versions := s.read("id = $1", id.String())
	if len(versions) == 0 {
		s.t.Fatalf("there is no span %s", id)
	}
	return versions[len(versions)-1]
}

// next drafts the version after the newest of a system span.
func (s *system) next(id span.ID) *span.Span {
	s.t.Helper()
	version := s.latest(id)
	version.AcceptedAt, version.Xact, version.CurrHash, version.PrevHash = nil, nil, nil, nil
	version.Signature, version.PublicKey, version.SigAlg, version.SigKeyID = nil, nil, nil, nil
	return version
}

// govern appends the next version of the manifest.
func (s *system) govern(change func(manifest map[string]any)) {
	s.t.Helper()
	version := s.next(span.ManifestID)
	var document map[string]any
	if err := json.Unmarshal(version.Metadata, &document); err != nil {
		s.t.Fatal(err)
	}
	change(document)
	var err error
	if version.Metadata, err = json.Marshal(document); err != nil {
		s.t.Fatal(err)
	}
	s.publish(version)
}

// failure is the error of an execution.
func failure(t testing.TB, execution *span.Span) span.RunError {
	t.Helper()
	var fault span.RunError
	if execution.Error == nil {
		t.Fatalf("execution %s is %s, output %s: want an error", execution.ID, execution.StatusText(),
			execution.Output)
	}
	if err := json.Unmarshal(execution.Error, &fault); err != nil {
		t.Fatalf("decode the error %s: %v", execution.Error, err)
	}
	return fault
}

// sameJSON compares two documents.
func sameJSON(t testing.TB, got json.RawMessage, want string) {
	t.Helper()
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("got %s, want %s", got, want)
	}
}
