package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

const rotateHelp = `Usage: logline keys rotate FILE|FINGERPRINT --key FILE [flags]

Makes a new key with the rights of an old one and publishes it; the old one is deprecated in the same
transaction. Both count until the old one is revoked, so whoever signs with it has time to change. The old
one must count; its rights are printed.

    --key FILE       the key that signs the new one: the root, or one with the purpose key
    --out FILE       write the new private key there, for its owner alone; default: print it
    --json           print JSON
    --database URL   default: DATABASE_URL

Exit codes: 0 done, 1 it was refused, 2 wrong use.

Example:

    logline keys rotate sidecar.key --key root.key --out sidecar-2.key
`

func runRotate(ctx context.Context, k *keysCall) error {
	signer, err := k.needSigner("the root, or a key with the purpose key")
	if err != nil {
		return err
	}
	owner, current, err := k.findKey(ctx)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	// Before anything is made.
	rotation, err := app.PlanRotation(ctx, owner, config.TrustRoot(), current.ID, signer)
	if err != nil {
		return err
	}
	key, err := sign.Generate()
	if err != nil {
		return err
	}
	if k.outFile != "" {
		err := sign.WriteKeyFile(k.outFile, key, "logline key in the place of "+rotation.Fingerprint)
		if err != nil {
			return err
		}
	}
	row, err := app.RotateKey(ctx, owner, rotation, key, signer)
	if err != nil {
		return fmt.Errorf("rotate the key: %w", err)
	}
	if k.outFile == "" {
		k.tell("private", key.Secret(), "")
	}
	k.tell("public", key.Public(), "")
	k.tell("fingerprint", key.Fingerprint(), "")
	k.tell("rights", rotation.Rights.Flags(), "")
	k.tell("deprecated", rotation.Fingerprint, fmt.Sprintf("deprecated   %s: it counts until it is revoked",
		rotation.Fingerprint))
	return k.reportPublished(ctx, owner, row)
}

const revokeHelp = `Usage: logline keys revoke FILE|FINGERPRINT [flags]

Takes a key back, for good. What was committed before counts on, by the transactions that the ledger has
seen; whatever time a span states. Sidecars go by it as soon as they see it. A key that is revoked can be
revoked --from-start, too.

    --from-start     nothing that it has ever signed counts: it was stolen, nobody knows when
    --reason TEXT    why, for people
    --key FILE       sign the revocation. It holds without, too: it only takes away
    --json           print JSON
    --database URL   default: DATABASE_URL

Exit codes: 0 done, 1 it was refused, or nothing is left to take back, 2 wrong use.

Example:

    logline keys revoke 4f0c91b27e --reason "laptop stolen" --from-start --key root.key
`

func runRevoke(ctx context.Context, k *keysCall) error {
	signer, err := k.signer()
	if err != nil {
		return err
	}
	owner, current, err := k.findKey(ctx)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	if current.StatusText() == "revoked" {
		fromStart, err := app.IsRevokedFromStart(ctx, owner, current)
		switch {
		case err != nil:
			return err
		case fromStart:
			return fmt.Errorf("revoke the key: it is revoked from its start already (version %d of span %s)",
				current.Seq, current.ID)
		case !k.fromStart:
			return fmt.Errorf("revoke the key: it is revoked already, by version %d of span %s, and what was "+
				"committed before counts on; if that shall not count either, add --from-start", current.Seq, current.ID)
		}
	}
	row, err := app.RevokeKey(ctx, owner, current, signer, k.reason, k.fromStart)
	if err != nil {
		return fmt.Errorf("revoke the key: %w", err)
	}
	what := "what was committed before it counts on"
	if k.fromStart {
		what = "nothing that it has signed counts any more"
	}
	k.tell("revoked", keyVersion(row), fmt.Sprintf("revoked      span %s version %d: %s", row.ID, row.Seq, what))
	return nil
}

// findKey opens the ledger and returns the newest version of the key span that the argument names.
func (k *keysCall) findKey(ctx context.Context) (*ledger.Owner, *span.Span, error) {
	name := k.argument
	if isFile(name) {
		key, err := sign.ReadKeyFile(name)
		if err != nil {
			return nil, nil, err
		}
		name = key.Fingerprint()
	}
	owner, err := k.needOwner(ctx)
	if err != nil {
		return nil, nil, err
	}
	current, err := app.FindKey(ctx, owner, name)
	if err != nil {
		return nil, nil, errors.Join(err, owner.Close(context.WithoutCancel(ctx)))
	}
	return owner, current, nil
}

const signHelp = `Usage: logline keys sign FILE|- --key FILE [--next] [--owner NAME] [--tenant NAME]

Reads a span (a JSON object of columns), fills in what the ledger would (id, seq, who, at, visibility),
signs it and prints it, ready to POST or for ledger.append. Nothing is sent. A row of the ledger will do, too:
"when" is its at, and what the database has set is left out. A later version states id, seq and prev_hash, the
curr_hash of the version before; or --next does so.

    --key FILE       the private key
    --next           the span is a row of ledger.visible_timeline, changed: sign the version after it
    --owner NAME     owner_id, where the span has none
    --tenant NAME    tenant_id, where the span has none

Exit codes: 0 done, 1 it failed, 2 wrong use.

Examples:

    logline keys sign greet.json --key alice.key --owner alice --tenant acme > signed.json
    curl "$API/universal_registry" -H "Content-Profile: ledger" … --json @signed.json
    echo '{"id": "…", "seq": 4, "prev_hash": "…", "entity_type": "function", "status": "scheduled",
        "code": "return 1", "metadata": {"force": true}}' |
        logline keys sign - --key override.key --owner alice --tenant acme
    psql "$DATABASE_URL" -Atc "select to_jsonb(v) from ledger.visible_timeline as v where id = '…'" |
        logline keys sign - --next --key root.key
`

func runSign(ctx context.Context, k *keysCall) error {
	key, err := k.needSigner("the private key that signs")
	if err != nil {
		return err
	}
	var input io.Reader = os.Stdin
	if k.argument != "-" {
		input = &lateFile{path: k.argument}
	}
	raw, err := readInput(ctx, input)
	if err != nil {
		return err
	}
	signed, err := app.SignDocument(raw, key, k.owner, k.tenant, k.isNext)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(k.out, "%s\n", signed)
	return err
}
