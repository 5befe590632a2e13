package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// exampleName is the example function of `logline up`, owned by alice and shared with her tenant.
const exampleName = "hello"

const exampleCode = `export default async function main(ctx) {
  const { name } = ctx.input;
  return { greeting: "Hello, " + name + "!", tenant: ctx.env.APP_TENANT_ID, at: ctx.now() };
}
`

// example appends a version of the example function with status scheduled, as alice would through
// PostgREST, waits for its execution, and prints the timeline.
func (u *up) example(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	trace := "example-" + randomHex(8)
	var committed time.Time
	err := asUser(ctx, conn, alice, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into ledger.universal_registry
				(id, seq, entity_type, name, description, visibility, status, language, code, input, trace_id)
			select coalesce(f.id, ledger.uuid7()), coalesce(f.seq + 1, 0), 'function', $1, $2, 'tenant', 'scheduled',
				'javascript', $3, '{"name": "Alice"}', $4
			from (select 1) as one
			left join lateral (
				select v.id, v.seq from ledger.visible_timeline v
				where v.entity_type = 'function' and v.name = $1 and v.owner_id = 'alice'
				order by v.at desc limit 1
			) f on true`, exampleName, "Says hello; appended by `logline up`.", exampleCode, trace)
		return err
	})
	if err != nil {
		return fmt.Errorf("append the function: %w", err)
	}
	committed = time.Now()
	spans, err := u.awaitExecution(ctx, conn, trace)
	if err != nil {
		return err
	}
	u.printTimeline(spans, time.Since(committed))
	return nil
}

// asUser runs f in a transaction with the role and claims that PostgREST would set for user.
func asUser(ctx context.Context, conn *pgx.Conn, user demoUser, f func(pgx.Tx) error) error {
	claims, err := json.Marshal(user.claims())
	if err != nil {
		return fmt.Errorf("encode the claims: %w", err)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('request.jwt.claims', $1, true)", string(claims)); err != nil {
			return fmt.Errorf("set the claims: %w", err)
		}
		if _, err := tx.Exec(ctx, "set local role authenticated"); err != nil {
			return fmt.Errorf("become authenticated: %w", err)
		}
		return f(tx)
	})
}

func (u *up) awaitExecution(ctx context.Context, conn *pgx.Conn, trace string) ([]*span.Span, error) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		var spans []*span.Span
		err := asUser(ctx, conn, alice, func(tx pgx.Tx) (err error) {
			spans, err = ledger.TraceOn(ctx, tx, trace)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the timeline: %w", err)
		}
		for _, s := range spans {
			if s.EntityType == "execution" {
				return spans, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("the execution did not appear within 30 s; the log above says why")
		case <-ticker.C:
		}
	}
}

// printTimeline prints one line a span, with the milliseconds since the function was accepted.
func (u *up) printTimeline(spans []*span.Span, total time.Duration) {
	u.say("example    alice (tenant acme) appended the function %q with status scheduled:", exampleName)
	start := spans[0].AcceptedAt
	for _, s := range spans {
		detail := ""
		if s.EntityType == "execution" {
			detail = string(s.Output) + string(s.Error)
		}
		u.say("           %7.2f ms  %-10s %-10s seq %-3d %s", float64(s.AcceptedAt.Sub(start.Time).Microseconds())/1000,
			s.EntityType, s.StatusText(), s.Seq, detail)
	}
	u.say("           seen %.1f ms after alice's commit returned", float64(total.Microseconds())/1000)
}
