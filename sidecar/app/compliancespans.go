package app

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/stage0"
)

const nothingRan = "nothing has run yet: `logline e2e` runs something"

// ledgerFirst is the first principle.
func (a *auditor) ledgerFirst(ctx context.Context) error {
	if err := a.verified(ctx, a.boots); err != nil {
		return err
	}
	policies, err := shipped(BootstrapOptions{Policies: true})
	if err != nil {
		return err
	}
	var kept, faults []string
	for _, p := range policies {
		versions, err := a.owner.Versions(ctx, p.ID)
		switch {
		case err != nil:
			return fmt.Errorf("read the policy %s: %w", *p.Name, err)
		case len(versions) == 0:
			faults = append(faults, *p.Name+" is not there")
		case versions[0].Status != nil && *versions[0].Status != "active":
			kept = append(kept, fmt.Sprintf("%s switched off by version %d (%s, %s)", *p.Name, versions[0].Seq,
				*versions[0].Status, versions[0].Who))
		case versions[0].Code == nil, versions[0].CurrHash == nil:
			lacks := map[bool]string{true: "code", false: "hash"}[versions[0].Code == nil]
			faults = append(faults, fmt.Sprintf("%s version %d has no %s (%s wrote it)", *p.Name, versions[0].Seq,
				lacks, versions[0].Who))
		case versions[0].VerifyHash() != nil:
			faults = append(faults, fmt.Sprintf("%s version %d is not what was hashed", *p.Name, versions[0].Seq))
		default:
			kept = append(kept, fmt.Sprintf("%s version %d", *p.Name, versions[0].Seq))
		}
	}
	const claim = "the policies of the system that are in force are spans with code that is what was hashed"
	if len(faults) > 0 {
		a.note(Fault, claim, strings.Join(faults, "; "), "run `logline bootstrap --policies`, with `--over NAME` "+
			"for one that somebody else wrote")
	} else {
		a.note(Fine, claim, strings.Join(kept, ", "), "")
	}
	return a.runs(ctx, "of the newest 200 runs each names versions that the ledger has, with the hashes of "+
		"then (counted: those that do not)", unknownVersionsSQL)
}

// runs asks for a number of faulty runs, where there are runs.
func (a *auditor) runs(ctx context.Context, claim, statement string) error {
	answers, err := a.owner.Rehearse(ctx, []ledger.Step{{Statement: "select count(*) from (" + recentRunsSQL +
		") e"}})
	if err != nil {
		return err
	}
	if answers[0].Value == "0" {
		a.note(Skipped, claim, nothingRan, "")
		return nil
	}
	return a.attempts(ctx, []attempt{{claim: claim, Step: ledger.Step{Statement: flat(statement)},
		wants: []string{"0"}, mend: "compare the ledger with a backup"}})
}

// fixedLoader is the third principle.
func (a *auditor) fixedLoader(ctx context.Context) error {
	if err := a.verified(ctx, a.workers); err != nil {
		return err
	}
	if last := &a.evidence[len(a.evidence)-1]; last.Level == Fault {
		last.Level = Skipped // that nothing runs breaks no principle
	}
	if err := a.verified(ctx, a.loader); err != nil {
		return err
	}
	if err := a.askStage0(ctx); err != nil {
		return err
	}
	const claim = "what has booted is recorded"
	if a.manifest != nil && a.manifest.Features.AuditLog == span.AuditOff {
		a.note(Skipped, claim, "the manifest switches it off (features.audit_log)", "docs/manifest.md")
		return nil
	}
	statement := flat(newestBootSQL)
	answers, err := a.owner.Rehearse(ctx, []ledger.Step{{Statement: statement}})
	if err != nil {
		return err
	}
	e := bootEvidence(answers[0])
	e.Claim, e.As, e.Statement = claim, a.protection.Login, statement
	a.evidence = append(a.evidence, e)
	return nil
}

// bootEvidence is what the newest boot_event, or none, shows.
func bootEvidence(answer ledger.Answer) Evidence {
	switch {
	case answer.State != "" || answer.Barred != "":
		return Evidence{Level: Skipped, Answer: answer.Text(), Mend: "run it again when the ledger is quieter"}
	case answer.Value == "":
		return Evidence{Level: Skipped, Answer: "there is no boot_event yet: they are appended once a minute"}
	}
	return Evidence{Level: Fine, Answer: "the newest boot_event is of " + answer.Value}
}

// askStage0 shows this program's Stage-0, which is that of a sidecar of the same version, kernels that it
// must refuse: none of them is written anywhere.
func (a *auditor) askStage0(ctx context.Context) error {
	const name = "run_code"
	if a.manifest == nil {
		a.note(Skipped, "it refuses what is not as it should be", "no manifest is in force", "")
		return nil
	}
	rows, err := a.owner.Versions(ctx, a.manifest.Kernels[name])
	if err != nil {
		return fmt.Errorf("read the versions of %s: %w", name, err)
	}
	inForce, refusal := stage0.KernelInForce(a.head.trust, a.manifest, name, rows, a.now)
	if refusal != nil {
		a.note(Skipped, "it refuses what is not as it should be", "run_code itself does not boot: "+
			refusal.Message, "")
		return nil
	}
	asked := *a.manifest
	asked.Pins = nil // they name versions of the ledger, and a changed copy is none
	without := asked
	without.AllowedBootIDs = slices.DeleteFunc(slices.Clone(without.AllowedBootIDs), func(id span.ID) bool {
		return id == inForce.ID
	})
	signed := asked
	signed.Features.SignaturesRequired = span.SignaturesRequired{All: true}
	for _, c := range []struct {
		claim, shown string
		manifest     *span.Manifest
		change       func(*span.Span)
		wants        span.RunCode
	}{
		{"it refuses a kernel with one letter of its code changed", "run_code, with a letter more", &asked,
			func(s *span.Span) { s.Code = new(*s.Code + " ") }, span.RunHashMismatch},
		{"it refuses a kernel without a hash", "run_code, without curr_hash", &asked,
			func(s *span.Span) { s.CurrHash = nil }, span.RunHashMismatch},
		{"it refuses a kernel that the manifest does not allow to boot", "run_code, off allowed_boot_ids",
			&without, func(*span.Span) {}, span.RunNotAllowed},
		{"it refuses a kernel that was revoked", "run_code, revoked", &asked,
			func(s *span.Span) { s.Status = new("revoked") }, span.RunRevoked},
		{"it refuses an unsigned kernel where the manifest requires signatures", "run_code, unsigned", &signed,
			func(s *span.Span) { s.Signature = nil }, span.RunUnsigned},
	} {
		row := *inForce
		row.Status = new(*inForce.Status)
		c.change(&row)
		_, refusal := stage0.KernelInForce(a.head.trust, c.manifest, name, []*span.Span{&row}, a.now)
		e := Evidence{Level: Fault, Claim: c.claim, As: "Stage-0 of this program", Statement: c.shown,
			Answer: "it boots", Mend: "this program is not as it was built: install it again"}
		if refusal != nil {
			e.Answer = fmt.Sprintf("%s: %s", refusal.Code, refusal.Message)
			if refusal.Code == c.wants {
				e.Level, e.Mend = Fine, ""
			}
		}
		a.evidence = append(a.evidence, e)
	}
	return nil
}

// oneForm is the fifth principle.
func (a *auditor) oneForm(ctx context.Context) error {
	err := a.attempts(ctx, []attempt{
		{claim: "the ledger is one table", Step: ledger.Step{Statement: flat(tablesSQL)},
			wants: []string{"universal_registry"}, mend: "ledger.guard_check() names what is none of the ledger's"},
		{claim: "it has the columns of a span", Step: ledger.Step{Statement: flat(columnsSQL)},
			wants: []string{fmt.Sprint(len(span.Columns))}, mend: againMend},
		{claim: "manifest, kernels and policies are rows of it", Step: ledger.Step{Statement: flat(systemTypesSQL)},
			wants: []string{"3"}, mend: "run `logline bootstrap`"},
	})
	if err != nil {
		return err
	}
	for _, entityType := range []string{"request", "execution"} {
		seen := "select count(*) from (select from ledger.universal_registry where entity_type = '" + entityType +
			"' limit 1000) r"
		answers, err := a.owner.Rehearse(ctx, []ledger.Step{{Statement: seen}})
		if err != nil {
			return err
		}
		e := Evidence{Level: Fine, Claim: entityType + "s are rows of it, too (at most 1,000 are counted)",
			As: a.protection.Login, Statement: seen, Answer: answers[0].Text()}
		if answers[0].State != "" || answers[0].Value == "0" {
			e.Level, e.Mend = Skipped, nothingRan
		}
		a.evidence = append(a.evidence, e)
	}
	return a.runs(ctx, "of the newest 200 runs each leads to its request, of the same owner and tenant "+
		"(counted: those that do not)", strayRunsSQL)
}

// governed is the sixth principle. findings are of the manifest in force.
func (a *auditor) governed(ctx context.Context, findings []Finding) error {
	a.take(findings)
	if err := a.verified(ctx, a.walls); err != nil {
		return err
	}
	if a.manifest == nil {
		return nil
	}
	var allowed []string
	for name, id := range a.manifest.Kernels {
		if slices.Contains(a.manifest.AllowedBootIDs, id) {
			allowed = append(allowed, name)
		}
	}
	slices.Sort(allowed)
	level := map[bool]Level{true: Fine, false: Fault}[len(allowed) > 0]
	a.note(level, "a list says what may boot", fmt.Sprintf("%d ids: %s", len(a.manifest.AllowedBootIDs),
		strings.Join(allowed, ", ")), "docs/manifest.md")
	a.note(Fine, "limits are stated", fmt.Sprintf("a day: %d executions of a tenant, %d of a user; a "+
		"run: %d ms "+
		"of JavaScript; signatures required: %s", a.manifest.Throttle.PerTenantDailyExecLimit,
		a.manifest.Throttle.PerUserDailyExecLimit, a.manifest.Policy.TimeoutMs,
		requiredText(a.manifest.Features.SignaturesRequired)), "")
	next := func(id span.ID) string { return strings.ReplaceAll(flat(nextVersionSQL), "ID", id.String()) }
	user, governor := ledger.Claims("alice", "logline-check-a"), ledger.Claims("grace", "logline-check-a")
	governor["app_metadata"] = map[string]string{"tenant_id": "logline-check-a", "logline_role": "governor"}
	refusals := []string{string(span.CodeWriter), string(span.CodeReservedID), string(span.CodeReservedWho),
		string(span.CodeNotOwner), "42501"}
	kernel := a.manifest.Kernels["run_code"]
	return a.attempts(ctx, []attempt{
		{claim: "a user may not change the manifest", Step: ledger.Step{Role: "authenticated", Claims: user,
			Statement: next(span.ManifestID)}, wants: refusals, mend: againMend},
		{claim: "nor a kernel", Step: ledger.Step{Role: "authenticated", Claims: user, Statement: next(kernel)},
			wants: refusals, mend: againMend},
		{claim: "nor have one of his own", Step: ledger.Step{Role: "authenticated", Claims: user,
			Statement: flat(ownManifestSQL)}, wants: refusals, mend: againMend},
		{claim: "a backend (service_role) may not, either", Step: ledger.Step{Role: "service_role",
			Statement: next(span.ManifestID)}, wants: refusals, mend: againMend},
		{claim: "nor may the sidecar", Step: ledger.Step{Role: ledger.Role, Statement: next(kernel)},
			wants: refusals, mend: againMend},
		{claim: "who governs may, by his token (undone)", Step: ledger.Step{Role: "authenticated", Claims: governor,
			Statement: next(span.ManifestID)}, wants: []string{""}, mend: againMend},
	})
}

func requiredText(r span.SignaturesRequired) string {
	if r.All {
		return "all"
	}
	if len(r.Types) == 0 {
		return "none"
	}
	return strings.Join(r.Types, ", ")
}

// newestSpans is of how many spans, at most, hash and signature are computed anew.
const newestSpans = 1000

// proofs is the seventh principle.
func (a *auditor) proofs(ctx context.Context) error {
	rows, err := a.owner.NewestHashed(ctx, newestSpans)
	if err != nil {
		return err
	}
	hashed, signed, counts, others := 0, 0, 0, 0
	var faults, changed []string
	for _, row := range rows {
		fault := a.sealFault(row)
		switch {
		case fault != "" && !isOurs(row) && a.head.trust.CheckSealed(row, sign.PurposeOf(row.EntityType)) == nil:
			changed = append(changed, fault)
			continue
		case fault != "" && !isOurs(row):
			others++
			continue
		case fault != "":
			faults = append(faults, fault)
			continue
		}
		hashed++
		if row.Signature != nil {
			signed++
		}
		if a.head.trust.CheckSealed(row, sign.PurposeOf(row.EntityType)) == nil {
			counts++
		}
	}
	answer := fmt.Sprintf("%d hashes hold, %d signatures hold, %d of them lead to the pinned root", hashed,
		signed, counts)
	if len(faults) > 0 {
		answer += "; " + listedFaults(faults)
	}
	if others > 0 {
		answer += fmt.Sprintf("; %d spans that clients hashed themselves do not hold, which is theirs to answer "+
			"for", others)
	}
	a.evidence = append(a.evidence, Evidence{Level: map[bool]Level{true: Fine, false: Fault}[len(faults) == 0],
		Claim: "hashes and signatures, computed anew, are those that the spans carry", As: "this program",
		Statement: fmt.Sprintf("BLAKE3 and Ed25519 of the system's spans and the newest, %d in all", len(rows)),
		Answer:    answer, Mend: "where it is not what was hashed: compare the ledger with a backup; where a key " +
			"was revoked before: who signs with it still? docs/keys.md"})
	if len(changed) > 0 {
		a.note(Warning, "what a user has signed by a key that counts is what he signed",
			listedFaults(changed), "compare them with a backup: either they were changed past the walls, or their "+
				"author has signed something else")
	}
	a.seesTampering(rows)
	a.root(rows)
	return a.attempts(ctx, []attempt{{
		claim: "of the newest 100,000 spans each is chained to the version before it (counted: those that are not)",
		Step:  ledger.Step{Statement: flat(unchainedSQL)}, wants: []string{"0"},
		mend: "compare the ledger with a backup"}})
}

// sealFault says what does not hold of the hash and the signature of row; "" where both do, or none is there.
func (a *auditor) sealFault(row *span.Span) string {
	name := fmt.Sprintf("%s %s version %d", row.EntityType, row.ID, row.Seq)
	if row.CurrHash == nil {
		return name + " has no hash"
	}
	if row.VerifyHash() != nil {
		return name + " is not what was hashed"
	}
	if refusal := a.head.trust.CheckPresent(row); refusal != nil {
		return name + ": " + refusal.Message
	}
	return ""
}

// isOurs reports whether the system wrote row: no client may state such a who.
func isOurs(row *span.Span) bool {
	actor, _, _ := strings.Cut(row.Who, ":")
	return row.TenantID == "system" || slices.Contains([]string{"kernel", "policy", "sidecar", "system"}, actor)
}

func listedFaults(faults []string) string {
	return fmt.Sprintf("%d do not: %s", len(faults), strings.Join(faults[:min(len(faults), 5)], "; "))
}

// seesTampering changes a copy of a span, and looks whether its hash says so.
func (a *auditor) seesTampering(rows []*span.Span) {
	const claim = "one changed letter of a span is seen"
	place := slices.IndexFunc(rows, func(s *span.Span) bool { return s.VerifyHash() == nil })
	if place < 0 {
		a.note(Skipped, claim, "no span of the ledger has a hash that holds", "")
		return
	}
	row := *rows[place]
	metadata := map[string]json.RawMessage{}
	_ = json.Unmarshal(row.Metadata, &metadata) // what is none is replaced
	metadata["tampered"] = json.RawMessage("true")
	changed, err := json.Marshal(metadata)
	row.Metadata = changed
	e := Evidence{Level: Fine, Claim: claim, As: "this program", Statement: fmt.Sprintf("a copy of %s "+
		"%s version "+
		"%d, with one member more in metadata", row.EntityType, row.ID, row.Seq)}
	if fault := row.VerifyHash(); err == nil && fault != nil {
		e.Answer = fault.Error()
	} else {
		e.Level, e.Answer = Fault, "the hash holds"
		e.Mend = "this program is not as it was built: install it again"
	}
	a.evidence = append(a.evidence, e)
}

// root looks whether anybody could tell whose a signature is.
func (a *auditor) root(rows []*span.Span) {
	const claim = "a root is pinned, so that signatures tell who wrote"
	isSigned := slices.ContainsFunc(rows, func(s *span.Span) bool { return s.Signature != nil })
	switch root := a.options.TrustRoot; {
	case root != "" && a.head.trust.HasRoot():
		a.note(Fine, claim, root, "")
	case root != "":
		a.note(Fault, claim, root+" is pinned, and its key is not in the ledger", "docs/keys.md")
	case isSigned:
		a.note(Skipped, claim, "LOGLINE_TRUST_ROOT is not set here: whose the keys are was not checked",
			"set it to the fingerprint that you know: docs/keys.md")
	default:
		a.note(Warning, claim, "no span is signed: hashes show a change to who knows them, and not who wrote",
			"make keys: docs/keys.md")
	}
}
