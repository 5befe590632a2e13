package app

import (
	"context"
	"encoding/json"
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
	Function   string           `json:"function_name,omitempty"`
}

// ReadRequest reads a request; nil where nothing has this id. Where it is of something else, the error says
// of what, and where to look.
func ReadRequest(ctx context.Context, owner *ledger.Owner, id span.ID) (*RequestDetail, error) {
	versions, err := owner.Versions(ctx, id)
	if err != nil || len(versions) == 0 {
		return nil, err
	}
	if first := versions[len(versions)-1]; first.EntityType != "request" {
		return nil, noRequest(first)
	}
	detail := &RequestDetail{Executions: []*span.Span{}}
	for i := len(versions) - 1; i >= 0; i-- {
		detail.Versions = append(detail.Versions, versions[i])
	}
	if meta, isDerived := detail.Versions[0].Engine(); isDerived {
		detail.Cause = meta
	}
	if function := detail.Versions[0].ParentID; function != nil {
		known, err := owner.Latest(ctx, []span.ID{*function})
		if err != nil {
			return nil, err
		}
		if newest := known[*function]; newest != nil && newest.Name != nil {
			detail.Function = *newest.Name
		}
	}
	executions, err := owner.Executions(ctx, id)
	detail.Executions = append(detail.Executions, executions...)
	return detail, err
}

// noRequest says what s is instead, and where to look.
func noRequest(s *span.Span) error {
	look := "`logline span get " + s.ID.String() + "` prints it"
	switch meta, isDerived := s.Engine(); {
	case s.EntityType == "function":
		look = "`logline requests --function " + s.ID.String() + "` lists its requests"
	case isDerived && (s.EntityType == "execution" || s.EntityType == "provider_execution"):
		look = "its request is " + meta.Cause.ID.String()
	}
	return fmt.Errorf("show %s: it is of type %s, no request: %s", s.ID, s.EntityType, look)
}

// RequestEvent is a version of a request or an execution of it.
type RequestEvent struct {
	Span  *span.Span
	Error json.RawMessage // its own; of a version without one, that of the execution it was committed with
}

// Events returns versions and executions in the order in which they were accepted, an execution before the
// version that ends it.
func (d *RequestDetail) Events() []RequestEvent {
	var events []RequestEvent
	for _, s := range d.Executions {
		events = append(events, RequestEvent{s, s.Error})
	}
	for _, s := range d.Versions {
		event := RequestEvent{s, s.Error}
		for _, execution := range d.Executions {
			if event.Error == nil && execution.AcceptedAt.Equal(s.AcceptedAt.Time) {
				event.Error = execution.Error
			}
		}
		events = append(events, event)
	}
	slices.SortStableFunc(events, func(a, b RequestEvent) int {
		return a.Span.AcceptedAt.Compare(b.Span.AcceptedAt.Time)
	})
	return events
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
