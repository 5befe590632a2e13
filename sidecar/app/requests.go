package app

import (
	"context"
	"fmt"
	"slices"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// RequestDetail is all that the ledger has of one request.
type RequestDetail struct {
	Versions   []*span.Span     `json:"versions"` // the first one first
	Executions []*span.Span     `json:"executions"`
	Cause      *span.EngineMeta `json:"cause,omitempty"` // nil: a client asked for it
}

// ReadRequest reads a request; nil where there is none.
func ReadRequest(ctx context.Context, owner *ledger.Owner, id span.ID) (*RequestDetail, error) {
	versions, err := owner.Versions(ctx, id)
	if err != nil || len(versions) == 0 || versions[0].EntityType != "request" {
		return nil, err
	}
	detail := &RequestDetail{Executions: []*span.Span{}}
	for i := len(versions) - 1; i >= 0; i-- {
		detail.Versions = append(detail.Versions, versions[i])
	}
	if meta, isDerived := detail.Versions[0].Engine(); isDerived {
		detail.Cause = meta
	}
	executions, err := owner.Executions(ctx, id)
	detail.Executions = append(detail.Executions, executions...)
	return detail, err
}

// RequestWish is what an operator wants of requests.
type RequestWish struct {
	Verb string // as it is printed
	Next ledger.RequestVersion
	From []string // the states in which it can be had
	hint string   // what else to do in another
}

// Redrive runs a dead request once more, with attempts that begin anew.
func Redrive(reason string) RequestWish {
	return RequestWish{"redrive", ledger.RequestVersion{Status: "scheduled", Did: "redriven", Reason: reason},
		[]string{"dead"}, ": only dead ones are redriven; call the function anew"}
}

// Cancel ends a request that is open.
func Cancel(reason string) RequestWish {
	return RequestWish{"cancel", ledger.RequestVersion{Status: "cancel_requested", Did: "cancelled",
		Reason: reason}, []string{"scheduled", "running", "retry", "blocked"}, ""}
}

// WishFor appends a wish for these requests, and says of each for which it can not be had why.
func WishFor(ctx context.Context, owner *ledger.Owner, wish RequestWish, ids []span.ID) (
	done int, refused []error, err error) {
	states, err := owner.RequestsWhere(ctx, ledger.RequestFilter{IDs: ids}, len(ids))
	if err != nil {
		return 0, nil, err
	}
	stands := map[span.ID]string{}
	for _, state := range states {
		stands[state.ID] = state.Status
	}
	for _, id := range ids {
		switch status, found := stands[id]; {
		case !found:
			refused = append(refused, fmt.Errorf("%s %s: the ledger has no such request", wish.Verb, id))
		case !slices.Contains(wish.From, status):
			refused = append(refused, fmt.Errorf("%s %s: it is %s%s", wish.Verb, id, status, wish.hint))
		}
	}
	done, err = owner.FollowRequests(ctx, ledger.RequestFilter{IDs: ids, Statuses: wish.From}, wish.Next,
		func(int, int) {})
	return done, refused, err
}
