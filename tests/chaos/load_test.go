package chaos_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// op is one transaction of one client.
type op struct {
	kind      string
	user      user
	rows      []columns
	isAborted bool
	hold      time.Duration // between the rows and the commit
	gap       time.Duration // before it
	isForged  bool          // the ledger may refuse it
	cancel    string        // function whose request is cancelled: "while it waits", "while it runs"
}

// load is a plan of transactions for several clients, and how far they have come.
type load struct {
	world   *world
	clients [][]op
	total   int
	open    atomic.Int64 // in ten thousandths: how much of it may be inserted
	done    atomic.Int64
	refused atomic.Int64
	ended   sync.WaitGroup
}

// newID is a UUIDv4 of the plan.
func newID(random *rand.Rand) span.ID {
	var id span.ID
	binary.BigEndian.PutUint64(id[:8], random.Uint64())
	binary.BigEndian.PutUint64(id[8:], random.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// codes are functions of several kinds. What they return says how many notes they emit.
var codes = []string{
	`return { emits: 0 };`,
	`ctx.insertSpan({ entity_type: "note", name: "one" }); return { emits: 1 };`,
	`for (const name of ["a", "b"]) ctx.insertSpan({ entity_type: "note", name }); return { emits: 2 };`,
	`let n = 0; for (let i = 0; i < 100000; i++) n += i; return { n };`,
	`throw new Error("meant");`,
	`await ctx.find({ entity_type: "note" }, 5); return {};`,
	`let n = 0; for (let i = 0; i < 2e6; i++) n += i; return { n };`,
	`ctx.insertSpan({ entity_type: "order", name: "of code", content: { n: 4 } }); return {};`,
}

// policies are those of each tenant. What they are to emit, oracle.sql knows by their names (I5).
var policies = []struct{ name, on, status, code string }{
	{"chaos-echo", "order", "", `function on(span) {
		return [{ emit_span: { entity_type: "echo", name: span.name, content: { n: span.content.n } } }]; }`},
	{"chaos-even", "order", "", `function on(span) {
		return span.content.n % 2 === 0 ? [{ emit_span: { entity_type: "mark", name: "a" } },
			{ emit_span: { entity_type: "mark", name: "b" } }] : []; }`},
	{"chaos-digest", "echo", "", `function on(span) {
		return [{ emit_span: { entity_type: "digest", name: span.name } }]; }`},
	{"chaos-run", "job", "", `function on(span) {
		return [{ run: "run_code", span_id: span.content.function, input: { n: span.content.n } }]; }`},
	{"chaos-version", "task", "new", `function on(span) {
		return [{ version: { id: span.id, status: "done" } }]; }`},
	{"chaos-throw", "bomb", "", `function on(span) { throw new Error("meant"); }`},
}

// bombsMax is how many spans of a tenant may fail a policy: from ten a minute on it rests.
const bombsMax = 5

// furnish inserts what the load builds on: functions to request and policies, one owner in each tenant.
func (w *world) furnish() {
	w.t.Helper()
	for _, u := range []user{alice, bob, mallory} {
		rows := []columns{{"id": w.shared(u.tenant), "entity_type": "function", "status": "draft", "name": "shared",
			"visibility": "tenant", "language": "javascript", "code": `return { emits: 0, n: input.n };`}}
		for _, p := range policies {
			when := columns{"entity_type": p.on}
			if p.status != "" {
				when["status"] = p.status
			}
			rows = append(rows, columns{"entity_type": "policy", "status": "active", "name": p.name,
				"language": "javascript", "code": p.code, "metadata": columns{"when": when}})
		}
		w.insert(u, rows...)
	}
}

// recur inserts a function of two tenants that runs every two seconds, whoever leads then, and makes up for
// what was missed.
func (w *world) recur() {
	w.t.Helper()
	for _, u := range []user{alice, bob} {
		c := columns{"id": newID(w.random), "entity_type": "function", "status": "active",
			"name": "chaos-recurring", "language": "javascript", "code": codes[1],
			"metadata": columns{"schedule": columns{"cron": "*/2 * * * * *", "fill": "all", "fill_max": 1000}}}
		w.insert(u, c)
		w.recurring = append(w.recurring, recurring{u, c})
	}
}

// recurring is one that is in force.
type recurring struct {
	user    user
	columns columns
}

// endRecurring archives what recurs: the ledger comes to rest.
func (w *world) endRecurring() {
	w.t.Helper()
	for _, r := range w.recurring {
		r.columns["seq"], r.columns["status"] = 1, "archived"
		w.insert(r.user, r.columns)
	}
	w.recurring = nil
}

// shared is the function of a tenant that requests name.
func (w *world) shared(tenant string) span.ID {
	return newID(rand.New(rand.NewPCG(w.seed, uint64(len(tenant)))))
}

// plan makes a load of n transactions for four clients.
func (w *world) plan(n int) *load {
	random := rand.New(rand.NewPCG(w.seed, 2))
	l := &load{world: w, clients: make([][]op, 4), total: n}
	l.open.Store(10_000)
	bombs, hangs := map[string]int{}, 0
	for i := range n {
		u := users[random.IntN(len(users))]
		o := w.planOne(random, u)
		switch {
		case o.kind == "bomb":
			if bombs[u.tenant]++; bombs[u.tenant] > bombsMax {
				o = w.scheduled(random, u, 0)
			}
		case o.kind == "hang":
			if hangs++; hangs > 2 {
				o = w.scheduled(random, u, 0)
			}
		}
		o.gap = time.Duration(random.IntN(100)) * time.Millisecond
		l.clients[i%len(l.clients)] = append(l.clients[i%len(l.clients)], o)
	}
	w.load = l
	return l
}

// scheduled is a function that is to run.
func (w *world) scheduled(random *rand.Rand, u user, code int, more ...columns) op {
	c := columns{"id": newID(random), "entity_type": "function", "status": "scheduled", "name": "chaos",
		"language": "javascript", "code": codes[code], "trace_id": newID(random).String()}
	for _, extra := range more {
		for name, value := range extra {
			c[name] = value
		}
	}
	return op{kind: "function", user: u, rows: []columns{c}}
}

func spanOf(random *rand.Rand, entityType string, more columns) columns {
	c := columns{"id": newID(random), "entity_type": entityType, "name": "chaos", "visibility": "tenant",
		"trace_id": newID(random).String(), "content": columns{"n": random.IntN(100)}}
	for name, value := range more {
		c[name] = value
	}
	return c
}

// planOne draws one transaction.
func (w *world) planOne(random *rand.Rand, u user) op {
	switch draw := random.IntN(100); {
	case draw < 30:
		return w.scheduled(random, u, random.IntN(len(codes)))
	case draw < 35: // two versions, each to be run
		o := w.scheduled(random, u, random.IntN(len(codes)))
		next := columns{}
		for name, value := range o.rows[0] {
			next[name] = value
		}
		next["seq"] = 1
		o.kind, o.rows = "versions", append(o.rows, next)
		return o
	case draw < 40:
		due := time.Now().Add(time.Duration(random.IntN(2000)) * time.Millisecond)
		o := w.scheduled(random, u, random.IntN(len(codes)), columns{"scheduled_at": due})
		o.kind = "delayed"
		return o
	case draw < 44:
		o := w.scheduled(random, u, 4, columns{
			"metadata": columns{"retry": columns{"max_attempts": 3, "base_ms": 20}}})
		o.kind = "retried"
		return o
	case draw < 52:
		return op{kind: "request", user: u, rows: []columns{{"id": newID(random), "entity_type": "request",
			"status": "scheduled", "parent_id": w.shared(u.tenant), "input": columns{"n": random.IntN(100)},
			"trace_id": newID(random).String()}}}
	case draw < 66:
		visibility := []string{"tenant", "private"}[random.IntN(2)]
		return op{kind: "order", user: u, rows: []columns{
			spanOf(random, "order", columns{"visibility": visibility})}}
	case draw < 70:
		return op{kind: "job", user: u, rows: []columns{spanOf(random, "job",
			columns{"content": columns{"n": random.IntN(100), "function": w.shared(u.tenant)}})}}
	case draw < 74: // a policy may append to what its owner owns
		return op{kind: "task", user: u, rows: []columns{spanOf(random, "task", columns{"status": "new"})}}
	case draw < 76:
		return op{kind: "bomb", user: u, rows: []columns{spanOf(random, "bomb", nil)}}
	case draw < 80:
		o := op{kind: "transaction", user: u, hold: time.Duration(random.IntN(400)) * time.Millisecond}
		for range 5 {
			o.rows = append(o.rows, spanOf(random, "order", nil), w.scheduled(random, u, 0).rows[0])
		}
		return o
	case draw < 84:
		o := op{kind: "aborted", user: u, isAborted: true, hold: time.Duration(random.IntN(200)) * time.Millisecond}
		for range 5 {
			o.rows = append(o.rows, spanOf(random, "order", nil), w.scheduled(random, u, 1).rows[0])
		}
		return o
	case draw < 86:
		return op{kind: "large", user: u, rows: []columns{spanOf(random, "order",
			columns{"content": columns{"n": 2, "text": strings.Repeat("x", 900_000)}})}}
	case draw < 88:
		o := w.scheduled(random, u, 0, columns{"scheduled_at": time.Now().Add(time.Hour)})
		o.kind, o.cancel = "cancelled", "while it waits"
		return o
	case draw < 90:
		o := w.scheduled(random, u, 0, columns{"code": `while (true) {}`})
		o.kind, o.cancel = "hang", "while it runs"
		return o
	default:
		return w.forged(random, u)
	}
}

// forged states what only the server or the engine may: refused or overwritten, it must have no effect.
func (w *world) forged(random *rand.Rand, u user) op {
	derived := newID(random)
	derived[6] = derived[6]&0x0f | 0x80
	other := newID(random)
	past := columns{"at": "1980-01-01T00:00:00Z"}
	forgeries := []columns{
		spanOf(random, "order", columns{"xact": "3"}),
		spanOf(random, "order", columns{"accepted_at": "1999-01-01T00:00:00Z"}),
		spanOf(random, "order", columns{"metadata": columns{"engine": columns{
			"cause": []any{other, 0}, "root": other, "depth": 99, "kind": "policy"}}}),
		spanOf(random, "order", columns{"seq": 7}),
		spanOf(random, "order", past),
		spanOf(random, "order", columns{"at": "2200-01-01T00:00:00Z"}),
		spanOf(random, "order", columns{"id": derived}),
		spanOf(random, "order", columns{"tenant_id": "other", "owner_id": "other"}),
		spanOf(random, "execution", columns{"related_to": []any{other}, "status": "complete"}),
		w.scheduled(random, u, 1, past).rows[0],
		w.scheduled(random, u, 1, columns{"xact": "3"}).rows[0],
		{"id": newID(random), "entity_type": "request", "status": "complete", "parent_id": w.shared(u.tenant)},
	}
	return op{kind: "forged", user: u, rows: []columns{forgeries[random.IntN(len(forgeries))]}, isForged: true}
}

// start has the clients work; wait returns when all of the plan is in the ledger.
func (l *load) start() {
	ctx := l.world.t.Context()
	for _, ops := range l.clients {
		l.ended.Go(func() {
			for i, o := range ops {
				pass(ctx, o.gap)
				for ctx.Err() == nil && int64(10_000*i) >= l.open.Load()*int64(len(ops)) {
					pass(ctx, pollEvery)
				}
				l.commit(ctx, o)
				l.done.Add(1)
			}
		})
	}
}

// release lets the clients come as far as a share of the load.
func (l *load) release(share float64) { l.open.Store(int64(10_000 * share)) }

// await returns when a share of the load is in the ledger.
func (l *load) await(share float64) {
	l.world.t.Helper()
	program.Eventually(l.world.t, fmt.Sprintf("%.0f %% of the load is in the ledger", 100*share), func() bool {
		return float64(l.done.Load()) >= share*float64(l.total)
	})
}

func (l *load) wait() {
	l.world.t.Helper()
	l.release(1)
	l.await(1)
	l.ended.Wait()
}

var errAborted = errors.New("rolled back as planned")

// commit runs one transaction until its outcome is known: rows of a stated id may be stated again.
func (l *load) commit(ctx context.Context, o op) {
	for ctx.Err() == nil {
		err := l.world.as(ctx, o.user, func(tx pgx.Tx) error {
			for _, c := range o.rows {
				if err := insertIn(ctx, tx, c); err != nil {
					return err
				}
			}
			pass(ctx, o.hold)
			if o.isAborted {
				return errAborted
			}
			return nil
		})
		var refusal *pgconn.PgError
		switch {
		case err == nil || errors.Is(err, errAborted):
			if o.cancel != "" {
				l.ended.Go(func() { l.cancelRequest(ctx, o) })
			}
			return
		case errors.As(err, &refusal) && !isAway(refusal.Code):
			l.refused.Add(1)
			if !o.isForged && ctx.Err() == nil {
				l.world.t.Errorf("a %s of %s is refused: %v", o.kind, o.user.sub, err)
			}
			return
		}
		pass(ctx, 50*time.Millisecond) // Postgres is away: the outcome is unknown
	}
}

// isAway reports whether a code says that the server is going, coming, or full.
func isAway(code string) bool {
	return strings.HasPrefix(code, "57") || strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") ||
		code == "58030" || code == "55P03"
}

// cancelRequest cancels the request of a function that would never end by itself.
func (l *load) cancelRequest(ctx context.Context, o op) {
	w := l.world
	for ; ctx.Err() == nil; pass(ctx, 50*time.Millisecond) {
		var id, status string
		var seq int
		err := w.owner.QueryRow(ctx, `select id::text, seq, status from ledger.universal_registry
			where entity_type = 'request' and parent_id = $1 order by seq desc limit 1`,
			fmt.Sprint(o.rows[0]["id"])).Scan(&id, &seq, &status)
		switch {
		case err != nil || o.cancel == "while it runs" && status == "scheduled":
			continue
		case span.IsTerminal(status) || status == "cancel_requested":
			return
		}
		// An error says that the engine was quicker with a version, or that Postgres is away: look again.
		_ = w.try(ctx, o.user, columns{"id": id, "seq": seq + 1, "entity_type": "request",
			"status": "cancel_requested", "trace_id": o.rows[0]["trace_id"]})
	}
}
