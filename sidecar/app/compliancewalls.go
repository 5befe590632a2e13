package app

import (
	"context"
	"fmt"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

const registry = "ledger.universal_registry"

// nothingChanges is the second principle.
func (a *auditor) nothingChanges(ctx context.Context) error {
	a.takeFallen(checkAppend)
	for _, role := range append([]string{""}, clientRoles()...) {
		tried, err := tryChanges(ctx, a.owner, role, a.protection.Login)
		if err != nil {
			return err
		}
		for _, t := range tried.all {
			e := Evidence{Level: Fine, Claim: "a change is refused", As: t.as, Statement: t.statement,
				Answer: t.answer}
			switch {
			case t.isUntried:
				e.Level, e.Mend = Skipped, untriedMend(t)
			case !t.isRefused:
				e.Level, e.Mend = Fault, againMend
			}
			a.evidence = append(a.evidence, e)
		}
	}
	if !a.protection.IsOwner {
		a.note(Skipped, "the owner is refused, too", fmt.Sprintf("%q is not the owner (%q is)", a.protection.Login,
			a.protection.Owner), rightsMend)
	}
	if err := a.asReplica(ctx); err != nil {
		return err
	}
	return a.attempts(ctx, []attempt{
		{claim: "a version may not be left out",
			Step: ledger.Step{Role: "authenticated", Claims: ledger.Claims("alice", "logline-check-a"),
				Statement: "insert into " + registry + " (id, seq, entity_type, this) values ('" +
					newID(a.now).String() + "', 5, 'note', 'logline.check')"},
			wants: []string{string(span.CodeNoPrevious)}, mend: againMend},
		{claim: "of the newest 100,000 spans none lacks the version before it (counted: those that do)",
			Step:  ledger.Step{Statement: flat(gapsSQL)},
			wants: []string{"0"}, mend: "compare the ledger with a backup: versions were removed"},
	})
}

// takeFallen takes the fallen walls of a check as evidence, and reports whether there are any.
func (a *auditor) takeFallen(check string) bool {
	before := len(a.found)
	hasFallen := a.fell(check)
	a.take(a.found[before:])
	return hasFallen
}

// asReplica tries a change where ordinary triggers sleep, as Supabase lets the owner.
func (a *auditor) asReplica(ctx context.Context) error {
	const mode = "set local session_replication_role = replica"
	answers, err := a.owner.Rehearse(ctx, []ledger.Step{{Statement: mode, Keep: true},
		{Statement: changes()[1]}})
	if err != nil {
		return err
	}
	e := Evidence{Level: Fine, Claim: "a change is refused where ordinary triggers sleep",
		As:        a.protection.Login,
		Statement: mode + "; " + changes()[1], Answer: answers[1].Text()}
	switch {
	case answers[0].State != "":
		e.Answer = answers[0].Text()
	case answers[1].State != string(span.CodeAppendOnly):
		e.Level, e.Mend = Fault, againMend
	}
	a.evidence = append(a.evidence, e)
	return nil
}

// tenantsApart is the fourth principle.
func (a *auditor) tenantsApart(ctx context.Context) error {
	p := a.protection
	if !a.takeFallen(checkRows) {
		level := map[bool]Level{true: Fine, false: Fault}[p.IsOn && p.IsForced && p.Policies > 0]
		a.note(level, "row level security is on and forced, with its policies",
			fmt.Sprintf("on: %t, forced: %t, %d policies", p.IsOn, p.IsForced, p.Policies), againMend)
	}
	if err := a.verified(ctx, a.definers); err != nil {
		return err
	}
	const x, y = "logline-check-a", "logline-check-b"
	as := func(sub, tenant, statement string) ledger.Step {
		return ledger.Step{Role: "authenticated", Claims: ledger.Claims(sub, tenant), Statement: statement}
	}
	kept := func(step ledger.Step) ledger.Step {
		step.Keep = true
		return step
	}
	liar := map[string]any{"sub": "mallory", "role": "authenticated",
		"app_metadata":  map[string]string{"tenant_id": y},
		"user_metadata": map[string]string{"tenant_id": x, "logline_role": "governor"}}
	foreign := "insert into " + registry + " (entity_type, this, owner_id, tenant_id) values ('note', " +
		"'logline.check', 'alice', '" + x + "')"
	return a.attempts(ctx, []attempt{
		{claim: "a user appends a span of his own", Step: kept(as("alice", x, insertNote("private"))),
			wants: []string{""}},
		{claim: "and one for his tenant", Step: kept(as("alice", x, insertNote("tenant"))), wants: []string{""}},
		{claim: "he reads both", Step: as("alice", x, readNotes), wants: []string{"2"}},
		{claim: "another user of his tenant reads the one for the tenant", Step: as("carol", x, readNotes),
			wants: []string{"1"}},
		{claim: "another tenant reads none", Step: as("bob", y, readNotes), wants: []string{"0"}},
		{claim: "nor does who has the same user id there", Step: as("alice", y, readNotes), wants: []string{"0"}},
		{claim: "a tenant that the user wrote himself (user_metadata) does not count",
			Step: ledger.Step{Role: "authenticated", Claims: liar, Statement: readNotes}, wants: []string{"0"}},
		{claim: "he may set what the sidecar's roles go by", Step: kept(as("bob", y, "select set_config("+
			"'app.tenant_id', '"+x+"', true), set_config('app.user_id', 'alice', true)")), wants: []string{x}},
		{claim: "and reads no more by it", Step: as("bob", y, readNotes), wants: []string{"0"}},
		{claim: "a token without claims reads none", Step: ledger.Step{Role: "authenticated", Statement: readNotes},
			wants: []string{"0"}},
		{claim: "nobody signed in reads none", Step: ledger.Step{Role: "anon", Statement: readNotes},
			wants: []string{"0"}},
		{claim: "who is not signed in appends nothing", Step: ledger.Step{Role: "anon",
			Statement: insertNote("private")}, wants: []string{"42501", string(span.CodeNoIdentity)}},
		{claim: "nobody appends in another's name", Step: as("bob", y, foreign),
			wants: []string{string(span.CodeNotOwner)}},
		{claim: "nobody shows a span to everybody without a right to", Step: as("bob", y, insertNote("public")),
			wants: []string{string(span.CodeVisibility)}},
		{claim: "nobody speaks as the engine", Step: as("bob", y, "insert into "+registry+
			" (entity_type, this, who) values ('note', 'logline.check', 'kernel:run_code')"),
			wants: []string{string(span.CodeReservedWho)}},
	})
}
