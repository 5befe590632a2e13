package app

import (
	"context"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// namesMost bounds how many names FunctionNames keeps: whoever follows may follow for weeks.
const namesMost = 10_000

// FunctionNames knows how the functions of requests and executions are called. Its zero value knows none.
type FunctionNames struct{ known map[span.ID]string }

// Learn reads the names that spans need and are not known yet, as actor may read them, in one question at
// most; what he may not read is asked for anew each time. A function that is among spans is known by its
// newest name from then on.
func (n *FunctionNames) Learn(ctx context.Context, owner *ledger.Owner, actor ledger.Actor,
	spans []*span.Span) error {
	if n.known == nil || len(n.known) > namesMost {
		n.known = map[span.ID]string{}
	}
	lacking := map[span.ID]bool{}
	for _, s := range spans {
		if _, isRun := functionOf(s); isRun {
			if _, isKnown := n.known[*s.ParentID]; !isKnown {
				lacking[*s.ParentID] = true
			}
		}
	}
	if len(lacking) > 0 {
		ids := make([]span.ID, 0, len(lacking))
		for id := range lacking {
			ids = append(ids, id)
		}
		err := owner.Look(ctx, actor, func(user *ledger.User) error {
			names, err := user.Names(ctx, ids)
			for id, name := range names {
				n.known[id] = name
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, s := range spans {
		if s.EntityType == "function" && s.Name != nil {
			n.known[s.ID] = *s.Name
		}
	}
	return nil
}

// Of returns the name of the function that s is a request or an execution of; "" where it is none, the
// function has no name, or the actor may not read it.
func (n *FunctionNames) Of(s *span.Span) string {
	id, _ := functionOf(s)
	return n.known[id]
}

// Label is Of for people: without a name it is the id of the function.
func (n *FunctionNames) Label(s *span.Span) string {
	if id, isRun := functionOf(s); isRun && n.known[id] == "" {
		return id.String()
	}
	return n.Of(s)
}

// functionOf returns the function of a request or an execution.
func functionOf(s *span.Span) (id span.ID, isRun bool) {
	switch s.EntityType {
	case "request", "execution", "provider_execution":
		if s.ParentID != nil {
			return *s.ParentID, true
		}
	}
	return id, false
}
