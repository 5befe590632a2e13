package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// world is one ledger in a Postgres of its own, its sidecars, and what stands between them.
type world struct {
	t         *testing.T
	seed      uint64
	random    *rand.Rand // of the plan of faults; the load has its own
	cluster   *pgtest.Cluster
	db        *pgtest.Database
	owner     *pgxpool.Pool // the superuser
	api       *pgxpool.Pool // PostgREST's login
	front     *proxy        // before the server, where options say so
	key       string        // signs what the sidecars append
	more      []string      // environment of every sidecar
	sidecars  []*sidecar
	load      *load
	recurring []recurring // functions that tick until the end of the scenario
}

// sidecar is one of them: its proxies stay when its process is killed and started again.
type sidecar struct {
	world            *world
	name, binary     string
	sql, replication *proxy
	more             []string
	*program.Process
	past []*program.Process
}

// user is who the verified token names.
type user struct{ sub, tenant string }

var (
	alice   = user{"alice", "acme"}
	carol   = user{"carol", "acme"}
	bob     = user{"bob", "globex"}
	mallory = user{"mallory", "flood"}
	users   = []user{alice, carol, bob, mallory}
)

// columns are the stated columns of a span.
type columns = map[string]any

// options of a world. The zero value has Postgres as pgtest sets it, and quotas that are out of the way.
type options struct {
	settings    map[string]string
	tenantLimit int
	more        []string
	seed        uint64 // 0: from the environment, or a random one
	hasFront    bool   // everybody comes through one address, as behind a DNS name
}

// newWorld makes a ledger with kernels, manifest and the suite's policies, and no sidecar yet.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	w := &world{t: t, seed: o.seed, more: o.more}
	if w.seed == 0 {
		w.seed = seedOf(t)
	}
	w.random = rand.New(rand.NewPCG(w.seed, 1))
	key, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	w.key = key.Secret()
	w.cluster = pgtest.NewCluster(t, o.settings)
	w.db = w.cluster.New(t)
	if o.hasFront {
		w.front = newProxy(t, w.host())
		w.db.URL, w.db.SidecarURL = via(w.db.URL, w.front), via(w.db.SidecarURL, w.front)
	}
	w.owner = w.open(w.db.URL)
	w.exec("create role authenticator login noinherit password 'postgrest'")
	w.exec("grant anon, authenticated, service_role to authenticator")
	parsed, err := url.Parse(w.db.URL)
	if err != nil {
		t.Fatal(err)
	}
	parsed.User = url.UserPassword("authenticator", "postgrest")
	w.api = w.open(parsed.String())
	p := program.StartOf(t, logline(), nil, "bootstrap", "--database", w.db.URL)
	if code := p.Wait(); code != 0 {
		t.Fatalf("bootstrap exits with %d: %s", code, p.Said())
	}
	if o.tenantLimit == 0 {
		o.tenantLimit = 1_000_000
	}
	w.setLimit(o.tenantLimit)
	w.furnish()
	return w
}

// host is where the ledger answers.
func (w *world) host() string {
	w.t.Helper()
	parsed, err := url.Parse(w.db.SidecarURL)
	if err != nil {
		w.t.Fatal(err)
	}
	return parsed.Host
}

func (w *world) open(databaseURL string) *pgxpool.Pool {
	w.t.Helper()
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		w.t.Fatal(err)
	}
	config.MaxConns = 8
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(w.t.Context(), config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(pool.Close)
	return pool
}

// setLimit publishes a manifest with this daily limit of executions.
func (w *world) setLimit(perTenant int) {
	w.t.Helper()
	w.withOwner(func(conn *pgx.Conn) error {
		versions, err := ledger.NewOwner(conn).Latest(w.t.Context(), []span.ID{span.ManifestID})
		if err != nil {
			return err
		}
		next := versions[span.ManifestID]
		next.AcceptedAt, next.Xact, next.CurrHash, next.PrevHash = nil, nil, nil, nil
		var document map[string]any
		if err := json.Unmarshal(next.Metadata, &document); err != nil {
			return err
		}
		document["throttle"] = map[string]int{
			"per_tenant_daily_exec_limit": perTenant, "per_user_daily_exec_limit": 1_000_000}
		if next.Metadata, err = json.Marshal(document); err != nil {
			return err
		}
		_, err = ledger.NewOwner(conn).Publish(w.t.Context(), []*span.Span{next})
		return err
	})
}

func (w *world) withOwner(do func(conn *pgx.Conn) error) {
	w.t.Helper()
	conn, err := w.owner.Acquire(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Release()
	if err := do(conn.Conn()); err != nil {
		w.t.Fatal(err)
	}
}

// exec runs a statement as the superuser.
func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.owner.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// one reads one value as the superuser.
func one[T any](w *world, sql string, args ...any) T {
	w.t.Helper()
	var value T
	if err := w.owner.QueryRow(w.t.Context(), sql, args...).Scan(&value); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// ask is one, where Postgres may be away.
func ask[T any](w *world, sql string, args ...any) (value T, err error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	err = w.owner.QueryRow(ctx, sql, args...).Scan(&value)
	return value, err
}

// as runs do in a transaction as PostgREST makes it.
func (w *world) as(ctx context.Context, u user, do func(tx pgx.Tx) error) error {
	claims, err := json.Marshal(map[string]any{"sub": u.sub, "role": "authenticated", "aud": "authenticated",
		"app_metadata": map[string]string{"tenant_id": u.tenant}})
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, w.api, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('role', 'authenticated', true), "+
			"set_config('request.jwt.claims', $1, true)", string(claims)); err != nil {
			return err
		}
		return do(tx)
	})
}

// insertIn inserts a span in a client's transaction.
func insertIn(ctx context.Context, tx pgx.Tx, c columns) error {
	names := slices.Sorted(maps.Keys(c))
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf(`insert into ledger.universal_registry (%s) select b.%s
		from json_populate_record(null::ledger.universal_registry, $1::json) as b`,
		strings.Join(names, ", "), strings.Join(names, ", b.")), string(body))
	return err
}

// try inserts spans in one transaction.
func (w *world) try(ctx context.Context, u user, rows ...columns) error {
	return w.as(ctx, u, func(tx pgx.Tx) error {
		for _, c := range rows {
			if err := insertIn(ctx, tx, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) insert(u user, rows ...columns) {
	w.t.Helper()
	if err := w.try(w.t.Context(), u, rows...); err != nil {
		w.t.Fatalf("insert %v as %s: %v", rows[0]["entity_type"], u.sub, err)
	}
}

// add makes a sidecar with proxies of its own and starts it.
func (w *world) add(name string, more ...string) *sidecar {
	w.t.Helper()
	s := &sidecar{world: w, name: name, binary: logline(), more: more,
		sql: newProxy(w.t, w.host()), replication: newProxy(w.t, w.host())}
	w.sidecars = append(w.sidecars, s)
	s.start()
	return s
}

// start runs the sidecar's process; more goes over its environment for this run.
func (s *sidecar) start(more ...string) {
	s.world.t.Helper()
	if s.Process != nil {
		s.past = append(s.past, s.Process)
	}
	environment := []string{
		"DATABASE_URL=" + via(s.world.db.SidecarURL, s.sql),
		"REPLICATION_URL=" + via(s.world.db.SidecarURL, s.replication),
		"LOGLINE_LISTEN=127.0.0.1:0", "LOGLINE_NODE=" + s.name, "LOGLINE_WORKERS=2",
		"SIGNING_KEY_HEX=" + s.world.key,
	}
	environment = append(append(append(environment, s.world.more...), s.more...), more...)
	s.Process = program.StartOf(s.world.t, s.binary, environment, "serve")
	s.AnswerTimeout = 2 * time.Second // a frozen one is asked again and again
}

// via is a connection string through a proxy.
func via(databaseURL string, p *proxy) string {
	parsed, err := url.Parse(databaseURL)
	if err != nil {
		panic(err) // pgtest made it
	}
	parsed.Host = p.address()
	return parsed.String()
}

// heal ends every fault: proxies pass, frozen processes go on, dead ones are started again.
func (w *world) heal() {
	w.t.Helper()
	for _, s := range w.sidecars {
		s.sql.set(weather{})
		s.replication.set(weather{})
		s.Send(syscall.SIGCONT)
		if s.HasEnded() {
			s.start()
		}
	}
}

// said counts how often a text stands in what the process has printed.
func (s *sidecar) said(text string) int { return strings.Count(s.Said(), text) }

// metric is the value of a counter of /metrics that has no labels, -1 where there is none.
func (s *sidecar) metric(name string) float64 {
	body, _, err := s.Get("/metrics")
	if err != nil {
		return -1
	}
	for line := range strings.Lines(body) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			if number, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return number
			}
		}
	}
	return -1
}

// leads reports whether the sidecar works, by either source.
func (s *sidecar) leads() bool {
	phase := s.Readiness().Phase
	return phase == "streaming" || phase == "polling"
}

// leader returns the sidecar that streams.
func (w *world) leader() *sidecar {
	w.t.Helper()
	var leading *sidecar
	program.Eventually(w.t, "a sidecar leads", func() bool {
		for _, s := range w.sidecars {
			if !s.HasEnded() && s.leads() {
				leading = s
				return true
			}
		}
		return false
	})
	return leading
}

// crashPostgres is `pg_ctl stop -m immediate` and a start.
func (w *world) crashPostgres() {
	w.t.Helper()
	w.stopPostgres(syscall.SIGQUIT)
	w.restartPostgres()
}

func (w *world) stopPostgres(how syscall.Signal) {
	w.t.Helper()
	server := w.cluster.Server
	if err := syscall.Kill(server.Pid(), how); err != nil && !errors.Is(err, syscall.ESRCH) {
		w.t.Fatalf("stop Postgres: %v", err)
	}
	<-server.Done()
}

func (w *world) restartPostgres() {
	w.t.Helper()
	if err := w.cluster.Server.Restart(w.t.Context()); err != nil {
		w.t.Fatalf("start Postgres: %v", err)
	}
	w.owner.Reset()
	w.api.Reset()
}
