package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

const bootstrapHelp = `Usage: logline bootstrap [--kernels] [--policies] [--diff | --check] [--key FILE]
       logline bootstrap --rollback NAME[@VERSION] [--diff] [--key FILE]

Publishes the five kernels and the eight policies of the system into the ledger, each as its next version
where its code has changed, and the default manifest (named kernel_manifest) where there is none. Running
it again changes nothing. A kernel whose newest version a governor wrote (its who says so, or it lacks the
signature that bootstrap's have) is kept, and said so; so is a manifest that is there. The login must own
the database (on Supabase: postgres). A sidecar takes the new versions up in milliseconds.

    --kernels        the kernels alone
    --policies       the policies alone
    --diff           change nothing; show what would change, line by line, and how the manifest differs from
                     the one that this version ships. It needs no key, and takes it that one will be given
    --check          as --diff, and exit with 1 where something would be published
    --over NAME      publish this kernel or policy though somebody else wrote the version that stands
    --rollback NAME  append what a former version of a kernel, a policy or the manifest (NAME is manifest)
                     says as its next version: the newest before this one that says something else, or
                     NAME@VERSION. Bootstrap keeps it from then on, until --over, or a rollback to what is
                     shipped
    --key FILE       sign it: with the root key, or one with the purposes of what is published (function,
                     policy, manifest). What bootstrap has published unsigned gets a signed next version;
                     a manifest that does not count is named and left as it is
    --json           one JSON array: name, id, entity_type, state, version, hash, signed_by, why, diff
    --database URL   default: DATABASE_URL

Exit codes: 0 done, 1 it failed, or --check found a difference, 2 wrong use.

Examples:

    logline bootstrap --diff
    logline bootstrap --key root.key
    logline bootstrap --kernels --json
    logline bootstrap --rollback run_code@3 --key root.key
`

// bootstrapCall is one call of logline bootstrap.
type bootstrapCall struct {
	options         app.BootstrapOptions
	rollback        string // name
	seq             *int   // of the version to go back to
	asJSON, isCheck bool
	isDiff          bool
}

// names is a flag that may be given several times.
type names []string

// String implements flag.Value.
func (n *names) String() string { return strings.Join(*n, " ") }

// Set implements flag.Value.
func (n *names) Set(text string) error {
	if text == "" {
		return errors.New("it is empty: give a name")
	}
	*n = append(*n, text)
	return nil
}

// errDiffers ends bootstrap --check where something would change.
var errDiffers = errors.New("the ledger has not what this version ships")

func runBootstrap(s signals, args []string, out, errOut io.Writer) error {
	ctx := s.stop
	var keyFile string
	c := bootstrapCall{options: app.BootstrapOptions{TrustRoot: config.TrustRoot()}}
	url, err := parseOwner("bootstrap", bootstrapHelp, args, out, func(flags *flag.FlagSet) {
		stated(flags, &keyFile, "key")
		flags.BoolVar(&c.options.Kernels, "kernels", false, "")
		flags.BoolVar(&c.options.Policies, "policies", false, "")
		flags.BoolVar(&c.isDiff, "diff", false, "")
		flags.BoolVar(&c.isCheck, "check", false, "")
		flags.Var((*names)(&c.options.Over), "over", "")
		stated(flags, &c.rollback, "rollback")
		flags.BoolVar(&c.asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	if err := c.complete(); err != nil {
		return err
	}
	if keyFile != "" {
		key, err := sign.ReadKeyFile(keyFile)
		if err != nil {
			return err
		}
		c.options.Signer = sign.NewSigner(key)
	}
	owner, err := openSession(ctx, url)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	at, stop := progressOn(errOut, "bootstrap")
	defer stop()
	c.options.Tell = at
	changes, err := c.publish(ctx, owner)
	stop()
	if err != nil {
		return explainRights(err)
	}
	return c.tell(ctx, owner, changes, out, errOut)
}

// complete reads NAME@VERSION, and refuses what makes no sense together.
func (c *bootstrapCall) complete() error {
	c.options.IsDraft = c.isDiff || c.isCheck
	wrong := func(text string) error { return &usageError{text + "; see `logline help bootstrap`"} }
	if c.rollback == "" {
		return nil
	}
	if c.options.Kernels || c.options.Policies || c.isCheck || len(c.options.Over) > 0 {
		return wrong("--rollback takes no --kernels, --policies, --check or --over")
	}
	name, version, isStated := strings.Cut(c.rollback, "@")
	if c.rollback = name; isStated {
		seq, err := strconv.Atoi(version)
		if err != nil || seq < 0 || name == "" {
			return wrong("--rollback wants NAME or NAME@VERSION, for example run_code@3")
		}
		c.seq = &seq
	}
	return nil
}

func (c *bootstrapCall) publish(ctx context.Context, owner *ledger.Owner) ([]app.Change, error) {
	var published []ledger.Publication
	var err error
	if c.rollback == "" {
		published, err = app.Bootstrap(ctx, owner, c.options)
	} else {
		var one *ledger.Publication
		if one, err = app.Rollback(ctx, owner, c.rollback, c.seq, c.options); err == nil {
			published = append(published, *one)
		}
	}
	var unknown *app.NameError
	if errors.As(err, &unknown) {
		return nil, &usageError{unknown.Error()}
	}
	return app.Changes(published, c.options.IsDraft), err
}

// tell prints what was done, and what is still to be done.
func (c *bootstrapCall) tell(ctx context.Context, owner *ledger.Owner, changes []app.Change,
	out, errOut io.Writer) error {
	isOther := false
	for _, change := range changes {
		isOther = isOther || change.State == app.WouldPublish
	}
	if c.asJSON {
		if err := printJSON(out, changes, false); err != nil {
			return fmt.Errorf("print the changes: %w", err)
		}
	} else {
		for _, change := range changes {
			c.tellOne(change, out)
		}
	}
	notes, err := app.AfterBootstrap(ctx, owner, c.options.TrustRoot, changes)
	if err != nil {
		return err
	}
	for _, note := range notes {
		if c.asJSON {
			fmt.Fprintln(errOut, "logline:", note.What, note.Text)
			continue
		}
		fmt.Fprintf(out, "%-10s %s\n", note.What, plainText(note.Text, causeWidth))
	}
	isManifest := slices.ContainsFunc(changes, func(one app.Change) bool { return one.ID == span.ManifestID })
	if c.rollback != "" && isManifest && !c.options.IsDraft && !c.asJSON {
		force, err := app.ReadForce(ctx, owner, c.options.TrustRoot, c.options.Signer)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%10s %s\n", "", forceText(force))
	}
	if c.isCheck && isOther {
		return errDiffers
	}
	return nil
}

func (c *bootstrapCall) tellOne(change app.Change, out io.Writer) {
	hash := change.Hash
	if hash == "" && change.State != app.WouldPublish {
		hash = "not hashed" // as a governor's version may be
	}
	width := 10
	if c.options.IsDraft {
		width = len(app.WouldPublish)
	}
	fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%-*s %-21s version %d  %s", width, change.State,
		plainText(change.Name, 60), change.Version, hash), " "))
	if change.Why != "" && change.State == app.KeptAsIs {
		fmt.Fprintf(out, "%*s %s\n", width, "", plainText(change.Why, causeWidth))
	}
	if !c.options.IsDraft {
		return
	}
	if change.Diff == "" && change.State == app.WouldPublish {
		fmt.Fprintf(out, "%*s it says the same, and gets a signature\n", width, "")
	}
	color := paintFor(out)
	for line := range strings.Lines(change.Diff) {
		line = plainText(strings.TrimRight(line, "\n"), diffWidth)
		switch line[0] {
		case '+':
			line = color.green(line)
		case '-':
			line = color.red(line)
		case '@':
			line = color.dim(line)
		}
		fmt.Fprintln(out, "    "+line)
	}
}

// diffWidth is as much of a line as is shown of a diff; --json has all.
const diffWidth = 400
