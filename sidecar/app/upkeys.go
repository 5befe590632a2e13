package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

// upKeys are the keys of `logline up`: files of their owner alone in DIR.
type upKeys struct {
	pin         string    // fingerprint of the root
	root        *sign.Key // nil where its file is not there: it is kept elsewhere
	sidecar     *sign.Key
	sidecarFile string
}

// ensureKeys reads DIR's keys, makes those that are missing, and publishes those that the ledger has not. A
// root is made only where neither DIR nor the ledger knows one: it may be kept off this machine, and another
// one in its place would let go of everything that it has signed.
func ensureKeys(ctx context.Context, owner *ledger.Owner, dir string) (upKeys, error) {
	keys := upKeys{sidecarFile: filepath.Join(dir, "sidecar.key")}
	rows, err := owner.Keys(ctx)
	if err != nil {
		return keys, fmt.Errorf("read the keys: %w", err)
	}
	rootFile := filepath.Join(dir, "root.key")
	if keys.root, err = sign.ReadKeyFile(rootFile); errors.Is(err, fs.ErrNotExist) {
		if keys.pin, err = knownPin(dir, rows); err == nil && keys.pin == "" {
			keys.root, err = ensureKeyFile(rootFile, "root key of `logline up`")
		}
	}
	if err != nil {
		return keys, err
	}
	if keys.root == nil {
		keys.sidecar, err = keyUnderPin(keys, dir, rows)
		return keys, err
	}
	keys.pin = keys.root.Fingerprint()
	if keys.sidecar, err = ensureKeyFile(keys.sidecarFile, "signs what the sidecar appends"); err != nil {
		return keys, err
	}
	if trust := sign.NewTrust(keys.pin, rows); trust.HasRoot() &&
		trust.Vouch(keys.sidecar.Public(), sign.PurposeSpan) == nil {
		return keys, nil
	}
	if _, err := PublishKey(ctx, owner, keys.root, keys.root, sign.Rights{}, "root"); err != nil {
		return keys, fmt.Errorf("publish the root key (for another one, move %s away and run `%s`): %w", rootFile,
			makeRoot(dir), err)
	}
	rights := sign.Rights{Purposes: []sign.Purpose{sign.PurposeSpan}}
	if _, err := PublishKey(ctx, owner, keys.sidecar, keys.root, rights, "sidecar"); err != nil {
		return keys, fmt.Errorf("publish the sidecar's key (to make another, remove %s): %w", keys.sidecarFile,
			err)
	}
	return keys, nil
}

func makeRoot(dir string) string {
	return "logline keys generate --root --out " + filepath.Join(dir, "root.key")
}

// knownPin is the root that DIR/up.env pins, or LOGLINE_TRUST_ROOT. What the ledger alone says is never
// pinned: whoever governs can write a root into it.
func knownPin(dir string, rows []*span.Span) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "up.env"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read which root is pinned: %w", err)
	}
	pinned := ""
	line := regexp.MustCompile(`(?m)^export LOGLINE_TRUST_ROOT='([0-9a-f]{64})'$`)
	if match := line.FindSubmatch(text); match != nil {
		pinned = string(match[1])
	}
	if pinned = cmp.Or(pinned, config.TrustRoot()); pinned != "" {
		return pinned, nil
	}
	var roots []string
	for _, entry := range sign.List("", rows) {
		if entry.Fingerprint != "" && sign.NewTrust(entry.Fingerprint, rows).HasRoot() {
			roots = append(roots, entry.Fingerprint)
		}
	}
	if len(roots) == 0 {
		return "", nil
	}
	return "", fmt.Errorf("find the root key: %s pins none, and the ledger has %s, which whoever governs can "+
		"have written: put root.key back, or set LOGLINE_TRUST_ROOT to the fingerprint that you know; for "+
		"another root run `%s`", dir, strings.Join(roots, " and "), makeRoot(dir))
}

// keyUnderPin reads the sidecar's key, which must count already: the root is not there to sign another.
func keyUnderPin(keys upKeys, dir string, rows []*span.Span) (*sign.Key, error) {
	key, err := sign.ReadKeyFile(keys.sidecarFile)
	if err == nil {
		err = sign.NewTrust(keys.pin, rows).Vouch(key.Public(), sign.PurposeSpan)
	}
	if err != nil {
		return nil, fmt.Errorf("sign under the pinned root %s: %w; put root.key back into %s for one start, which "+
			"signs a key (remove a sidecar.key that is revoked), or for another root run `%s`", keys.pin, err, dir,
			makeRoot(dir))
	}
	return key, nil
}

func ensureKeyFile(path, comment string) (*sign.Key, error) {
	key, err := sign.ReadKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = sign.Generate(); err != nil {
		return nil, err
	}
	return key, sign.WriteKeyFile(path, key, comment)
}
