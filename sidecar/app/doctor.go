package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/supabase"
)

// Level is how bad a finding is.
type Level string

// The levels. Skipped is what could not be looked at because of a fault before it.
const (
	Fine    Level = "ok"
	Warning Level = "warn"
	Fault   Level = "fault"
	Skipped Level = "skipped"
)

// Finding is one line of `logline doctor`: what was looked at, what was found, and what to do about it.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Cause string `json:"cause"`
	Mend  string `json:"mend,omitempty"`
}

// Bounds of what the doctor calls normal.
const (
	doctorPatience  = 10 * time.Second // for one check
	oldTransaction  = time.Minute
	clockWarning    = time.Second
	clockFault      = time.Minute
	keepLeast       = 1 << 30 // of max_slot_wal_keep_size
	retainedWarning = 1 << 30
	wallsShown      = 5
	olderServer     = 150000
	newerServer     = 190000
)

// Network is how the doctor asks the network; tests put theirs in its place.
type Network struct {
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Routes func(address netip.Addr) bool // this machine has a way to it
}

// doctor examines one configuration. Each step appends findings and says whether the next ones make sense.
type doctor struct {
	config   *config.Config // nil where the environment is faulty
	database string
	network  Network
	found    []Finding

	target  ledger.Target
	session *ledger.Examination
	server  ledger.Server
	leading ledger.Leadership // the zero value where it can not be read
}

// Doctor looks at everything that `logline serve` needs, in the order in which it needs it, and changes
// nothing. databaseURL goes before DATABASE_URL; configuration is nil where fault says why the environment
// can not be read. Nothing that it returns holds a password.
func Doctor(ctx context.Context, databaseURL string, configuration *config.Config, fault error,
	network Network) []Finding {
	d := &doctor{config: configuration, database: databaseURL, network: network}
	d.environment(fault)
	if d.database == "" {
		d.fault("connection", "no database is named", "set DATABASE_URL, or give --database postgres://…")
		return d.found
	}
	if !d.reach(ctx) || !d.connect(ctx) {
		d.skip("database", "nothing in it is looked at: it can not be reached")
		return d.found
	}
	defer func() { _ = d.session.Close(context.WithoutCancel(ctx)) }()
	d.pooler(ctx)
	if d.examineServer(ctx) {
		d.leadership(ctx)
		if d.polls() {
			d.skip("replication", "LOGLINE_SOURCE is poll: neither wal_level nor a slot is needed")
		} else {
			d.replication(ctx)
			d.slots(ctx)
		}
		d.transactions(ctx)
		d.clock()
	}
	if d.role(ctx) && d.schema(ctx) {
		d.walls(ctx)
		d.publication(ctx)
		d.leader(ctx)
		d.manifest(ctx)
	}
	return d.found
}

// Sound reports whether no finding is a fault.
func Sound(found []Finding) bool {
	return !slices.ContainsFunc(found, func(f Finding) bool { return f.Level == Fault })
}

func (d *doctor) fine(check, cause string) { d.add(check, Fine, cause, "") }

func (d *doctor) warn(check, cause, mend string) { d.add(check, Warning, cause, mend) }

func (d *doctor) fault(check, cause, mend string) { d.add(check, Fault, cause, mend) }

func (d *doctor) skip(check, cause string) { d.add(check, Skipped, cause, "") }

func (d *doctor) add(check string, level Level, cause, mend string) {
	d.found = append(d.found, Finding{check, level, cause, mend})
}

func (d *doctor) environment(fault error) {
	if fault != nil {
		for line := range strings.Lines(fault.Error()) {
			line = strings.TrimSpace(line)
			// Where the database alone is asked for, its absence is told below, or --database stands in for it.
			if strings.HasPrefix(line, "DATABASE_URL is empty") || strings.HasPrefix(line, "required key DATABASE") {
				continue
			}
			cause, mend, _ := strings.Cut(line, ": ")
			d.fault("environment", cause, mend)
		}
		return
	}
	for _, name := range config.Unknown() {
		d.warn("environment", name+" is set, and nothing reads it", "correct its name: .env.example lists all")
	}
	for _, v := range config.FormerSet() {
		d.warn("environment", v.Name+", of the reference implementation, is set, and nothing reads it", v.Now)
	}
	if config.HasOwnerURL() {
		d.warn("environment", "OWNER_URL is set: a sidecar needs no owner's login, and whoever takes the sidecar "+
			"over would have it", "take it out of the sidecar's environment; give commands --database")
	}
	if len(config.Unknown()) == 0 && len(config.FormerSet()) == 0 {
		d.fine("environment", "every variable is understood")
	}
}

// replicationURL is where the tail would stream from.
func (d *doctor) replicationURL() string {
	if d.config != nil && d.config.ReplicationURL != "" && d.config.ReplicationURL != d.config.DatabaseURL {
		return d.config.ReplicationURL
	}
	return d.database
}

func (d *doctor) polls() bool { return d.config != nil && d.config.Source == "poll" }

func (d *doctor) slotName() string {
	if d.config != nil {
		return d.config.Slot
	}
	return "loglineos"
}

func (d *doctor) publicationName() string {
	if d.config != nil {
		return d.config.Publication
	}
	return "loglineos"
}

// within bounds one check.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, doctorPatience)
}

// cutMend splits the words of an error of ours into cause and mend; others have no mend.
func cutMend(err error) (cause, mend string) {
	text, _, _ := strings.Cut(err.Error(), ": ERROR: ") // the server's own words say less
	for _, mark := range []string{": run `", ": use the", ": connect as", "; configure ", ": set "} {
		if at := strings.Index(text, mark); at >= 0 {
			return text[:at], strings.TrimSpace(text[at+1:])
		}
	}
	return text, ""
}

func (d *doctor) role(ctx context.Context) bool {
	ctx, cancel := within(ctx)
	defer cancel()
	if err := d.session.Assume(ctx); err != nil {
		cause, mend := cutMend(err)
		d.fault("role", cause, mend)
		d.skip("ledger", "it, walls, publication, leader and manifest are looked at as the role "+ledger.Role)
		return false
	}
	d.fine("role", fmt.Sprintf("%q works as %s", d.target.User, ledger.Role))
	// Who names another database himself means no sidecar. Where there is no ledger, that is told next.
	if d.database != config.DatabaseURL() {
		return true
	}
	if login, err := d.session.Owner().Protection(ctx); err == nil && (login.IsOwner || login.IsBypassed) {
		d.warn("role", fmt.Sprintf("%q owns the ledger, or row level security does not bind it: for commands "+
			"that is right, for a sidecar too much", d.target.User), "make a login of its own: logline login")
	}
	return true
}

func (d *doctor) schema(ctx context.Context) bool {
	ctx, cancel := within(ctx)
	defer cancel()
	if err := d.session.Ledger(ctx); err != nil {
		cause, mend := cutMend(err)
		d.fault("ledger", cause, mend)
		d.skip("walls", "neither they, publication, leader nor manifest: there is no ledger that this version can "+
			"work on")
		return false
	}
	d.fine("ledger", "its version suits, its import door is shut, no rows of another server are open")
	return true
}

func (d *doctor) walls(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	migrations, err := ledger.Migrations(supabase.Migrations, "migrations")
	if err != nil {
		d.fault("walls", err.Error(), "build logline from a whole checkout")
		return
	}
	fallen, count, err := d.session.Walls(ctx, migrations[len(migrations)-1].SQL, wallsShown)
	if err != nil {
		d.fault("walls", err.Error(), "run `logline migrate --again` as the owner")
		return
	}
	for _, wall := range fallen {
		d.fault("walls", wall.Name+" "+wall.Problem, wall.Mend)
	}
	switch {
	case count == 0:
		d.fine("walls", "every wall of the ledger stands (ledger.guard_check())")
	case count > len(fallen):
		d.fault("walls", fmt.Sprintf("and %d more", count-len(fallen)), "select * from ledger.guard_check()")
	}
}

func (d *doctor) manifest(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	var root string
	var signer *sign.Signer
	if d.config != nil {
		root = d.config.TrustRoot
		key, err := signingKey(d.config)
		if err != nil {
			d.fault("signing key", err.Error(), keyMend(err))
		} else if key != nil {
			signer = sign.NewSigner(key)
		}
	}
	head, err := readHead(ctx, d.session.Owner(), root, nil)
	switch {
	case err != nil:
		d.fault("manifest", err.Error(), "")
		return
	case head.newest == nil:
		d.fault("manifest", "the ledger has none", "run `logline bootstrap` as the owner")
		return
	case head.base == nil:
		d.fault("manifest", head.fault.Error(), "append one that counts: docs/manifest.md")
	case head.fault != nil:
		d.warn("manifest", head.fault.Error(), "append one that counts: docs/manifest.md")
	default:
		d.fine("manifest", fmt.Sprintf("version %d", head.base.Seq))
	}
	d.signing(head, root, signer)
}

// signing tells whether what this sidecar appends would count.
func (d *doctor) signing(head *manifestHead, root string, signer *sign.Signer) {
	switch {
	case !signer.Signs() && head.requires("execution"):
		d.fault("signing key", "the manifest wants executions signed, and no key is configured",
			"set LOGLINE_SIGNING_KEY_FILE (docs/keys.md)")
	case !signer.Signs() && root != "":
		d.warn("signing key", "a root is pinned, and no key is configured: what the sidecar appends is not signed",
			"set LOGLINE_SIGNING_KEY_FILE (docs/keys.md)")
	case !signer.Signs():
		d.fine("signing key", "none is configured, and none is wanted: spans are hashed")
	case root == "":
		d.warn("signing key", "spans are signed, and no root is pinned", "set LOGLINE_TRUST_ROOT (docs/keys.md)")
	default:
		if err := head.trust.Vouch(signer.Public(), sign.PurposeSpan); err != nil {
			d.fault("signing key", err.Error(), "publish it, or make another: docs/keys.md")
			return
		}
		d.fine("signing key", "it leads to the pinned root")
	}
}

// keyMend is what to do about a key that can not be read.
func keyMend(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "correct the path in LOGLINE_SIGNING_KEY_FILE; or, where there is no key yet, make one: docs/keys.md"
	}
	return "let its owner alone read it (mode 0600); or make another: docs/keys.md"
}

// unwrapped is the innermost text of an error that names no secret.
func unwrapped(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
