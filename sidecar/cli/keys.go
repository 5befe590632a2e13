package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

const keysHelp = `Usage: logline keys COMMAND

Keys that sign spans (docs/keys.md). A key counts where its span in the ledger leads to the root whose
fingerprint LOGLINE_TRUST_ROOT pins.

    generate    make a key, and publish it
    publish     publish a key that is there, or have another root sign it
    list        show the keys of the ledger, and what they are worth
    rotate      put a new key in the place of one
    revoke      take a key back
    sign        complete a span, sign it, and print it

` + "`logline keys COMMAND --help` says more." + ` Publishing needs the login that owns the database, in
DATABASE_URL or --database, and the key that signs the new one: the root, or a key with the purpose key.

Example, the first keys of a system:

    export DATABASE_URL=postgres://postgres:…@db.example:5432/postgres
    logline keys generate --root --out root.key
    export LOGLINE_TRUST_ROOT=…                     # the fingerprint that it prints
    logline keys generate --purpose span --key root.key --out sidecar.key
    logline bootstrap --key root.key
    LOGLINE_SIGNING_KEY_FILE=sidecar.key logline serve
`

// keysCommand is one word after logline keys.
type keysCommand struct {
	help string
	run  func(ctx context.Context, k *keysCall) error
}

func keysCommands() map[string]keysCommand {
	return map[string]keysCommand{
		"generate": {generateHelp, runGenerate},
		"publish":  {publishHelp, runPublish},
		"list":     {listHelp, runList},
		"rotate":   {rotateHelp, runRotate},
		"revoke":   {revokeHelp, runRevoke},
		"sign":     {signHelp, runSign},
	}
}

// keysSubcommands are they in the order of the help.
func keysSubcommands() []subcommand {
	var list []subcommand
	for _, word := range [][2]string{{"generate", "make a key, and publish it"},
		{"publish", "publish a key that is there, or have another root sign it"},
		{"list", "show the keys of the ledger, and what they are worth"},
		{"rotate", "put a new key in the place of one"}, {"revoke", "take a key back"},
		{"sign", "complete a span, sign it, and print it"}} {
		run := func(s signals, args []string, out, errOut io.Writer) error {
			return runKeys(s, append([]string{word[0]}, args...), out, errOut)
		}
		list = append(list, subcommand{word[0], word[1], keysCommands()[word[0]].help, run})
	}
	return list
}

// keysCall is one call, with the flags of all commands; each says which it takes.
type keysCall struct {
	name        string
	out, errOut io.Writer
	argument    string

	database, keyFile, outFile        string
	purposes, tenant, owner, title    string
	reason                            string
	isRoot, asJSON, fromStart, isNext bool

	facts map[string]any // what is told with --json
}

func runKeys(s signals, args []string, out, errOut io.Writer) error {
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		fmt.Fprint(out, keysHelp)
		return nil
	}
	command, known := keysCommands()[args[0]]
	if !known {
		return &usageError{fmt.Sprintf("there is no command %q; see `logline help keys`", "keys "+args[0])}
	}
	k := &keysCall{name: "keys " + args[0], out: out, errOut: errOut}
	if err := k.parse(command.help, args[1:]); err != nil {
		return err
	}
	err := command.run(s.stop, k)
	if k.facts != nil { // also after a fault: a private key that was made is nowhere else
		return errors.Join(err, printJSON(out, k.facts, false))
	}
	return err
}

// parse reads flags before and after at most one argument. A flag that the help does not name is refused.
func (k *keysCall) parse(help string, args []string) error {
	flags := flag.NewFlagSet(k.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	texts := map[string]*string{"database": &k.database, "key": &k.keyFile, "out": &k.outFile,
		"purpose": &k.purposes, "tenant": &k.tenant, "owner": &k.owner, "name": &k.title, "reason": &k.reason}
	for name, target := range texts {
		if strings.Contains(help, "--"+name+" ") {
			stated(flags, target, name)
		}
	}
	switches := map[string]*bool{"root": &k.isRoot, "json": &k.asJSON, "from-start": &k.fromStart,
		"next": &k.isNext}
	for name, target := range switches {
		if strings.Contains(help, "--"+name+" ") {
			flags.BoolVar(target, name, false, "")
		}
	}
	var arguments []string
	for rest := args; ; {
		err := flags.Parse(rest)
		switch {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprint(k.out, help)
			return flag.ErrHelp
		case err != nil:
			return &usageError{fmt.Sprintf("%s; see `logline %s --help`", err, k.name)}
		}
		if flags.NArg() == 0 {
			break
		}
		arguments, rest = append(arguments, flags.Arg(0)), flags.Args()[1:]
	}
	wanted := 0
	if first, _, _ := strings.Cut(help, "\n"); strings.Contains(first, "FILE|") {
		wanted = 1
	}
	if len(arguments) != wanted {
		if wanted == 1 {
			return wrongUse(k.name, "%s takes one argument, %s", k.name, argumentOf(k.name, help))
		}
		return wrongUse(k.name, "%s takes no argument %q", k.name, arguments[0])
	}
	if wanted == 1 {
		k.argument = arguments[0]
	}
	return nil
}

// openOwner opens the owner's session; nil where no database is named.
func (k *keysCall) openOwner(ctx context.Context) (*ledger.Owner, error) {
	if k.database == "" && config.DatabaseURL() == "" {
		return nil, nil
	}
	return openSession(ctx, k.database)
}

func (k *keysCall) needOwner(ctx context.Context) (*ledger.Owner, error) {
	owner, err := k.openOwner(ctx)
	if err == nil && owner == nil {
		err = &usageError{"set DATABASE_URL, or give --database postgres://user:password@host:5432/database"}
	}
	return owner, err
}

// signer reads --key; nil where it is not given.
func (k *keysCall) signer() (*sign.Key, error) {
	if k.keyFile == "" {
		return nil, nil
	}
	return sign.ReadKeyFile(k.keyFile)
}

func (k *keysCall) needSigner(what string) (*sign.Key, error) {
	if k.keyFile == "" {
		return nil, &usageError{fmt.Sprintf("give --key FILE: %s", what)}
	}
	return k.signer()
}

// rights reads --purpose, --tenant and --owner.
func (k *keysCall) rights() (sign.Rights, error) {
	rights := sign.Rights{Tenant: k.tenant, Owner: k.owner}
	for word := range strings.SplitSeq(k.purposes, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		if !sign.IsPurpose(word) {
			return rights, &usageError{fmt.Sprintf("--purpose %q: want some of %s, with commas", word, purposesText())}
		}
		rights.Purposes = append(rights.Purposes, sign.Purpose(word))
	}
	switch {
	case k.isRoot && (len(rights.Purposes) > 0 || k.tenant != "" || k.owner != ""):
		return rights, &usageError{"--root signs everything: leave --purpose, --tenant and --owner out"}
	case k.isRoot && k.keyFile != "":
		return rights, &usageError{"--root signs itself: leave --key out"}
	case !k.isRoot && len(rights.Purposes) == 0:
		return rights, &usageError{"give --purpose " + purposesText() + ", with commas, or --root"}
	}
	return rights, nil
}

func purposesText() string {
	words := make([]string, len(sign.Purposes()))
	for i, purpose := range sign.Purposes() {
		words[i] = string(purpose)
	}
	return strings.Join(words, ", ")
}

const generateHelp = `Usage: logline keys generate (--root | --purpose LIST) [flags]

Makes an Ed25519 key. With the owner's login and the key that signs it, it is published, too; else this
prints what to run.

    --root           a root key: it signs itself; pin its fingerprint in LOGLINE_TRUST_ROOT
    --purpose LIST   what it may sign, with commas: span (the sidecar's), function, policy, provider,
                     manifest, key, override, checkpoint
    --tenant NAME    it signs spans of this tenant only
    --owner NAME     it signs spans of this owner only
    --name TEXT      a name, for people
    --key FILE       the key that signs it: the root, or one with the purpose key
    --out FILE       write the private key there, for its owner alone; default: print it
    --json           print JSON
    --database URL   default: DATABASE_URL

Exit codes: 0 done, 1 it failed, 2 wrong use.

Examples:

    logline keys generate --root --out root.key
    logline keys generate --purpose span --key root.key --out sidecar.key
    logline keys generate --purpose function --tenant acme --owner alice --key root.key --out alice.key
`

func runGenerate(ctx context.Context, k *keysCall) error {
	rights, err := k.rights()
	if err != nil {
		return err
	}
	signer, err := k.signer() // before anything is made
	if err != nil {
		return err
	}
	owner, err := k.openOwner(ctx)
	if err != nil {
		return err
	}
	if owner != nil {
		defer owner.Close(context.WithoutCancel(ctx))
	}
	if owner != nil && signer != nil {
		if err := app.VouchFor(ctx, owner, config.TrustRoot(), signer); err != nil {
			return err
		}
	}
	key, err := sign.Generate()
	if err != nil {
		return err
	}
	if k.outFile != "" {
		if err := sign.WriteKeyFile(k.outFile, key, "logline key for "+k.use()); err != nil {
			return err
		}
	} else {
		k.tell("private", key.Secret(), "")
	}
	k.tell("public", key.Public(), "")
	k.tell("fingerprint", key.Fingerprint(), "")
	if k.isRoot {
		signer = key
		k.tell("", "", "pin it       export LOGLINE_TRUST_ROOT="+key.Fingerprint())
	}
	if owner == nil || signer == nil {
		k.tell("", "", "not published: it counts for nothing yet. As the database's owner, run\n    "+
			"logline keys publish "+k.publishArguments())
		return nil
	}
	row, err := app.PublishKey(ctx, owner, key, signer, rights, k.title)
	if err != nil {
		return fmt.Errorf("publish the key: %w", err)
	}
	return k.reportPublished(ctx, owner, row)
}

// use is what the key is for, in words.
func (k *keysCall) use() string {
	if k.isRoot {
		return "everything (root)"
	}
	use := k.purposes
	if k.tenant != "" {
		use += ", tenant " + k.tenant
	}
	if k.owner != "" {
		use += ", owner " + k.owner
	}
	return strings.ReplaceAll(use, "\n", " ")
}

func (k *keysCall) publishArguments() string {
	words := []string{k.outFile}
	if k.outFile == "" {
		words[0] = "FILE"
	}
	if k.isRoot {
		return strings.Join(append(words, "--root"), " ")
	}
	for name, value := range map[string]string{"--tenant": k.tenant, "--owner": k.owner} {
		if value != "" {
			words = append(words, fmt.Sprintf("%s %q", name, value))
		}
	}
	return strings.Join(append(words, "--purpose", k.purposes, "--key ROOT_KEY_FILE"), " ")
}

// tell prints one fact of a command; with --json it is kept, under its name, until the command ends. line
// "" is the name and the value.
func (k *keysCall) tell(name string, value any, line string) {
	switch {
	case !k.asJSON && line == "":
		fmt.Fprintf(k.out, "%-12s %s\n", name, value)
	case !k.asJSON:
		fmt.Fprintln(k.out, line)
	case name != "":
		if k.facts == nil {
			k.facts = map[string]any{}
		}
		k.facts[name] = value
	}
}

// keyVersion is a version of a key span in JSON.
func keyVersion(row *span.Span) map[string]any { return map[string]any{"id": row.ID, "seq": row.Seq} }

// reportPublished says what the key is worth under the pinned root.
func (k *keysCall) reportPublished(ctx context.Context, owner *ledger.Owner, row *span.Span) error {
	k.tell("published", keyVersion(row), fmt.Sprintf("published    span %s version %d", row.ID, row.Seq))
	entries, err := app.Keys(ctx, owner, config.TrustRoot())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.ID == row.ID && entry.Counts != sign.CountsRoot && entry.Counts != sign.CountsYes {
			fmt.Fprintf(k.errOut, "logline: it does not count yet: %s\n",
				plainText(entry.Reason, causeWidth))
		}
	}
	return nil
}

const publishHelp = `Usage: logline keys publish FILE|FINGERPRINT [flags]

Publishes the key of a file. Where its span is in the ledger, --key signs that anew: so another root takes
over the keys of an old one, and then a fingerprint will do. The rights must be stated, and be those that its
span has: nothing else is signed.

    --root           it is a root key, which signs itself
    --purpose LIST   what it may sign, with commas: span, function, policy, provider, manifest, key,
                     override, checkpoint
    --tenant NAME    it signs spans of this tenant only
    --owner NAME     it signs spans of this owner only
    --name TEXT      a name, for people
    --key FILE       the key that signs it: the root, or one with the purpose key
    --json           print JSON
    --database URL   default: DATABASE_URL

Exit codes: 0 done, 1 it was refused, 2 wrong use.

Examples:

    logline keys publish sidecar.key --purpose span --key root.key
    logline keys publish 4f0c91b27e --purpose span --key new-root.key
`

func runPublish(ctx context.Context, k *keysCall) error {
	var signer *sign.Key
	var err error
	if !k.isRoot {
		if signer, err = k.needSigner("the root, or a key with the purpose key"); err != nil {
			return err
		}
	}
	owner, err := k.needOwner(ctx)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	if signer != nil {
		if err := app.VouchFor(ctx, owner, config.TrustRoot(), signer); err != nil {
			return err
		}
	}
	if !isFile(k.argument) {
		return k.publishAnew(ctx, owner, signer)
	}
	rights, err := k.rights()
	if err != nil {
		return err
	}
	key, err := sign.ReadKeyFile(k.argument)
	if err != nil {
		return err
	}
	if k.isRoot {
		signer = key
	}
	row, err := app.PublishKey(ctx, owner, key, signer, rights, k.title)
	if err != nil {
		return fmt.Errorf("publish the key: %w", err)
	}
	return k.reportPublished(ctx, owner, row)
}

// publishAnew has signer sign the key span of a fingerprint, with the rights that are stated.
func (k *keysCall) publishAnew(ctx context.Context, owner *ledger.Owner, signer *sign.Key) error {
	if signer == nil {
		return &usageError{"a root signs itself: give its file"}
	}
	current, err := app.FindKey(ctx, owner, k.argument)
	if err != nil {
		return err
	}
	var stated *sign.Rights
	if k.purposes != "" || k.tenant != "" || k.owner != "" {
		rights, err := k.rights()
		if err != nil {
			return err
		}
		stated = &rights
	}
	row, err := app.Recertify(ctx, owner, current.ID, signer, stated)
	var wanted *app.RightsError
	if errors.As(err, &wanted) && wanted.IsNoneStated {
		return &usageError{err.Error()}
	}
	if err != nil {
		return err
	}
	return k.reportPublished(ctx, owner, row)
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && !info.IsDir()
}

const listHelp = `Usage: logline keys list [--json] [--database URL]

Lists the keys of the ledger. What COUNTS says, under the root that LOGLINE_TRUST_ROOT pins: root, yes,
before (what was committed before its revocation) or no, with the reason.

    --json           one JSON array
    --database URL   default: DATABASE_URL

Exit codes: 0 done, 1 it failed, 2 wrong use.

Example:

    LOGLINE_TRUST_ROOT=… logline keys list
`

func runList(ctx context.Context, k *keysCall) error {
	owner, err := k.needOwner(ctx)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	entries, err := app.Keys(ctx, owner, config.TrustRoot())
	if err != nil {
		return err
	}
	if k.asJSON {
		return printJSON(k.out, entries, false)
	}
	table := tabwriter.NewWriter(k.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "FINGERPRINT\tNAME\tSTATUS\tPURPOSES\tTENANT\tOWNER\tSIGNED BY\tCOUNTS")
	for _, e := range entries {
		purposes := make([]string, len(e.Purposes))
		for i, purpose := range e.Purposes {
			purposes[i] = string(purpose)
		}
		if len(purposes) == 0 && e.Counts == sign.CountsRoot {
			purposes = []string{"all"}
		}
		counts := e.Counts
		if e.Reason != "" {
			counts += ": " + e.Reason
		}
		fmt.Fprintf(table, "%.16s\t%q\t%s\t%s\t%q\t%q\t%.16s\t%s\n", e.Fingerprint, e.Name, plainText(e.Status, 20),
			strings.Join(purposes, ","), e.Tenant, e.Owner, e.SignedBy, plainText(counts, causeWidth))
	}
	return table.Flush()
}
