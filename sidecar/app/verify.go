package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/stage0"
	"github.com/loglineos/loglineos/supabase"
)

// VerifyOptions say what a ledger is verified against.
type VerifyOptions struct {
	TrustRoot         string // the pinned fingerprint; "" where none is
	URL               string // of a sidecar, to ask /readyz
	Slot, Publication string
	// Tell is called before each part, with its name; nil: nobody.
	Tell func(part string)
}

// Verification is what `logline verify` found.
type Verification struct {
	ledger.Whereabouts
	Version   string    `json:"version"` // of this program
	At        time.Time `json:"at"`
	OK        bool      `json:"ok"` // nothing has failed
	Failed    int       `json:"failed"`
	Unchecked int       `json:"unchecked"`
	Checks    []Finding `json:"checks"`
}

// wallsMost is how many fallen walls are looked at.
const wallsMost = 200

// verifier makes one Verification. Each fallen wall is told by the check that it belongs to, and by no other.
type verifier struct {
	options VerifyOptions
	owner   *ledger.Owner
	found   []Finding

	database string // its name

	protection ledger.Protection
	fallen     map[string][]ledger.Wall // by check
	wallsFault error                    // the walls can not be asked
	leading    ledger.Leadership
	leadFault  error

	head    *manifestHead
	inForce *span.Span
	now     time.Time
}

// Verify looks whether a ledger is whole: what must be there is there, counts and stands, and what must not
// be possible is tried, in transactions that are rolled back. It changes nothing. What it can not check it
// says.
func Verify(ctx context.Context, owner *ledger.Owner, options VerifyOptions) (*Verification, error) {
	result, err := verify(ctx, owner, options)
	if ctx.Err() != nil { // what was asked last may have been told as a fault
		return nil, ErrInterrupted
	}
	return result, err
}

func verify(ctx context.Context, owner *ledger.Owner, options VerifyOptions) (*Verification, error) {
	v := &verifier{options: options, owner: owner}
	result := &Verification{Version: Version(), At: time.Now().UTC()}
	var err error
	if result.Whereabouts, err = owner.Whereabouts(ctx); err != nil {
		return nil, err
	}
	v.database = result.Database
	if v.schema(ctx) {
		for _, part := range []struct {
			name  string
			check func(context.Context) error
		}{{"the manifest", v.manifest}, {"the root", v.root}, {"the kernels", v.boots},
			{"row level security", v.rowSecurity}, {"append-only, by trying", v.appendOnly}, {"the walls", v.walls},
			{"definers", v.definers}, {"the publication", v.publication}, {"the workers", v.workers},
			{"Stage-0", v.loader}, {"the slot", v.slot}} {
			if options.Tell != nil {
				options.Tell(part.name)
			}
			if err := part.check(ctx); err != nil {
				return nil, err
			}
		}
	}
	for _, f := range v.found {
		switch f.Level {
		case Fault:
			result.Failed++
		case Skipped:
			result.Unchecked++
		}
	}
	result.OK, result.Checks = result.Failed == 0, v.found
	return result, nil
}

// ErrInterrupted is a wish to stop while something was looked at: it says nothing about the ledger.
var ErrInterrupted = errors.New("interrupted: nothing was changed, and nothing is told")

func (v *verifier) add(check string, level Level, cause, mend string) {
	v.found = append(v.found, Finding{check, level, cause, mend})
}

func (v *verifier) hasFailed() bool { return !Sound(v.found) }

// schema looks whether there is one that this program knows, and asks what the other checks share.
func (v *verifier) schema(ctx context.Context) bool {
	const check = "ledger"
	fault := v.owner.Examination().Ledger(ctx)
	if fault != nil && !errors.Is(fault, ledger.ErrRestored) { // which leaves all else to be looked at
		cause, mend := cutMend(fault)
		if ledger.StateOf(fault) == "42501" {
			v.add(check, Fault, "this login may not look into it: "+unwrapped(fault), rightsMend)
		} else {
			v.add(check, Fault, cause, mend)
		}
		v.add("everything else", Skipped, "there is no ledger that could be looked at", "")
		return false
	}
	var err error
	if v.protection, err = v.owner.Protection(ctx); err != nil {
		v.add(check, Fault, unwrapped(err), rightsMend)
		return false
	}
	switch p := v.protection; {
	case p.IsStandby || p.IsFrozen:
		where := map[bool]string{true: "the server is a standby",
			false: "the transactions of this login are read-only"}[p.IsStandby]
		v.add(check, Fault, where+": nothing can be tried", "connect to the primary, as who may write")
		v.add("everything else", Skipped, "it is looked at where it can be tried", "")
		return false
	case fault != nil:
		cause, mend := cutMend(fault)
		v.add(check, Fault, cause, mend)
	default:
		who := map[bool]string{true: "its owner", false: "who is not its owner"}[p.IsOwner]
		v.add(check, Fine, fmt.Sprintf("its version suits this program, its import door is shut; looked at as "+
			"%q, %s", p.Login, who), "")
	}
	v.askWalls(ctx)
	v.leading, v.leadFault = v.owner.Examination().Leadership(ctx, v.options.Slot, leaderLock)
	return true
}

const (
	rightsMend = "use the login that owns the database (DATABASE_URL of up.env; on Supabase postgres)"
	againMend  = "run `logline migrate --again` as the owner"
)

// askWalls asks ledger.guard_check, and sorts what it says.
func (v *verifier) askWalls(ctx context.Context) {
	migrations, err := ledger.Migrations(supabase.Migrations, "migrations")
	if err != nil {
		v.wallsFault = err
		return
	}
	walls, _, err := v.owner.Examination().Walls(ctx, migrations[len(migrations)-1].SQL, wallsMost)
	v.wallsFault, v.fallen = err, map[string][]ledger.Wall{}
	for _, wall := range walls {
		check := wallCheck(wall)
		v.fallen[check] = append(v.fallen[check], wall)
	}
}

// The checks that tell of fallen walls.
const (
	checkRows        = "row level security"
	checkAppend      = "append-only"
	checkWalls       = "walls"
	checkPublication = "publication"
)

// wallCheck is the check that a wall belongs to.
func wallCheck(wall ledger.Wall) string {
	kind, name, _ := strings.Cut(wall.Name, " ")
	verb, _, _ := strings.Cut(name, " ")
	switch {
	case kind == "trigger" && strings.HasPrefix(name, "universal_registry_before_change_"),
		kind == "function" && strings.HasPrefix(name, "ledger.refuse_change("),
		kind == "rule", kind == "right" && slices.Contains([]string{"update", "delete", "truncate"}, verb):
		return checkAppend
	case kind == "policy", kind == "table" && strings.HasPrefix(wall.Problem, "row level security"):
		return checkRows
	case kind == "publication":
		return checkPublication
	}
	return checkWalls
}

// fell tells of the fallen walls of a check, and reports whether there are any.
func (v *verifier) fell(check string) bool {
	for _, wall := range v.fallen[check] {
		v.add(check, Fault, wall.Name+" "+wall.Problem, wall.Mend)
	}
	return len(v.fallen[check]) > 0
}

func (v *verifier) walls(context.Context) error {
	switch {
	case v.wallsFault != nil && ledger.StateOf(v.wallsFault) == "42501":
		v.add(checkWalls, Skipped, "this login may not ask ledger.guard_check(): "+unwrapped(v.wallsFault),
			rightsMend)
	case v.wallsFault != nil:
		v.add(checkWalls, Fault, unwrapped(v.wallsFault), againMend)
	case !v.fell(checkWalls):
		v.add(checkWalls, Fine, "every other wall stands: triggers, rights, functions, views "+
			"(ledger.guard_check())", "")
	}
	return nil
}

func (v *verifier) manifest(ctx context.Context) (err error) {
	const check = "manifest"
	if v.head, err = readHead(ctx, v.owner, v.options.TrustRoot, nil); err != nil {
		return err
	}
	if v.now, err = v.owner.Now(ctx); err != nil {
		return err
	}
	v.inForce = stage0.ManifestInForce(v.head.trust, v.head.versions, v.now)
	const mend = "append one that counts: docs/manifest.md, or `logline bootstrap --rollback manifest`"
	switch {
	case v.head.newest == nil:
		v.add(check, Fault, "the ledger has none", "run `logline bootstrap`")
	case v.inForce == nil && v.head.fault != nil:
		v.add(check, Fault, "none is in force: "+v.head.fault.Error(), mend)
	case v.inForce == nil:
		v.add(check, Fault, "none is in force yet", mend)
	case v.head.fault != nil:
		v.add(check, Fault, v.head.fault.Error(), mend)
	default:
		cause := fmt.Sprintf("version %d is in force, %s", v.inForce.Seq, v.sealOf(v.inForce))
		if v.inForce.Seq != v.head.newest.Seq {
			cause += fmt.Sprintf("; version %d waits for its time", v.head.newest.Seq)
		}
		level, mend := v.vouched(v.inForce)
		v.add(check, level, cause, mend)
	}
	return nil
}

// root looks whether the ledger has the key that is pinned: else no signature tells anything.
func (v *verifier) root(context.Context) error {
	const check = "root"
	switch pinned := v.options.TrustRoot; {
	case pinned == "":
	case v.head.trust.HasRoot():
		v.add(check, Fine, pinned+" is pinned, and in the ledger", "")
	default:
		v.add(check, Fault, pinned+" is pinned, and its key is not in the ledger: no signature counts",
			"see that this is the right ledger and the right root; `logline keys publish FILE --root`")
	}
	return nil
}

// vouched is Fine where a signature under the pinned root is on row, or no root is pinned.
func (v *verifier) vouched(row *span.Span) (level Level, mend string) {
	if v.options.TrustRoot == "" || v.head.trust.CheckSealed(row, sign.PurposeOf(row.EntityType)) == nil {
		return Fine, ""
	}
	return Warning, "a root is pinned: sign it (`logline bootstrap --key FILE`, `logline manifest --key FILE`)"
}

// sealOf says what vouches for a row whose hash has been found right.
func (v *verifier) sealOf(row *span.Span) string {
	hash := "without a hash"
	if row.CurrHash != nil {
		hash = fmt.Sprintf("hash %.12s…", *row.CurrHash)
	}
	switch signer := signerOf(row); {
	case signer == "":
		return hash + ", unsigned, as the manifest lets"
	case v.head.trust.CheckSealed(row, sign.PurposeOf(row.EntityType)) != nil:
		return fmt.Sprintf("%s, signed by %.12s…, which does not lead to a pinned root", hash, signer)
	default:
		return fmt.Sprintf("%s, signed by %.12s…", hash, signer)
	}
}

func (v *verifier) boots(ctx context.Context) error {
	all, err := kernels.All()
	if err != nil {
		return err
	}
	if v.inForce == nil {
		v.add("kernels", Skipped, "no manifest is in force that says which boot", "")
		return nil
	}
	manifest, err := span.ParseManifest(v.inForce.Metadata)
	if err != nil {
		return fmt.Errorf("read the manifest in force: %w", err)
	}
	for _, kernel := range all {
		rows, err := v.owner.Versions(ctx, kernel.ID)
		if err != nil {
			return fmt.Errorf("read the versions of %s: %w", kernel.Name, err)
		}
		v.kernel(kernel, manifest, rows)
	}
	return nil
}

// kernel judges one as Stage-0 does at its boot.
func (v *verifier) kernel(kernel kernels.Kernel, manifest *span.Manifest, rows []*span.Span) {
	check := "kernel " + kernel.Name
	if id := manifest.Kernels[kernel.Name]; id != kernel.ID {
		v.add(check, Warning, fmt.Sprintf("the manifest gives its name to %s, not to %s", id, kernel.ID),
			"if nobody meant it: `logline manifest`")
		return
	}
	row, refusal := stage0.KernelInForce(v.head.trust, manifest, kernel.Name, rows, v.now)
	mend := fmt.Sprintf("run `logline bootstrap --kernels`; where it keeps what stands, --over %s; or "+
		"--rollback %[1]s", kernel.Name)
	switch {
	case refusal != nil:
		v.add(check, Fault, fmt.Sprintf("%s: %s", refusal.Code, refusal.Message), mend)
	case *row.Code != kernel.Source:
		level := Warning // its author may govern; but who pins a root has said who does
		if vouched, _ := v.vouched(row); vouched != Fine {
			level = Fault
		}
		v.add(check, level, fmt.Sprintf("version %d by %s boots, %s; its code is not what this program ships",
			row.Seq, row.Who, v.sealOf(row)), "if nobody meant it: `logline bootstrap --kernels --diff`, then "+mend)
	default:
		level, mend := v.vouched(row)
		v.add(check, level, fmt.Sprintf("%s version %d, %d bytes of code as shipped, %s", kernel.ID, row.Seq,
			len(*row.Code), v.sealOf(row)), mend)
	}
}

func (v *verifier) publication(ctx context.Context) error {
	if v.fell(checkPublication) {
		return nil
	}
	columns, err := v.owner.Examination().Publication(ctx, v.options.Publication)
	const mend = "run `logline migrate --again` as the owner, or set LOGLINE_PUBLICATION"
	switch {
	case err != nil:
		return err
	case len(columns) == 0:
		v.add(checkPublication, Fault, fmt.Sprintf("%q does not publish ledger.universal_registry",
			v.options.Publication), mend)
		return nil
	}
	for _, name := range span.PublishedColumns {
		if !slices.Contains(columns, name) {
			v.add(checkPublication, Fault, fmt.Sprintf("%q lacks the column %s", v.options.Publication, name), mend)
			return nil
		}
	}
	v.add(checkPublication, Fine, fmt.Sprintf("%q has the %d columns that a sidecar reads",
		v.options.Publication,
		len(span.PublishedColumns)), "")
	return nil
}
