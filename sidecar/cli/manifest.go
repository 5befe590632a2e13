package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/sign"
)

const manifestHelp = `Usage: logline manifest [--give RIGHT]… [--take RIGHT]… [--file FILE] [flags]

Prints the manifest: its newest version that counts. With --give, --take or --file it appends the next one,
checked and hashed, which takes force at once or when its timelock says, without a restart. Where a newer one
is there that does not count, because it is not signed, it is named, and only --file goes over it. The login
must own the database (on Supabase: postgres). It says from when the new one is in force, and which is now.

    --give HOLDER=GRANT   one right more. HOLDER is a kernel's name, a function's id, user:<id> or
                          tenant:<id>; GRANT for example fetch:api.openai.com:443, secret:OPENAI_API_KEY
    --take HOLDER=GRANT   one right less
    --file FILE           the whole document, as this command prints it
    --key FILE            sign it: with the root key, or one with the purpose manifest; alone: as it is
    --database URL        default: DATABASE_URL

Exit codes: 0 done, 1 it was refused, 2 wrong use.

Examples:

    logline manifest > manifest.json
    logline manifest --file manifest.json
    logline manifest --give provider_exec=fetch:api.openai.com:443 --give provider_exec=secret:OPENAI_API_KEY
`

// rights is a flag that may be given several times.
type rights []app.Right

// String implements flag.Value.
func (r *rights) String() string { return fmt.Sprint(*r) }

// Set implements flag.Value.
func (r *rights) Set(text string) error {
	holder, grant, found := strings.Cut(text, "=")
	if !found || holder == "" || grant == "" {
		return fmt.Errorf("%q: want HOLDER=GRANT, for example provider_exec=fetch:api.openai.com:443", text)
	}
	*r = append(*r, app.Right{Holder: holder, Grant: grant})
	return nil
}

func runManifest(s signals, args []string, out, errOut io.Writer) error {
	ctx := s.stop
	var give, take rights
	var file, keyFile string
	owner, err := openOwner(ctx, "manifest", manifestHelp, args, out, func(flags *flag.FlagSet) {
		flags.Var(&give, "give", "")
		flags.Var(&take, "take", "")
		flags.StringVar(&file, "file", "", "")
		stated(flags, &keyFile, "key")
	})
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	change := app.ManifestChange{Give: give, Take: take, TrustRoot: config.TrustRoot()}
	if file == "" && keyFile == "" && len(give)+len(take) == 0 {
		row, fault, err := app.ReadManifest(ctx, owner, change.TrustRoot)
		if err != nil {
			return err
		}
		force, err := app.ReadForce(ctx, owner, change.TrustRoot, nil)
		if err != nil {
			return err
		}
		switch {
		case fault != nil:
			fmt.Fprintf(errOut, "logline: this is version %d: %s\n", row.Seq, fault)
		case force.Now != row.Seq:
			fmt.Fprintf(errOut, "logline: this is version %d: %s\n", row.Seq, forceText(force))
		}
		var text bytes.Buffer
		if err := json.Indent(&text, row.Metadata, "", "  "); err != nil {
			return fmt.Errorf("format the manifest: %w", err)
		}
		_, err = fmt.Fprintln(out, string(escapeHidden(text.Bytes())))
		return err
	}
	if file != "" {
		if change.Document, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("read the manifest: %w", err)
		}
	}
	if keyFile != "" {
		key, err := sign.ReadKeyFile(keyFile)
		if err != nil {
			return err
		}
		change.Signer = sign.NewSigner(key)
	}
	published, err := app.ChangeManifest(ctx, owner, change)
	if err != nil {
		return err
	}
	state := "unchanged"
	if published.Changed {
		state = "published"
	}
	fmt.Fprintf(out, "%s  manifest version %d  %s\n", state, published.Span.Seq, *published.Span.CurrHash)
	force, err := app.ReadForce(ctx, owner, change.TrustRoot, change.Signer)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "           %s\n", forceText(force))
	return nil
}

// forceText says when the newest version takes force, and what is in force until then.
func forceText(force *app.ManifestForce) string {
	now := "none"
	if force.Now >= 0 {
		now = fmt.Sprintf("version %d", force.Now)
	}
	switch {
	case force.Never:
		return "not in force, and will not be; in force now: " + now
	case !force.From.IsZero():
		return fmt.Sprintf("in force from %s; in force now: %s", force.From.UTC().Format(time.RFC3339), now)
	}
	return "in force now"
}
