package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
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
// PostgREST, waits for its execution, and prints the timeline. Where functions must be signed, the local root
// signs it.
func (u *up) example(ctx context.Context, owner *ledger.Owner, mustSign bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	trace := "example-" + randomHex(8)
	var signer *sign.Key
	if mustSign {
		if signer = u.keys.root; signer == nil {
			u.say("example    left out: the manifest wants functions signed, and the root key is not here")
			return nil
		}
	}
	err := owner.As(ctx, alice.claims(), func(user *ledger.User) error {
		current, err := user.Newest(ctx, "function", exampleName)
		if err != nil {
			return fmt.Errorf("look for the function: %w", err)
		}
		document, err := exampleDocument(current, trace, signer)
		if err != nil {
			return err
		}
		return user.Append(ctx, document)
	})
	if err != nil {
		return err
	}
	committed := time.Now()
	spans, err := awaitExecution(ctx, owner, trace)
	if err != nil {
		return err
	}
	u.printTimeline(spans, time.Since(committed))
	return nil
}

// exampleDocument is the example function, or its version after current, signed by signer if there is one.
func exampleDocument(current *span.Span, trace string, signer *sign.Key) ([]byte, error) {
	document := map[string]any{"entity_type": "function", "name": exampleName, "visibility": "tenant",
		"description": "Says hello; appended by `logline up`.", "status": "scheduled", "language": "javascript",
		"code": exampleCode, "input": map[string]string{"name": "Alice"}, "trace_id": trace}
	if current != nil {
		document["id"], document["seq"], document["prev_hash"] = current.ID, current.Seq+1, current.CurrHash
	}
	if signer == nil {
		delete(document, "prev_hash") // the database's to fill in, as the hash is
	}
	raw, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("encode the function: %w", err)
	}
	if signer == nil {
		return raw, nil
	}
	return SignDocument(raw, signer, alice.sub, alice.tenant, false)
}

// awaitExecution reads the timeline as alice until the request has ended, or waits for a limit.
func awaitExecution(ctx context.Context, owner *ledger.Owner, trace string) ([]*span.Span, error) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		var spans []*span.Span
		err := owner.As(ctx, alice.claims(), func(user *ledger.User) (err error) {
			spans, err = user.Trace(ctx, trace)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the timeline: %w", err)
		}
		if slices.ContainsFunc(spans, func(s *span.Span) bool {
			return s.EntityType == "execution" || s.EntityType == "request" && s.StatusText() == "blocked"
		}) {
			return spans, nil
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
		} else if s.Reason != nil {
			detail = *s.Reason
		}
		line := fmt.Sprintf("           %7.2f ms  %-10s %-10s seq %-3d %s",
			float64(s.AcceptedAt.Sub(start.Time).Microseconds())/1000, s.EntityType, s.StatusText(), s.Seq, detail)
		u.say("%s", strings.TrimRight(line, " "))
	}
	u.say("           seen %.1f ms after alice's commit returned", float64(total.Microseconds())/1000)
}
