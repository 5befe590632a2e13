package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Summary says what Summarize counts.
type Summary struct {
	By     []string // columns that make the groups; none is one group
	Bucket string   // minute, hour or day of at (UTC) makes them, too; "" does not
	Of     string   // the column whose figures are wanted, besides the count; "" is none
	Limit  int      // of the groups
}

// groupable lists what By may name.
var groupable = map[string]bool{
	"entity_type": true, "status": true, "owner_id": true, "tenant_id": true, "visibility": true, "name": true,
	"kind": true, "this": true, "did": true, "parent_id": true, "policy_id": true, "provider_id": true,
	"session_id": true, "model": true, "unit": true, "severity": true, "error.code": true,
}

// summable lists what Of may name.
var summable = map[string]bool{
	"duration_ms": true, "value": true, "cost": true, "tokens_in": true, "tokens_out": true,
}

// Summarize counts the current spans that scope may read and filter selects, in groups. Each row holds the
// columns of By and bucket (a time; both by their names), count, and, where Of is stated, sum, min, max, avg,
// p50, p95, p99 (numbers; null where no span of the group has a value). Percentiles are interpolated. Rows
// come in the order of the groups. The statement may take 2 s (ErrStatementTimeout); more groups than Limit
// are ErrTooManyRows, more than ResultBytesMax ErrTooManyBytes.
func (l *Ledger) Summarize(ctx context.Context, scope Scope, filter Filter, want Summary) (
	[]map[string]any, error) {
	var q compiled
	sql, err := q.summary(scope, filter, want)
	if err != nil {
		return nil, fmt.Errorf("summarize: %w", err)
	}
	var rows []map[string]any
	err = l.within(ctx, scope, func(tx pgx.Tx) error {
		found, err := tx.Query(ctx, sql, q.args...)
		if err != nil {
			return fmt.Errorf("summarize: %w", err)
		}
		rows, err = collect(found, want.Limit)
		return err
	})
	if rows == nil && err == nil {
		rows = []map[string]any{}
	}
	return rows, err
}

// refused is an ErrFilter of Summarize, in its own words.
type refused string

func (r refused) Error() string      { return string(r) }
func (refused) Is(target error) bool { return target == ErrFilter }

func (q *compiled) summary(scope Scope, filter Filter, want Summary) (string, error) {
	var list, groups []string
	for i, name := range want.By {
		if !groupable[name] || slices.Contains(want.By[:i], name) {
			return "", refused(fmt.Sprintf("this cannot be grouped by, or not twice: %.40q", name))
		}
		list = append(list, fmt.Sprintf(`%s as "%s"`, columnOf(name), name))
		groups = append(groups, fmt.Sprint(i+1))
	}
	switch want.Bucket {
	case "":
	case "minute", "hour", "day":
		list = append(list, "date_trunc('"+want.Bucket+"', r.at, 'UTC') as bucket")
		groups = append(groups, fmt.Sprint(len(list)))
	default:
		return "", refused(fmt.Sprintf("a bucket is minute, hour or day, not %.40q", want.Bucket))
	}
	list = append(list, "count(*) as count")
	if want.Of != "" {
		if !summable[want.Of] {
			return "", refused(fmt.Sprintf("there are no figures of %.40q", want.Of))
		}
		of := "r." + want.Of
		for _, figure := range []string{"sum", "min", "max", "avg"} {
			list = append(list, fmt.Sprintf("%s(%s)::float8 as %s", figure, of, figure))
		}
		for _, percent := range []string{"50", "95", "99"} {
			list = append(list, fmt.Sprintf("percentile_cont(0.%s) within group (order by %s::float8) as p%s",
				percent, of, percent))
		}
	}
	from, err := q.from(scope, filter)
	if err != nil {
		return "", err
	}
	sql := "select " + strings.Join(list, ", ") + from
	if len(groups) > 0 {
		by := strings.Join(groups, ", ")
		sql += "\n\tgroup by " + by + "\n\torder by " + by
	}
	return sql + "\n\tlimit " + q.value(want.Limit+1), nil
}
