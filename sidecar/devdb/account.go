package devdb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
)

// account is the user that Postgres runs as when this process is root. Nil: as this process itself.
type account struct {
	name     string
	uid, gid int
}

// dropTo picks the account: `postgres`, which owns Debian's binaries and can use /var/run, before `nobody`.
func dropTo() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if found, err := user.Lookup(name); err == nil {
			return newAccount(found)
		}
	}
	return nil, errors.New("drop root: Postgres refuses to run as root, and there is neither " +
		"a user postgres nor a user nobody: add one (useradd --system postgres) or run this as another user")
}

func newAccount(found *user.User) (*account, error) {
	uid, err := strconv.Atoi(found.Uid)
	if err != nil {
		return nil, fmt.Errorf("parse uid of %s: %w", found.Username, err)
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil {
		return nil, fmt.Errorf("parse gid of %s: %w", found.Username, err)
	}
	return &account{name: found.Username, uid: uid, gid: gid}, nil
}

// orOwner is whoever made the data, if it is there: the machine may have got its user postgres since.
func (a *account) orOwner(data string) (*account, error) {
	info, err := os.Stat(data)
	if a == nil || errors.Is(err, os.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at data: %w", err)
	}
	uid, known := ownerOf(info)
	if !known || uid == a.uid {
		return a, nil
	}
	if uid == 0 {
		return nil, fmt.Errorf("drop root: %s belongs to root: chown -R %s %s", data, a.name, data)
	}
	owner, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return nil, fmt.Errorf("find owner of %s: %w: chown -R %s %s", data, err, a.name, data)
	}
	return newAccount(owner)
}

// userName is for messages.
func (a *account) userName() string {
	if a == nil {
		return "uid " + strconv.Itoa(os.Geteuid())
	}
	return a.name
}

// command is name(args) as the account, in a session of its own, with an environment in which neither the
// caller's language nor its PG* variables matter.
func (a *account) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, args...)
	command.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH"), "HOME=/"}
	if library := os.Getenv("LD_LIBRARY_PATH"); library != "" {
		command.Env = append(command.Env, "LD_LIBRARY_PATH="+library)
	}
	command.Dir = "/" // the caller's own may be closed to the account
	command.SysProcAttr = a.attributes()
	return command
}

// own gives a path to the account; it changes nothing without one.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to %s: %w", path, a.name, err)
	}
	return nil
}

// reaches asks the kernel, by going there as the account: modes alone would miss ACLs and mounts.
func (a *account) reaches(ctx context.Context, dir string) bool {
	if a == nil {
		return true
	}
	return a.command(ctx, "/bin/sh", "-c", `cd "$1"`, "sh", dir).Run() == nil
}

// place makes the wanted directory, or where the account cannot reach it one derived from its path.
func place(ctx context.Context, wanted string, a *account, log func(string)) (string, error) {
	if wanted == "" {
		return "", errors.New("place postgres: Options.Dir is empty")
	}
	dir, err := filepath.Abs(wanted)
	if err != nil {
		return "", fmt.Errorf("place postgres: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make database directory: %w", err)
	}
	if a.reaches(ctx, dir) {
		return dir, nil
	}
	sum := sha256.Sum256([]byte(dir))
	name := filepath.Base(filepath.Dir(dir)) + "-" + hex.EncodeToString(sum[:6])
	other := filepath.Join("/var/lib/loglineos", name)
	if err := errors.Join(makeOpen(filepath.Dir(other)), makeOpen(other)); err != nil {
		return "", err
	}
	if !a.reaches(ctx, other) {
		return "", fmt.Errorf("place postgres: user %s can enter neither %s nor %s: name another directory",
			a.name, dir, other)
	}
	log(fmt.Sprintf("Postgres runs as %s, which cannot enter %s: data is in %s", a.name, dir, other))
	return other, nil
}

// makeOpen makes a folder that everyone may enter, whatever the umask. One that is there stays as it is.
func makeOpen(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	return nil
}

// writeFile replaces a file as a whole, so that nobody ever reads a half.
func writeFile(path, content string, mode os.FileMode) error {
	next := path + ".next"
	if err := os.WriteFile(next, []byte(content), mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
