package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aymanbagabas/go-udiff"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// PublishFunction is what the next version of a function is to be. What is nil or empty stays as it is.
type PublishFunction struct {
	File        *FunctionFile
	Name        string   // default: the file's
	ID          *span.ID // of which function, where the name does not say it
	Status      string   // default: as it is; active in place of scheduled, and for a new one
	Visibility  string
	Description string
	Metadata    json.RawMessage
	Input       json.RawMessage
	TimeoutMs   int
	Signer      *sign.Key
	IsTry       bool // say what would change, and append nothing
}

// PublishedFunction says what became of it.
type PublishedFunction struct {
	ID      span.ID  `json:"id"`
	Seq     int      `json:"seq"`
	Name    string   `json:"name"`
	Status  string   `json:"status"`
	Changed []string `json:"changed"` // columns; none: nothing was appended
	Diff    string   `json:"diff,omitempty"`
	IsNew   bool     `json:"is_new"` // seq 0

	Warnings []string `json:"warnings,omitempty"` // of its metadata
}

// Publish appends the next version of actor's function of that name, or its first one. Where nothing would
// change, it appends nothing.
func Publish(ctx context.Context, owner *ledger.Owner, actor ledger.Actor, p PublishFunction) (
	published *PublishedFunction, err error) {
	warnings, err := checkFunctionMetadata(p.Metadata)
	if err != nil {
		return nil, err
	}
	err = owner.Act(ctx, actor, func(user *ledger.User) error {
		current, err := p.find(ctx, user, actor)
		if err != nil {
			return err
		}
		next := p.next(current)
		if published, err = p.compare(current, next); err != nil {
			return err
		}
		published.Warnings = warnings
		if len(published.Changed) == 0 || p.IsTry {
			return nil
		}
		document, err := p.document(next, actor)
		if err != nil {
			return err
		}
		added, err := user.Add(ctx, document)
		published.ID, published.Seq = added.ID, added.Seq
		return err
	})
	return published, err
}

// find returns the newest version of the function that is meant; nil where there is none yet.
func (p *PublishFunction) find(ctx context.Context, user *ledger.User, actor ledger.Actor) (
	*span.Span, error) {
	if p.ID != nil {
		current, err := user.Current(ctx, *p.ID)
		if err == nil && (current == nil || current.EntityType != "function") {
			err = fmt.Errorf("publish %s: %s may read no such function", p.ID, actor)
		}
		return current, err
	}
	if p.Name == "" {
		p.Name = p.File.Name
	}
	// Two at once would each find none, and make two functions of one name.
	key := strings.Join([]string{"publish", actor.Tenant, actor.User, p.Name}, "\x01")
	if err := user.Alone(ctx, key); err != nil {
		return nil, err
	}
	found, err := user.Named(ctx, "function", p.Name)
	if err != nil {
		return nil, err
	}
	own := slices.DeleteFunc(found, func(s *span.Span) bool {
		return s.OwnerID != actor.User || s.TenantID != actor.Tenant
	})
	switch len(own) {
	case 0:
		return nil, nil
	case 1:
		return own[0], nil
	}
	return nil, fmt.Errorf("publish %s: %s has %d functions of that name: say which by --id (%s)", p.Name, actor,
		len(own), idList(own))
}

func idList(spans []*span.Span) string {
	list := make([]string, len(spans))
	for i, s := range spans {
		list[i] = s.ID.String()
	}
	return strings.Join(list, ", ")
}

// next is the version after current, stated whole.
func (p *PublishFunction) next(current *span.Span) *span.Span {
	next := &span.Span{EntityType: "function", Name: &p.Name, Status: new("active")}
	if current != nil {
		copied := *current
		next = &copied
		next.Seq, next.PrevHash = current.Seq+1, current.CurrHash
		if current.StatusText() == "scheduled" { // the next version would run at once
			next.Status = new("active")
		}
		if p.Name != "" {
			next.Name = &p.Name
		}
	}
	next.Code, next.Language = &p.File.Source, &p.File.Language
	if p.Status != "" {
		next.Status = &p.Status
	}
	if p.Visibility != "" {
		next.Visibility = p.Visibility
	}
	if p.Description != "" {
		next.Description = &p.Description
	}
	if p.Metadata != nil {
		next.Metadata = p.Metadata
	}
	if p.Input != nil {
		next.Input = p.Input
	}
	if p.TimeoutMs > 0 {
		next.TimeoutMs = &p.TimeoutMs
	}
	return next
}

// compare says in what next differs from current.
func (p *PublishFunction) compare(current, next *span.Span) (*PublishedFunction, error) {
	before := &span.Span{}
	result := &PublishedFunction{ID: next.ID, Seq: next.Seq, Name: *next.Name, Status: next.StatusText(),
		Changed: []string{}, IsNew: current == nil}
	code := ""
	if current != nil {
		before = current
		if current.Code != nil {
			code = *current.Code
		}
	}
	result.Changed = append(result.Changed, ChangedColumns(before, next)...)
	if current != nil && len(result.Changed) == 0 {
		result.Seq = current.Seq
	}
	if p.Signer != nil && current != nil && len(result.Changed) == 0 && current.Signature == nil {
		result.Changed, result.Seq = append(result.Changed, "signature"), next.Seq
	}
	if current != nil && code != p.File.Source {
		result.Diff = udiff.Unified(fmt.Sprintf("version %d", current.Seq), p.File.Path, code, p.File.Source)
	}
	return result, nil
}

// document is next as ledger.append takes it: without what the database or the engine states.
func (p *PublishFunction) document(next *span.Span, actor ledger.Actor) ([]byte, error) {
	s := *next
	s.Who, s.At, s.Xact, s.AcceptedAt = "", span.Time{}, nil, nil
	s.TraceID, s.IdempotencyKey, s.ScheduledAt, s.EffectiveAt = nil, nil, nil, nil
	s.CurrHash, s.Signature, s.PublicKey, s.SigAlg, s.SigKeyID = nil, nil, nil, nil, nil
	s.Attempt, s.PolicyID = nil, nil
	raw, err := json.Marshal(&s)
	if err != nil {
		return nil, fmt.Errorf("encode the function: %w", err)
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, fmt.Errorf("encode the function: %w", err)
	}
	for _, name := range []string{"who", "at"} {
		delete(members, name)
	}
	if s.ID.IsZero() {
		delete(members, "id")
	}
	if s.Visibility == "" {
		delete(members, "visibility")
	}
	delete(members, "owner_id")
	delete(members, "tenant_id")
	if p.Signer == nil {
		delete(members, "prev_hash") // the database's to fill in, as the hash is
	}
	if metadata := members["metadata"]; metadata != nil {
		if members["metadata"], err = withoutEngine(metadata); err != nil {
			return nil, err
		}
	}
	if raw, err = json.Marshal(members); err != nil || p.Signer == nil {
		return raw, err
	}
	return SignDocument(raw, p.Signer, actor.User, actor.Tenant, false)
}

// StatedMetadata is the metadata of a span without what the engine has added; nil where nothing is left.
func StatedMetadata(s *span.Span) json.RawMessage {
	if s.Metadata == nil {
		return nil
	}
	stated, err := withoutEngine(s.Metadata)
	if err != nil || string(stated) == "{}" {
		return nil
	}
	return stated
}

// withoutEngine takes out what the engine alone states: how a version before was made.
func withoutEngine(metadata json.RawMessage) (json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(metadata, &members); err != nil {
		return nil, fmt.Errorf("read metadata: it is no object: %.60q", metadata)
	}
	delete(members, "engine")
	return json.Marshal(members)
}

// FindFunction returns the function that a name or an id means, of those that actor may read: his own before
// others'.
func FindFunction(ctx context.Context, owner *ledger.Owner, actor ledger.Actor, name string, id *span.ID) (
	function *span.Span, err error) {
	err = owner.Look(ctx, actor, func(user *ledger.User) error {
		if id != nil {
			function, err = user.Current(ctx, *id)
			if err == nil && (function == nil || function.EntityType != "function") {
				err = fmt.Errorf("find the function %s: %s may read none of this id", id, actor)
			}
			return err
		}
		found, err := user.Named(ctx, "function", name)
		if err != nil {
			return err
		}
		own := slices.DeleteFunc(slices.Clone(found), func(s *span.Span) bool {
			return s.OwnerID != actor.User || s.TenantID != actor.Tenant
		})
		if len(own) > 0 {
			found = own
		}
		switch len(found) {
		case 0:
			return fmt.Errorf("find the function %q: %s may read none of this name", name, actor)
		case 1:
			function = found[0]
			return nil
		}
		return fmt.Errorf("find the function %q: there are %d of this name: give the id (%s)", name, len(found),
			idList(found))
	})
	return function, err
}

// CallFunction appends a request of actor for a function, and returns its id.
func CallFunction(ctx context.Context, owner *ledger.Owner, actor ledger.Actor, function span.ID,
	input json.RawMessage, visibility string) (span.ID, error) {
	document := map[string]any{"entity_type": "request", "status": "scheduled", "parent_id": function}
	if input != nil {
		document["input"] = input
	}
	if visibility != "" {
		document["visibility"] = visibility
	}
	raw, err := json.Marshal(document)
	if err != nil {
		return span.ID{}, fmt.Errorf("encode the request: %w", err)
	}
	var added ledger.Appended
	err = owner.Act(ctx, actor, func(user *ledger.User) (err error) {
		added, err = user.Add(ctx, raw)
		return err
	})
	return added.ID, err
}

// ErrStillOpen is returned by AwaitResult, with what is known, where the limit has come first.
var ErrStillOpen = errors.New("the request is still open")

// How often AwaitResult asks: soon after the call, for most runs take milliseconds, and then ever more
// seldom.
const (
	resultMin = 5 * time.Millisecond
	resultMax = 500 * time.Millisecond
)

// AwaitResult asks for the result of a request until it is done, at most for limit.
func AwaitResult(ctx context.Context, owner *ledger.Owner, actor ledger.Actor, request span.ID,
	limit time.Duration) (result *ledger.CallResult, err error) {
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pause := resultMin; ; pause = min(2*pause, resultMax) {
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
			return result, fmt.Errorf("wait for %s: %w after %s", request, ErrStillOpen, limit)
		case <-timer.C:
		}
		err = owner.Look(ctx, actor, func(user *ledger.User) (err error) {
			result, err = user.Result(ctx, request)
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case result == nil:
			return nil, fmt.Errorf("wait for %s: %s may read no such request", request, actor)
		case result.IsDone:
			return result, nil
		}
		timer.Reset(pause)
	}
}
