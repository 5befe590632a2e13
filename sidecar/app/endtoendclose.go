package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// judgeVersions looks whether the first run is told as it should be: who, for whom, of what version.
func (e *e2e) judgeVersions(ctx context.Context) (string, error) {
	spans, err := e.await(ctx, "the end of the request", func(s *span.Span) bool {
		return s.EntityType == "request" && span.IsTerminal(s.StatusText())
	})
	if err != nil {
		return "", err
	}
	execution := last(spans, "execution")
	var metadata struct {
		Run struct {
			Function struct {
				ID  span.ID `json:"id"`
				Seq int     `json:"seq"`
			} `json:"function"`
			Kernels []struct {
				Name string `json:"name"`
				Seq  int    `json:"seq"`
			} `json:"kernels"`
		} `json:"run"`
	}
	if err := json.Unmarshal(execution.Metadata, &metadata); err != nil {
		return "", fmt.Errorf("read the record of the run: %w", err)
	}
	var request []string
	for _, s := range spans {
		if s.EntityType == "request" {
			request = append(request, s.StatusText())
		}
	}
	ended := last(spans, "request")
	for _, c := range []struct {
		isSo bool
		what string
	}{
		{ended.StatusText() == "complete", "its request ended as " + ended.StatusText()},
		{execution.ParentID != nil && *execution.ParentID == e.report.Function, "its parent is not the function"},
		{len(execution.RelatedTo) > 0 && execution.RelatedTo[0] == ended.ID, "it is not related to its request"},
		{execution.OwnerID == e.user.sub && execution.TenantID == e.user.tenant, "it is not its user's"},
		{metadata.Run.Function.ID == e.report.Function && metadata.Run.Function.Seq == 0,
			"it does not record the version of the function"},
		{len(metadata.Run.Kernels) > 0, "it does not record the kernels that ran it"},
	} {
		if !c.isSo {
			return "", &stepError{fmt.Sprintf("the execution %s: %s", execution.ID, c.what), "`logline verify`"}
		}
	}
	var kernels []string
	for _, k := range metadata.Run.Kernels {
		kernels = append(kernels, fmt.Sprintf("%s version %d", k.Name, k.Seq))
	}
	return fmt.Sprintf("request %s; function version 0, run by %s", strings.Join(request, ", "),
		strings.Join(kernels, ", ")), nil
}

// call appends a request of the user's own, with other input, and waits for what comes of it.
func (e *e2e) call(ctx context.Context) (string, error) {
	id := newID(time.Now())
	err := e.append(ctx, e.user, map[string]any{"id": id, "entity_type": "request", "status": "scheduled",
		"parent_id": e.report.Function, "input": map[string]int{"a": -3, "b": 10},
		"trace_id": e.report.TraceID}, nil)
	if err != nil {
		return "", err
	}
	isOfIt := func(s *span.Span) bool {
		return s.EntityType == "execution" && slices.Contains(s.RelatedTo, id)
	}
	spans, err := e.await(ctx, "the execution of the user's request", isOfIt)
	if err != nil {
		return "", err
	}
	execution := spans[slices.IndexFunc(spans, isOfIt)]
	return judgeRun(execution, `{"sum":7,"tenant":"`+e.user.tenant+`"}`)
}

// refusals tries what must not be possible, and undoes it.
func (e *e2e) refusals(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e2eSQL)
	defer cancel()
	stranger := demoUser{e.user.sub, e.user.tenant + "-other"} // the same user id, in another tenant
	const table = "ledger.universal_registry"
	function := "'" + e.report.Function.String() + "'"
	trials := []struct {
		who       demoUser
		statement string
		wants     string
	}{
		{stranger, "select count(*) from " + table + " where trace_id = '" + e.report.TraceID + "'", "0"},
		{stranger, "insert into " + table + " (entity_type, status, parent_id) values ('request', 'scheduled', " +
			function + ")", string(span.CodeNotCallable)},
		{e.user, "insert into " + table + " (entity_type, status, parent_id) values ('execution', 'complete', " +
			function + ")", string(span.CodeWriter)},
		{e.user, "update " + table + " set code = 'return 1' where id = " + function, "42501"},
		{e.user, "delete from " + table + " where id = " + function, "42501"},
	}
	var steps []ledger.Step
	for _, t := range trials {
		steps = append(steps, ledger.Step{Role: "authenticated", Claims: t.who.claims(), Statement: t.statement})
	}
	answers, err := e.owner.Rehearse(ctx, steps)
	if err != nil {
		return "", err
	}
	for i, answer := range answers {
		if got := answer.State; got != trials[i].wants && answer.Value != trials[i].wants {
			return "", &stepError{fmt.Sprintf("%s in %s: %s: %s", trials[i].who.sub, trials[i].who.tenant,
				trials[i].statement, answer.Text()), "`logline verify`"}
		}
	}
	return "another tenant sees nothing and may not call (" + answers[1].State + "); its user may not " +
		"write an " +
		"execution (" + answers[2].State + "), update or delete (" + answers[3].State + ")", nil
}

// cleanUp puts away what this run has made.
func (e *e2e) cleanUp(ctx context.Context) (string, error) {
	closed, open, err := e.close(ctx, e.user, e.report.Function, e.report.TraceID)
	e.report.Open = open
	switch {
	case err != nil:
		return "", err
	case open > 0:
		return "", &stepError{fmt.Sprintf("%d requests wait for a sidecar that ends them: they are cancelled "+
			"(cancel_requested)", open), "start `logline serve`"}
	}
	return closed, nil
}

// close tombstones the function of a run, cancels what is open of it, and waits until that has ended. Where
// no sidecar leads it does not wait: the next one sees the wish. It does not end with ctx. Other things of
// the trace are not the run's: anybody may state a trace.
func (e *e2e) close(ctx context.Context, user demoUser, function span.ID, traceID string) (
	string, int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e2eCloseMax+e2eSQL)
	defer cancel()
	spans, err := e.trace(ctx, user, traceID)
	if err != nil {
		return "", 0, err
	}
	if s := newestOf(spans)[function]; s != nil && !s.IsDeleted {
		if err := e.append(ctx, user, map[string]any{"id": s.ID, "seq": s.Seq + 1, "entity_type": "function",
			"name": s.Name, "status": "archived", "is_deleted": true, "trace_id": traceID}, nil); err != nil {
			return "", 0, fmt.Errorf("tombstone the function: %w", err)
		}
	}
	ticker := time.NewTicker(e2ePoll)
	defer ticker.Stop()
	limit := time.NewTimer(e2eCloseMax)
	defer limit.Stop()
	for {
		open, err := e.cancelOpen(ctx, user, function, traceID)
		if err != nil {
			return "", open, err
		}
		if open == 0 {
			return "the function is tombstoned, and nothing is open", 0, nil
		}
		if leads, err := e.owner.Examination().Leadership(ctx, e.options.Slot, leaderLock); err == nil &&
			!leads.IsHeld {
			return "", open, nil
		}
		select {
		case <-limit.C:
			return "", open, nil
		case <-ticker.C:
		}
	}
}

// cancelOpen asks for the end of the open requests that a run has made, and says how many there are.
func (e *e2e) cancelOpen(ctx context.Context, user demoUser, function span.ID, traceID string) (
	open int, err error) {
	spans, err := e.trace(ctx, user, traceID)
	if err != nil {
		return 0, err
	}
	for _, s := range newestOf(spans) {
		isOfRun := s.EntityType == "request" && s.ParentID != nil && *s.ParentID == function &&
			s.OwnerID == user.sub && s.TenantID == user.tenant
		if !isOfRun || span.IsTerminal(s.StatusText()) {
			continue
		}
		if open++; s.StatusText() == "cancel_requested" {
			continue
		}
		// The sidecar may be quicker: then the next look tells.
		refusal := e.append(ctx, user, map[string]any{"id": s.ID, "seq": s.Seq + 1, "entity_type": "request",
			"status": "cancel_requested", "reason": "`logline e2e` ends", "trace_id": traceID}, nil)
		if refusal != nil && ledger.StateOf(refusal) == "" {
			return open, refusal
		}
	}
	return open, nil
}

func newestOf(spans []*span.Span) map[span.ID]*span.Span {
	newest := map[span.ID]*span.Span{}
	for _, s := range spans {
		if known := newest[s.ID]; known == nil || s.Seq > known.Seq {
			newest[s.ID] = s
		}
	}
	return newest
}

// sweep puts away what earlier runs have left that were killed. What it can not is noted: it is no fault of
// the system that this run tests.
func (e *e2e) sweep(ctx context.Context, left []*span.Span) {
	if len(left) == 0 {
		return
	}
	_ = e.step("sweep", func() (string, error) {
		var stays []string
		for _, s := range left {
			if _, _, err := e.close(ctx, demoUser{s.OwnerID, s.TenantID}, s.ID, *s.TraceID); err != nil {
				stays = append(stays, fmt.Sprintf("%s of %s: %s", s.ID, s.OwnerID, err))
			}
		}
		if len(stays) > 0 {
			return "", &stepWarning{fmt.Sprintf("%d of %d functions of earlier runs, which were killed, stay: %s",
				len(stays), len(left), strings.Join(stays, "; ")), "tombstone them as their owners"}
		}
		return fmt.Sprintf("%d functions of earlier runs, which were killed, are tombstoned", len(left)), nil
	})
}
