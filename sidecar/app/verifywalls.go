package app

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
)

// truncateTries is how often a truncate is tried that did not get its lock: others use the ledger.
const truncateTries = 2

// clientRoles are the roles that come into the ledger without owning it.
func clientRoles() []string {
	return []string{"anon", "authenticated", "service_role", ledger.Role, ledger.KernelRole}
}

// changes are the statements that the ledger refuses to everybody. All but the last touch the manifest's
// first version, which every ledger has, or no row; each has to be refused by itself.
func changes() []string {
	at := "where id = '" + span.ManifestID.String() + "' and seq = 0"
	return []string{
		"update ledger.universal_registry set status = status where false",
		"update ledger.universal_registry set status = 'changed' " + at,
		"delete from ledger.universal_registry where false",
		"delete from ledger.universal_registry " + at,
		"insert into ledger.universal_registry select * from ledger.universal_registry " + at +
			" on conflict (id, seq) do update set status = 'changed'",
		"truncate ledger.universal_registry",
	}
}

// trial is one statement that was tried as a role and undone, and what Postgres said.
type trial struct {
	as, statement, answer string
	isRefused, isUntried  bool
}

// trials are those of one role, by what became of them.
type trials struct{ all, through, refused, untried []trial }

// tryChanges tries all of changes as a role ("": the login).
func tryChanges(ctx context.Context, owner *ledger.Owner, role, login string) (tried trials, err error) {
	for _, statement := range changes() {
		var answer ledger.Answer
		for range truncateTries {
			answers, err := owner.Rehearse(ctx, []ledger.Step{{Role: role, Statement: statement}})
			if err != nil {
				return tried, err
			}
			if answer = answers[0]; answer.State != "55P03" {
				break
			}
		}
		isRefusal := answer.State == string(span.CodeAppendOnly) || answer.State == "42501"
		one := trial{as: cmp.Or(role, login), statement: statement, answer: answer.Text(),
			isRefused: answer.Barred == "" && isRefusal,
			isUntried: answer.Barred != "" || answer.State != "" && !isRefusal}
		tried.all = append(tried.all, one)
		switch {
		case one.isUntried:
			tried.untried = append(tried.untried, one)
		case one.isRefused:
			tried.refused = append(tried.refused, one)
		default:
			tried.through = append(tried.through, one)
		}
	}
	return tried, nil
}

// appendOnly tries to change what stands, as the owner and as every role that clients have.
func (v *verifier) appendOnly(ctx context.Context) error {
	hasFallen := v.fell(checkAppend)
	for _, role := range append([]string{""}, clientRoles()...) {
		check, who := checkAppend+" "+role, role
		if role == "" {
			check, who = checkAppend, v.protection.Login
		}
		tried, err := tryChanges(ctx, v.owner, role, v.protection.Login)
		switch {
		case err != nil:
			return err
		case len(tried.through) > 0 && hasFallen: // told already, by the wall that fell
		case len(tried.through) > 0:
			v.add(check, Fault, fmt.Sprintf("%s may run: %s", who, tried.through[0].statement), againMend)
		case len(tried.untried) > 0:
			v.add(check, Skipped, fmt.Sprintf("as %s: %s: %s", who, tried.untried[0].statement,
				tried.untried[0].answer),
				untriedMend(tried.untried[0]))
		case role == "" && !v.protection.IsOwner:
			v.add(check, Skipped, fmt.Sprintf("%q is not the owner (%q is): whether the owner is refused was not "+
				"tried", v.protection.Login, v.protection.Owner), rightsMend)
		case role == "" && hasFallen:
		default:
			v.add(check, Fine, fmt.Sprintf("update, delete, truncate and upsert as %s were tried, and "+
				"refused: %s", who,
				states(tried.refused)), "")
		}
	}
	return nil
}

func untriedMend(one trial) string {
	if strings.HasPrefix(one.answer, "55P03") {
		return "others hold the ledger: run it again when it is quieter"
	}
	return rightsMend
}

// states are the codes of refusals, each once.
func states(refused []trial) string {
	var codes []string
	seen := map[string]bool{}
	for _, one := range refused {
		code, _, _ := strings.Cut(one.answer, " ")
		if !seen[code] {
			seen[code], codes = true, append(codes, code)
		}
	}
	return strings.Join(codes, ", ")
}

// insertNote appends a span as a client does, visible as stated; its owner is who the claims name.
func insertNote(visibility string) string {
	return "insert into ledger.universal_registry (entity_type, this, visibility) values ('note', " +
		"'logline.check', '" +
		visibility + "') returning id"
}

// readNotes counts what its reader sees of them.
const readNotes = "select count(*) from ledger.universal_registry " +
	"where entity_type = 'note' and this = 'logline.check' and tenant_id = 'logline-check-a'"

// rowSecurity looks at the settings and the policies, and has a stranger look for somebody's rows.
func (v *verifier) rowSecurity(ctx context.Context) error {
	if v.fell(checkRows) {
		return nil
	}
	switch p := v.protection; {
	case !p.IsOn || !p.IsForced: // where guard_check could not be asked
		v.add(checkRows, Fault, fmt.Sprintf("on: %t, forced: %t", p.IsOn, p.IsForced),
			"alter table ledger.universal_registry enable row level security, force row level security")
		return nil
	case p.Policies == 0:
		v.add(checkRows, Fault, "the ledger has no policies", againMend)
		return nil
	}
	const a, b = "logline-check-a", "logline-check-b"
	trials := []struct {
		ledger.Step
		wants string
	}{
		{ledger.Step{Role: "authenticated", Claims: ledger.Claims("alice", a), Statement: insertNote("private"),
			Keep: true}, ""},
		{ledger.Step{Role: "authenticated", Claims: ledger.Claims("alice", a), Statement: readNotes}, "1"},
		{ledger.Step{Role: "authenticated", Claims: ledger.Claims("carol", a), Statement: readNotes}, "0"},
		{ledger.Step{Role: "authenticated", Claims: ledger.Claims("alice", b), Statement: readNotes}, "0"},
		{ledger.Step{Role: "authenticated", Statement: readNotes}, "0"},
		{ledger.Step{Role: "anon", Statement: readNotes}, "0"},
		{ledger.Step{Role: "authenticated", Claims: ledger.Claims("bob", b), Statement: "insert into " +
			"ledger.universal_registry (entity_type, this, owner_id, tenant_id) values ('note', 'logline.check', " +
			"'alice', '" + a + "')"}, string(span.CodeNotOwner)},
	}
	steps := make([]ledger.Step, len(trials))
	for i := range trials {
		steps[i] = trials[i].Step
	}
	answers, err := v.owner.Rehearse(ctx, steps)
	if err != nil {
		return err
	}
	for i, answer := range answers {
		got := answer.Value
		if answer.State != "" {
			got = answer.State
		}
		switch {
		case answer.Barred != "":
			v.add(checkRows, Skipped, fmt.Sprintf("on and forced, %d policies as built; that strangers see nothing "+
				"was not tried: %s", v.protection.Policies, answer.Barred), rightsMend)
			return nil
		case i == 0 && answer.State != "" && len(v.fallen[checkWalls]) > 0:
			v.add(checkRows, Skipped, fmt.Sprintf("on and forced, %d policies as built; that strangers see nothing "+
				"was not tried: the walls told below let nobody append", v.protection.Policies), "")
			return nil
		case trials[i].wants == "" && answer.State != "", trials[i].wants != "" && got != trials[i].wants:
			v.add(checkRows, Fault, fmt.Sprintf("as %s %v: %s: %s", steps[i].Role, steps[i].Claims["sub"],
				steps[i].Statement, answer.Text()), againMend)
			return nil
		}
	}
	v.add(checkRows, Fine, fmt.Sprintf("on and forced, %d policies as built; of a row made for it "+
		"another user, "+
		"another tenant, a token without claims and anon saw nothing", v.protection.Policies), "")
	return nil
}

// definersMost is how many functions are named.
const definersMost = 10

// definers names what runs with the rights of an owner for whoever calls it. What it lets them do Postgres
// does not tell: one that executes its argument gives everything away.
func (v *verifier) definers(ctx context.Context) error {
	const check = "definers"
	found, err := v.owner.Definers(ctx, []string{"anon", "authenticated"})
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		v.add(check, Fine, "no function outside the ledger runs with its owner's rights for clients", "")
		return nil
	}
	named := strings.Join(found[:min(len(found), definersMost)], ", ")
	if more := len(found) - definersMost; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	v.add(check, Warning, "row level security does not bind these, and clients may call them: "+named,
		"read them; `revoke execute on function … from public, anon, authenticated` where they do not need it")
	return nil
}
