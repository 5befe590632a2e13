package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// Evidence is one thing that was tried or read, and what came of it.
type Evidence struct {
	Level     Level  `json:"level"`
	Claim     string `json:"claim"`               // what must hold
	As        string `json:"as,omitempty"`        // the role, or the part that was asked
	Statement string `json:"statement,omitempty"` // what was tried
	Answer    string `json:"answer"`
	Mend      string `json:"mend,omitempty"`
}

// Principle is one of the seven, and the evidence for it.
type Principle struct {
	Number   int        `json:"number"`
	Name     string     `json:"name"`
	Meaning  string     `json:"meaning"`
	Level    Level      `json:"level"` // fault where any evidence is; else skipped where any is; else ok
	Evidence []Evidence `json:"evidence"`
	// Later is what can not be proved by this version at all.
	Later string `json:"later,omitempty"`
}

// Compliance is a report on the seven principles.
type Compliance struct {
	ledger.Whereabouts
	Version    string       `json:"version"` // of this program
	At         time.Time    `json:"at"`
	OK         bool         `json:"ok"` // nothing has failed
	Failed     int          `json:"failed"`
	Unchecked  int          `json:"unchecked"`
	TrustRoot  string       `json:"trust_root"` // the pinned fingerprint; "" where none is
	Keys       []sign.Entry `json:"keys"`
	Principles []Principle  `json:"principles"`
}

// auditor gathers the evidence for one principle after the other. What it tries is rolled back.
type auditor struct {
	*verifier
	manifest *span.Manifest // in force; nil where none is
	evidence []Evidence
}

// Comply tests the seven principles on a ledger, and changes nothing. tell is told of each as it is tested;
// it may be nil.
func Comply(ctx context.Context, owner *ledger.Owner, options VerifyOptions, tell func(Principle)) (
	*Compliance, error) {
	report, err := comply(ctx, owner, options, tell)
	if ctx.Err() != nil { // what was asked last may have been told as a fault
		return nil, ErrInterrupted
	}
	return report, err
}

func comply(ctx context.Context, owner *ledger.Owner, options VerifyOptions, tell func(Principle)) (
	*Compliance, error) {
	a := &auditor{verifier: &verifier{options: options, owner: owner}}
	report := &Compliance{Version: Version(), At: time.Now().UTC(), TrustRoot: options.TrustRoot}
	var err error
	if report.Whereabouts, err = owner.Whereabouts(ctx); err != nil {
		return nil, err
	}
	if !a.schema(ctx) {
		return nil, fmt.Errorf("look at the ledger: %s; %s", a.found[0].Cause, a.found[0].Mend)
	}
	if err := a.verifier.manifest(ctx); err != nil {
		return nil, err
	}
	if a.inForce != nil {
		if a.manifest, err = span.ParseManifest(a.inForce.Metadata); err != nil {
			return nil, fmt.Errorf("read the manifest in force: %w", err)
		}
	}
	if report.Keys, err = Keys(ctx, owner, options.TrustRoot); err != nil {
		return nil, err
	}
	governance := a.found
	if a.found[0].Level == Fine { // it is about the ledger
		governance = a.found[1:]
	}
	for i, p := range a.principles(governance) {
		a.evidence = nil
		if err := p.test(ctx); err != nil {
			return nil, fmt.Errorf("test %s: %w", p.Name, err)
		}
		p.Number, p.Evidence, p.Level = i+1, a.evidence, levelOf(a.evidence)
		report.add(p.Principle)
		if tell != nil && ctx.Err() == nil {
			tell(p.Principle)
		}
	}
	report.OK = report.Failed == 0
	return report, nil
}

func (c *Compliance) add(p Principle) {
	for _, e := range p.Evidence {
		switch e.Level {
		case Fault:
			c.Failed++
		case Skipped:
			c.Unchecked++
		}
	}
	c.Principles = append(c.Principles, p)
}

// levelOf is the worst of some evidence.
func levelOf(evidence []Evidence) Level {
	for _, level := range []Level{Fault, Skipped, Warning} {
		if slices.ContainsFunc(evidence, func(e Evidence) bool { return e.Level == level }) {
			return level
		}
	}
	return Fine
}

// tested is a principle and its test, which appends to the auditor's evidence.
type tested struct {
	Principle
	test func(context.Context) error
}

func (a *auditor) principles(governance []Finding) []tested {
	return []tested{
		{Principle{Name: "Ledger first",
			Meaning: "What the system does is in the ledger: kernels, policies and rules are spans with " +
				"versions, and what ran names the very versions that ran."}, a.ledgerFirst},
		{Principle{Name: "Append-only",
			Meaning: "Nothing that was written is changed or removed, by anybody; state moves by a next version."},
			a.nothingChanges},
		{Principle{Name: "Stage-0",
			Meaning: "The one part outside the ledger is a fixed loader: it boots what the manifest " +
				"allows, if it is what was hashed, and records that."}, a.fixedLoader},
		{Principle{Name: "Tenants apart",
			Meaning: "Row level security keeps tenants and owners apart, by the verified token alone."},
			a.tenantsApart},
		{Principle{Name: "Everything is a span",
			Meaning: "Functions, requests, executions, policies, keys and rules are rows of one table, in one form."},
			a.oneForm},
		{Principle{Name: "Governed by the manifest",
			Meaning: "One span says what may boot, who may do what, and the limits; only who governs changes it."},
			func(ctx context.Context) error { return a.governed(ctx, governance) }},
		{Principle{Name: "Proofs",
			Meaning: "Each span of the system carries the hash of all that it says, chained to the version before, " +
				"and a signature where there is a key.",
			Later: "That the owner of the database has removed or rewritten no span can not be proved by hashes and " +
				"signatures. The transparency log (a Merkle tree over all spans, signed checkpoints, anchors " +
				"outside) is for that, and is not there yet in this version. Until then the walls are detected " +
				"to have fallen (ledger.guard_check()), and a backup can be compared."}, a.proofs},
	}
}

// note appends evidence that was read, not tried.
func (a *auditor) note(level Level, claim, answer, mend string) {
	a.evidence = append(a.evidence, Evidence{Level: level, Claim: claim, Answer: answer, Mend: mend})
}

// take appends findings of the verifier as evidence.
func (a *auditor) take(findings []Finding) {
	for _, f := range findings {
		a.note(f.Level, f.Check, f.Cause, f.Mend)
	}
}

// verified runs a check of the verifier and takes what it finds.
func (a *auditor) verified(ctx context.Context, check func(context.Context) error) error {
	before := len(a.found)
	if err := check(ctx); err != nil {
		return err
	}
	a.take(a.found[before:])
	return nil
}

// attempt is one statement that is tried, and what must be answered: a SQLSTATE, or the first value that it
// returns; "" is that it is let through.
type attempt struct {
	claim string
	ledger.Step
	wants []string
	mend  string
}

// attempts tries all of list in one transaction, which is rolled back.
func (a *auditor) attempts(ctx context.Context, list []attempt) error {
	steps := make([]ledger.Step, len(list))
	for i := range list {
		steps[i] = list[i].Step
	}
	answers, err := a.owner.Rehearse(ctx, steps)
	if err != nil {
		return err
	}
	for i, answer := range answers {
		e := Evidence{Level: Fine, Claim: list[i].claim, As: asText(a.protection.Login, steps[i]),
			Statement: steps[i].Statement, Answer: answer.Text()}
		got := answer.Value
		if answer.State != "" || slices.Contains(list[i].wants, "") {
			got = answer.State
		}
		switch {
		case answer.Barred != "":
			e.Level, e.Mend = Skipped, rightsMend
		case slices.Contains([]string{"57014", "55P03"}, answer.State):
			e.Level, e.Mend = Skipped, "run it again when the ledger is quieter"
		case !slices.Contains(list[i].wants, got):
			e.Level, e.Mend = Fault, list[i].mend
		}
		a.evidence = append(a.evidence, e)
	}
	return nil
}

// asText says who a step was tried as.
func asText(login string, step ledger.Step) string {
	if step.Role == "" {
		return login
	}
	if step.Claims == nil {
		return step.Role
	}
	tenant := ""
	if metadata, isThere := step.Claims["app_metadata"].(map[string]string); isThere {
		tenant = " of " + metadata["tenant_id"]
		if role := metadata["logline_role"]; role != "" {
			tenant += ", " + role
		}
	}
	return fmt.Sprintf("%s, %s%s", step.Role, step.Claims["sub"], tenant)
}
