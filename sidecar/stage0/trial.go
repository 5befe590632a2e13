package stage0

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/fetch"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Trial is a function that is not in the ledger, and what it is to be run with.
type Trial struct {
	Name             string // shown in errors: the file's
	Source, Language string
	Input            json.RawMessage
	User, Tenant     string          // who calls it
	Manifest         json.RawMessage // the document whose limits hold
	FetchHosts       []string        // host:port that it may reach, where Config.Fetch lets it
}

// Tried is what a Trial gave. What it would have appended is Spans.
type Tried struct {
	Output   json.RawMessage
	Err      *span.RunError
	Logs     []sandbox.Log
	Spans    []*span.Span
	Calls    int
	Duration time.Duration
}

// Try runs a function as a request of its own, made up for it, would be: in a code worker, with the limits of
// the manifest and the host's side of ctx; and keeps nothing. Without Config.Ledger, calls that read are
// refused by the code denied. An error is a fault on the way.
func (s *Stage0) Try(ctx context.Context, trial Trial) (*Tried, error) {
	run, code, err := s.prepareTrial(trial)
	if err != nil {
		return nil, err
	}
	result := s.config.Pool.RunCode(ctx, run)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case result.Cause != nil:
		return nil, result.Cause
	}
	tried := &Tried{Output: result.Output, Logs: result.Logs, Calls: len(result.Calls),
		Duration: result.Duration, Spans: code.spans}
	if result.Err != nil {
		tried.Err = runError(result.Err)
	}
	return tried, nil
}

func (s *Stage0) prepareTrial(trial Trial) (run sandbox.Run, code *codeRun, err error) {
	manifest, err := span.ParseManifest(trial.Manifest)
	if err != nil {
		return run, nil, fmt.Errorf("parse the manifest: %w", err)
	}
	document, err := manifestJSON(manifest, trial.Manifest)
	if err != nil {
		return run, nil, err
	}
	now := span.NewTime(time.Now())
	row := &span.Span{ID: randomID(now.Time), EntityType: "function", At: now, AcceptedAt: &now,
		OwnerID: trial.User, TenantID: trial.Tenant, Visibility: "private", Status: new("active"),
		Name: &trial.Name, Code: &trial.Source, Language: &trial.Language}
	cause := &span.Span{ID: randomID(now.Time), EntityType: "request", Who: "user:" + trial.User, At: now,
		AcceptedAt: &now, OwnerID: trial.User, TenantID: trial.Tenant, Visibility: "private",
		Status: new("scheduled"), ParentID: &row.ID, Input: trial.Input, Attempt: new(1)}
	for _, host := range trial.FetchHosts {
		grant, err := span.ParseGrant(span.ActionFetch + ":" + host)
		if err != nil {
			return run, nil, err
		}
		manifest.Grants[row.ID.String()] = append(manifest.Grants[row.ID.String()], grant)
	}
	inv := &invocation{stage0: s, causes: map[span.Key]*span.Span{cause.Key(): cause},
		order:    []span.Key{cause.Key()},
		manifest: &governed{Manifest: manifest, lazy: map[string]json.RawMessage{"manifest": document}}}
	code = &codeRun{inv: inv, cause: cause, row: row, record: &runRecord{StartedAt: &now},
		calls: fetch.NewRun(manifest.Limits.NetCalls)}
	if err := span.CheckJSON(trial.Input); trial.Input != nil && err != nil {
		return run, nil, fmt.Errorf("read the input: %w", err)
	}
	run = code.prepare(trial.Input, 0)
	run.Program.Name = trial.Name
	run.Host = code.hostOfTrial
	return run, code, nil
}

// hostOfTrial is host where there may be no ledger to ask, and where a grant is the flag of a command.
func (c *codeRun) hostOfTrial(ctx context.Context, name string, args json.RawMessage) (json.RawMessage,
	error) {
	var list []struct {
		ID *string `json:"id"`
	}
	reads := name == "find" || name == "summarize"
	fills := name == "insertSpan" && json.Unmarshal(args, &list) == nil && len(list) > 0 && list[0].ID != nil
	if c.inv.stage0.config.Ledger == nil && (reads || fills) {
		return nil, denied("ctx.%s reads the ledger here, and this run has none: name one with --database", name)
	}
	answer, err := c.host(ctx, name, args)
	var refusal *sandbox.HostError
	if name == "fetch" && errors.As(err, &refusal) &&
		strings.Contains(refusal.Message, "logline manifest --give") {
		return nil, denied("fetch: this run reaches no host that is not named: add --fetch HOST:PORT")
	}
	return answer, err
}

// randomID makes an id of version 7.
func randomID(at time.Time) span.ID {
	var id span.ID
	rand.Read(id[:]) // never fails: crypto/rand
	millis := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(millis >> (40 - 8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id
}
