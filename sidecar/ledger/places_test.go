package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

func TestAReadGivesNoMoreThanItsBytes(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	content := json.RawMessage(`"` + strings.Repeat("a", 900_000) + `"`)
	for i := range 12 {
		mustAppend(t, l, Group{Rows: []*span.Span{note(t, idOf(i+1), func(s *span.Span) { s.Content = content })}})
	}
	scope := Scope{UserID: "alice", TenantID: "t1"}
	if found, err := find(t, l, scope, Filter{}, 9); err != nil || len(found) != 9 {
		t.Errorf("9 spans of 900 kB: %d found, %v", len(found), err)
	}
	if found, err := find(t, l, scope, Filter{}, 12); !errors.Is(err, ErrTooManyBytes) || len(found) > 9 {
		t.Errorf("12 spans of 900 kB: %d were held, %v", len(found), err)
	}
	stop := errors.New("enough")
	err := l.Find(t.Context(), scope, Filter{}, 12, func(*span.Span) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("a refusal of each: got %v", err)
	}
}

func TestASummaryGivesNoMoreThanItsBytes(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 2)
	var rows []*span.Span
	for i := range 3000 {
		rows = append(rows, note(t, idOf(i+1), func(s *span.Span) {
			text := fmt.Sprintf("%04d", i) + strings.Repeat("n", 960)
			s.Name, s.Did, s.This = &text, &text, &text
		}))
	}
	for i := 0; i < len(rows); i += 100 {
		mustAppend(t, l, Group{Rows: rows[i : i+100]})
	}
	scope := Scope{UserID: "alice", TenantID: "t1"}
	some := Summary{By: []string{"name", "did"}, Limit: 10_000}
	if groups, err := l.Summarize(t.Context(), scope, Filter{}, some); err != nil || len(groups) != 3000 {
		t.Errorf("groups of 5.8 MB: %d, %v", len(groups), err)
	}
	all := Summary{By: []string{"name", "did", "this"}, Limit: 10_000}
	if _, err := l.Summarize(t.Context(), scope, Filter{}, all); !errors.Is(err, ErrTooManyBytes) {
		t.Errorf("groups of 8.7 MB: got %v", err)
	}
	twice := Summary{By: []string{"name", "name"}, Limit: 10_000}
	if _, err := l.Summarize(t.Context(), scope, Filter{}, twice); !errors.Is(err, ErrFilter) {
		t.Errorf("a column named twice: got %v", err)
	}
}

// reading starts n finds as scope that hold their places until their context ends or release is closed. It
// returns one message for each that has its place.
func reading(t *testing.T, l *Ledger, scope Scope, n int, release <-chan struct{}) <-chan struct{} {
	t.Helper()
	placed := make(chan struct{}, n)
	done := make(chan struct{}, n)
	ctx, cancel := context.WithCancel(t.Context())
	for range n {
		go func() {
			defer func() { done <- struct{}{} }()
			_ = l.Find(ctx, scope, Filter{}, 1, func(*span.Span) error { // those that never get a place end with ctx
				placed <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
				}
				return nil
			})
		}()
	}
	t.Cleanup(func() {
		cancel()
		for range n {
			<-done
		}
	})
	return placed
}

func TestReadsOfATenantHoldUpNobodyElses(t *testing.T) {
	t.Parallel()
	l, _ := setup(t, 10)
	mustAppend(t, l, Group{Rows: []*span.Span{note(t, idOf(1)),
		note(t, idOf(2), func(s *span.Span) { s.TenantID, s.OwnerID = "t2", "bob" })}})
	release := make(chan struct{})
	alice := reading(t, l, Scope{UserID: "alice", TenantID: "t1"}, 200, release)
	<-alice
	<-alice
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	none := func(*span.Span) error { return nil }
	for _, scope := range []Scope{{UserID: "bob", TenantID: "t2"}, {TenantID: "t1", OfSystem: true}} {
		if err := l.Find(ctx, scope, Filter{}, 1, none); err != nil {
			t.Errorf("while a tenant holds all that it may, %+v waits: %v", scope, err)
		}
	}
	bob := reading(t, l, Scope{UserID: "bob", TenantID: "t2"}, 1, release)
	<-bob // every place of tenants is held
	if err := l.Find(ctx, Scope{TenantID: "t2", OfSystem: true}, Filter{}, 1, none); err != nil {
		t.Errorf("while tenants hold all places, the system's policies wait: %v", err)
	}
	if len(alice) > 0 {
		t.Errorf("%d more reads than a tenant may hold", len(alice))
	}
	close(release)
}
