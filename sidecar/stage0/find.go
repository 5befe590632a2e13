package stage0

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// find answers ctx.find.
func (inv *invocation) find(ctx context.Context, scope ledger.Scope,
	rawFilter, rawLimit json.RawMessage) (any, error) {
	limit := 100
	isStated := rawLimit != nil && string(rawLimit) != "null"
	if isStated && (json.Unmarshal(rawLimit, &limit) != nil || limit < 1 || limit > 1000) {
		return nil, denied("find: the limit must be a whole number from 1 to 1000")
	}
	filter, err := readFilter("find", rawFilter)
	if err != nil {
		return nil, err
	}
	found := foundSpans{inv: inv}
	err = inv.stage0.config.Ledger.Find(ctx, scope, filter, limit, found.add)
	if err == nil && found.kept == 0 && found.refused != nil {
		err = found.refused
	}
	if err != nil {
		return nil, explainRead(err)
	}
	return found.answer(), nil
}

// foundSpans is the answer of a find in the making: JSON, so that no more of the spans is held than what the
// answer may have.
type foundSpans struct {
	inv     *invocation
	list    []byte // from "[" on; empty while there is none
	kept    int
	refused *span.RunError // the first provider that was left out
}

func (f *foundSpans) add(s *span.Span) error {
	if refusal := f.inv.admitProvider(s); refusal != nil {
		f.refused = cmp.Or(f.refused, refusal)
		return nil
	}
	text, err := json.Marshal(s)
	switch {
	case err != nil:
		return fmt.Errorf("encode a span: %w", err)
	case len(f.list)+len(text)+2 > ledger.ResultBytesMax:
		return ledger.ErrTooManyBytes
	}
	before := byte('[')
	if f.kept++; f.kept > 1 {
		before = ','
	}
	f.list = append(append(f.list, before), text...)
	return nil
}

func (f *foundSpans) answer() wholeAnswer {
	if f.kept == 0 {
		return wholeAnswer("[]")
	}
	return append(f.list, ']')
}

// summarize answers ctx.summarize.
func (inv *invocation) summarize(ctx context.Context, scope ledger.Scope,
	rawFilter, rawOptions json.RawMessage) (any, error) {
	filter, err := readFilter("summarize", rawFilter)
	if err != nil {
		return nil, err
	}
	var options struct {
		By     []string `json:"by"`
		Bucket string   `json:"bucket"`
		Of     string   `json:"of"`
	}
	if rawOptions != nil && json.Unmarshal(rawOptions, &options) != nil {
		return nil, denied("summarize: the options must be {by: [columns], bucket, of}")
	}
	rows, err := inv.stage0.config.Ledger.Summarize(ctx, scope, filter, ledger.Summary{By: options.By,
		Bucket: options.Bucket, Of: options.Of, Limit: inv.manifest.Limits.SQLRows})
	if err != nil {
		return nil, explainRead(err)
	}
	return rows, nil
}

// explainRead turns what the asker is to blame for into a refusal.
func explainRead(err error) error {
	switch {
	case errors.Is(err, ledger.ErrTooManyRows), errors.Is(err, ledger.ErrTooManyBytes):
		return &sandbox.HostError{Code: string(span.RunLimitRows), Message: err.Error()}
	case errors.Is(err, ledger.ErrFilter), errors.Is(err, ledger.ErrStatementTimeout),
		ledger.IsRefusal(err): // a value that is no uuid, for example
		return denied("%s", err)
	}
	return err
}

// readFilter reads {column: "text", column: ["text", …], column: {gt, gte, lt, lte}}.
func readFilter(call string, raw json.RawMessage) (ledger.Filter, error) {
	filter := ledger.Filter{Equal: map[string][]string{}, Ranges: map[string]ledger.Range{}}
	var loose map[string]json.RawMessage
	if err := json.Unmarshal(raw, &loose); err != nil {
		return filter, denied("%s: the filter must be an object of columns and values", call)
	}
	for name, value := range loose {
		var one string
		var many []string
		switch {
		case len(value) > 0 && value[0] == '{':
			bounds, err := readRange(value)
			if err != nil {
				return filter, denied("%s: the range of %.40q must be {gt, gte, lt, lte} of texts or numbers",
					call, name)
			}
			filter.Ranges[name] = bounds
		case string(value) != "null" && json.Unmarshal(value, &one) == nil:
			filter.Equal[name] = []string{one}
		case json.Unmarshal(value, &many) == nil: // null is the empty list: no span has such a value
			filter.Equal[name] = many
		default:
			return filter, denied("%s: the value of %.40q must be a text or a list of texts, or a range", call,
				name)
		}
	}
	return filter, nil
}

func readRange(raw json.RawMessage) (ledger.Range, error) {
	var bounds ledger.Range
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		return bounds, err
	}
	for name, value := range members {
		bound, known := map[string]**string{"gt": &bounds.Gt, "gte": &bounds.Gte, "lt": &bounds.Lt,
			"lte": &bounds.Lte}[name]
		if !known {
			return bounds, errors.New("no such bound")
		}
		switch v := value.(type) {
		case string:
			*bound = &v
		case float64:
			text, err := json.Marshal(v)
			if err != nil {
				return bounds, err
			}
			*bound = new(string(text))
		default:
			return bounds, errors.New("no text and no number")
		}
	}
	return bounds, nil
}

// scope is under whose rights a function or a policy reads. A tenant's policy sees what its owner may read.
// A system policy sees the tenant of what it judges; where it judges one owner's, that owner's spans alone.
func (c *codeRun) scope() ledger.Scope {
	scope := ledger.Scope{UserID: c.cause.OwnerID, TenantID: c.cause.TenantID}
	switch {
	case c.row.EntityType != "policy":
	case !isOfSystem(c.row):
		scope.UserID, scope.TenantID = c.row.OwnerID, c.row.TenantID
	default:
		scope.OfSystem = true
		if c.cause.Visibility != "private" || !isTick(c.cause) {
			scope.UserID = ""
		}
	}
	return scope
}

// tickType is the type of the span that a policy is shown when its time has come. It stands in no ledger.
const tickType = "tick"

// isOfSystem reports whether a span is the system's own, not a tenant's.
func isOfSystem(s *span.Span) bool { return s.TenantID == "system" && s.OwnerID == "system" }

// countRead counts a read against limits.sql_calls.
func (c *codeRun) countRead(ctx context.Context) error {
	if err := c.inv.awaitBorn(ctx, c.cause.Key()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reads++; c.reads > c.inv.manifest.Limits.SQLCalls {
		return refuse(span.RunLimitSQL, "more than %d reads in one run", c.inv.manifest.Limits.SQLCalls)
	}
	return nil
}

// bucketEpoch is the time in ids of buckets, which must not depend on when one is asked for.
var bucketEpoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// bucket answers ctx.bucket: an id that stands for key, of this code on behalf of this owner.
func (c *codeRun) bucket(raw json.RawMessage) (span.ID, error) {
	var key string
	if json.Unmarshal(raw, &key) != nil || key == "" || len(key) > 1000 {
		return span.ID{}, denied("bucket: want a key: a text of 1 to 1000 bytes")
	}
	id := bucketOf(c.row.ID, c.cause, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buckets == nil {
		c.buckets = map[span.ID]bool{}
	}
	c.buckets[id] = true
	return id, nil
}

// bucketOf derives the id of a bucket: of code, tenant, owner and key. The texts enter as the first 16 bytes
// of SHA-256 over tenant, NUL, owner, NUL, key; the ledger takes no NUL in the first two.
func bucketOf(code span.ID, cause *span.Span, key string) span.ID {
	sum := sha256.Sum256([]byte(cause.TenantID + "\x00" + cause.OwnerID + "\x00" + key))
	return span.Derive("bucket", bucketEpoch, []span.ID{code, span.ID(sum[:16])})
}

// fill settles a span that a function emits into a bucket. The caller holds c.mu.
func (c *codeRun) fill(ctx context.Context, s *span.Span) (*span.Span, error) {
	if !c.buckets[s.ID] {
		return nil, denied("insertSpan: the host derives the id: leave it out, or state one of ctx.bucket")
	}
	for _, other := range c.spans {
		if other.ID == s.ID {
			return nil, denied("insertSpan: the bucket %s has its next version already in this run", s.ID)
		}
	}
	filled, isThere, err := c.inv.fill(ctx, s, c.cause, "client:function:"+c.row.ID.String())
	if err != nil || isThere {
		return filled, err
	}
	c.spans = append(c.spans, filled)
	return filled, nil
}
