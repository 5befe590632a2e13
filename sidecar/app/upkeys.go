package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
)

// upKeys are the keys of `logline up`: files of their owner alone in DIR.
type upKeys struct {
	root, sidecar *sign.Key
	sidecarFile   string
}

// ensureKeys reads DIR's keys, makes those that are missing, and publishes those that the ledger has not.
func ensureKeys(ctx context.Context, owner *ledger.Owner, dir string) (upKeys, error) {
	keys := upKeys{sidecarFile: filepath.Join(dir, "sidecar.key")}
	var err error
	if keys.root, err = ensureKeyFile(filepath.Join(dir, "root.key"), "root key of `logline up`"); err != nil {
		return keys, err
	}
	if keys.sidecar, err = ensureKeyFile(keys.sidecarFile, "signs what the sidecar appends"); err != nil {
		return keys, err
	}
	rows, err := owner.Keys(ctx)
	if err != nil {
		return keys, fmt.Errorf("read the keys: %w", err)
	}
	if trust := sign.NewTrust(keys.root.Fingerprint(), rows); trust.HasRoot() &&
		trust.Vouch(keys.sidecar.Public(), sign.PurposeSpan) == nil {
		return keys, nil
	}
	if _, err := PublishKey(ctx, owner, keys.root, keys.root, sign.Rights{}, "root"); err != nil {
		return keys, fmt.Errorf("publish the root key: %w", err)
	}
	rights := sign.Rights{Purposes: []sign.Purpose{sign.PurposeSpan}}
	if _, err := PublishKey(ctx, owner, keys.sidecar, keys.root, rights, "sidecar"); err != nil {
		return keys, fmt.Errorf("publish the sidecar's key (to make another, remove %s): %w", keys.sidecarFile, err)
	}
	return keys, nil
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
