package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/loglineos/loglineos/sidecar/config"
	"github.com/loglineos/loglineos/sidecar/devdb"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
)

const (
	upDatabase   = "loglineos"
	upDailyQuota = 1_000_000
	upTokenLife  = 30 * 24 * time.Hour
	upReadyMax   = 60 * time.Second
	upRetry      = 2 * time.Second
)

// UpOptions are the flags of `logline up`.
type UpOptions struct {
	Dir, Listen, DatabaseURL string
	Quiet                    bool
	// Now ends when a stop is to wait for nothing.
	Now      context.Context
	Out, Err io.Writer
}

// RunningError says that another process serves the same directory.
type RunningError struct{ Dir, URL, Pid string }

// Error names the process.
func (e *RunningError) Error() string {
	return fmt.Sprintf(
		"%s is served already, at %s by process %s: stop that one first, or choose another --data-dir", e.Dir,
		e.URL, e.Pid)
}

// Listen opens addr, and says by name when it is taken.
func Listen(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("the address %s is taken by another program: stop it, or choose another one "+
			"(LOGLINE_LISTEN; --listen of `logline up`): %w", addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return listener, nil
}

// up is one run of `logline up`.
type up struct {
	UpOptions
	keys upKeys
	env  map[string]string // what DIR/up.env will hold
	data string            // where the data is; "" for a database of somebody else's

	isStarted bool // the sidecar runs
}

// Up starts Postgres, ledger and sidecar, runs the example, and serves until ctx ends.
func Up(ctx context.Context, options UpOptions) (err error) {
	u := &up{UpOptions: options, env: map[string]string{}}
	defer func() {
		if err != nil && ctx.Err() != nil && !u.isStarted { // it was asked to stop, and has: that is no fault
			u.say("stopped    during the start: %v", err)
			err = nil
		}
	}()
	if u.Dir, err = filepath.Abs(options.Dir); err != nil {
		return fmt.Errorf("find --data-dir: %w", err)
	}
	if err := os.MkdirAll(u.Dir, 0o755); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	unlock, err := u.lock()
	if err != nil {
		return err
	}
	defer unlock()
	listener, err := Listen(u.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	u.env["LOGLINE_URL"] = "http://" + listener.Addr().String()
	if err := u.note(); err != nil {
		return err
	}
	ownerURL := u.DatabaseURL
	if ownerURL == "" {
		stop, url, err := u.startPostgres(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		ownerURL = url
	}
	return u.serve(ctx, ownerURL, listener)
}

func (u *up) say(format string, args ...any) {
	if !u.Quiet {
		fmt.Fprintf(u.Out, format+"\n", args...)
	}
}

// lock takes DIR for this process. The lock goes with the process, however it ends.
func (u *up) lock() (func(), error) {
	file, err := os.OpenFile(filepath.Join(u.Dir, "up.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if ours, err := devdb.TryLock(file); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock the data directory: %w", err)
	} else if !ours {
		holder, readErr := os.ReadFile(file.Name())
		file.Close()
		if readErr != nil {
			return nil, fmt.Errorf("read who serves %s: %w", u.Dir, readErr)
		}
		pid, address, _ := strings.Cut(strings.TrimSpace(string(holder)), " ")
		return nil, &RunningError{u.Dir, address, pid}
	}
	return func() { file.Close() }, nil
}

// note writes who serves DIR into the lock file.
func (u *up) note() error {
	text := strconv.Itoa(os.Getpid()) + " " + u.env["LOGLINE_URL"] + "\n"
	if err := os.WriteFile(filepath.Join(u.Dir, "up.lock"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("note who serves the data directory: %w", err)
	}
	return nil
}

// startPostgres starts or adopts the Postgres of DIR and makes the database.
func (u *up) startPostgres(ctx context.Context) (func() error, string, error) {
	began := time.Now()
	server, err := devdb.Start(ctx, devdb.Options{Dir: u.Dir, Log: func(text string) { u.say("%s", text) }})
	if err != nil {
		return nil, "", err
	}
	stop := func() error {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		return server.Stop(stopCtx)
	}
	u.data = server.Data()
	state := "started"
	if server.Adopted {
		state = "found running, adopted"
	}
	u.say("postgres   %s %s on port %d in %d ms, data in %s", server.Version, state, server.Port,
		time.Since(began).Milliseconds(), server.Data())
	owner, err := ledger.OpenOwner(ctx, server.URL("postgres"))
	if err != nil {
		return nil, "", errors.Join(err, stop())
	}
	defer owner.Close(context.WithoutCancel(ctx))
	if err := owner.EnsureDatabase(ctx, upDatabase); err != nil {
		return nil, "", errors.Join(err, stop())
	}
	return stop, server.URL(upDatabase), nil
}

// serve migrates, bootstraps and runs the sidecar on the owner's database.
func (u *up) serve(ctx context.Context, ownerURL string, listener net.Listener) error {
	owner, err := ledger.OpenOwner(ctx, ownerURL)
	if err != nil {
		return err
	}
	defer owner.Close(context.WithoutCancel(ctx))
	if err := u.prepare(ctx, owner); err != nil {
		return err
	}
	sidecarURL, err := sidecarLogin(ctx, owner, ownerURL)
	if err != nil {
		return err
	}
	if err := u.writeEnv(ownerURL); err != nil {
		return err
	}
	c, err := config.LoadFor(sidecarURL)
	if err != nil {
		return err
	}
	c.TrustRoot, c.SigningKeyHex, c.SigningKeyFile = u.keys.pin, "", u.keys.sidecarFile
	level := slog.LevelWarn // the lines above tell the rest
	if os.Getenv("LOGLINE_LOG_LEVEL") != "" {
		level = c.Level()
	}
	log := slog.New(slog.NewTextHandler(u.Err, &slog.HandlerOptions{Level: level}))
	sidecar, err := u.start(ctx, listener, func() (*App, error) { return New(ctx, c, log) })
	if sidecar == nil {
		return err
	}
	defer sidecar.Close()
	runCtx, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	defer context.AfterFunc(u.Now, sidecar.Hurry)()
	ended := make(chan error, 1)
	u.isStarted = true
	go func() { ended <- sidecar.Run(runCtx, listener) }()
	isReady, err := u.present(ctx, sidecar, owner, ended)
	if err != nil {
		stop()
		if ctx.Err() != nil { // Ctrl-C while the example runs
			err = nil
		}
		return errors.Join(err, <-ended)
	}
	watch.Go(func() { u.watchReady(runCtx, sidecar, isReady) })
	select {
	case <-ctx.Done():
		u.say("\nstopping   what runs may finish, at most %d s; Ctrl-C again stops at once", c.DrainMs/1000)
		err = <-ended
	case err = <-ended:
	}
	if err == nil {
		u.say("stopped%s", strings.TrimSuffix("; the data stays in "+u.data, "; the data stays in "))
	}
	return err
}

// prepare migrates and bootstraps.
func (u *up) prepare(ctx context.Context, owner *ledger.Owner) error {
	applied, err := Migrate(ctx, owner)
	if err != nil {
		return err
	}
	u.say("migrate    %d applied", len(applied))
	if u.keys, err = ensureKeys(ctx, owner, u.Dir); err != nil {
		return err
	}
	u.env["LOGLINE_TRUST_ROOT"], u.env["LOGLINE_SIGNING_KEY_FILE"] = u.keys.pin, u.keys.sidecarFile
	u.say("keys       root %.12s… signs kernels and manifest, %.12s… what the sidecar appends",
		u.keys.pin, u.keys.sidecar.Fingerprint())
	if u.keys.root == nil {
		u.say("           root.key is not here: kernels and manifest stay as they are, until you run\n"+
			"           . %s && logline bootstrap --key FILE", filepath.Join(u.Dir, "up.env"))
		return nil
	}
	published, err := Bootstrap(ctx, owner, BootstrapOptions{DailyQuota: upDailyQuota,
		Signer: sign.NewSigner(u.keys.root), TrustRoot: u.keys.pin})
	if err != nil {
		return err
	}
	changed, quotas := 0, ""
	for _, p := range published {
		if p.Changed {
			changed++
		}
		if p.Changed && p.Span.ID == span.ManifestID && p.Span.Seq == 0 {
			quotas = "; the local manifest sets the daily quotas to 1,000,000"
		}
		if p.Why != nil {
			fmt.Fprintf(u.Err, "logline: %s version %d is kept as it is: %s\n", p.Span.ID, p.Span.Seq, p.Why)
		}
	}
	u.say("bootstrap  %d of %d spans new%s", changed, len(published), quotas)
	return nil
}

// sidecarLogin gives the role loglineos_sidecar a fresh password and returns its URL.
func sidecarLogin(ctx context.Context, owner *ledger.Owner, ownerURL string) (string, error) {
	password := randomHex(24)
	if err := owner.LetSidecarLogIn(ctx, password); err != nil {
		return "", err
	}
	parsed, err := url.Parse(ownerURL)
	if err != nil {
		return "", fmt.Errorf("parse the database URL: %w", err)
	}
	parsed.User = url.UserPassword("loglineos_sidecar", password)
	return parsed.String(), nil
}

// writeEnv writes DIR/up.env: export lines, readable by the owner alone.
func (u *up) writeEnv(ownerURL string) error {
	secret, err := u.jwtSecret()
	if err != nil {
		return err
	}
	u.env["DATABASE_URL"], u.env["LOGLINE_JWT_SECRET"] = ownerURL, secret
	for name, user := range map[string]demoUser{"LOGLINE_TOKEN_ALICE": alice, "LOGLINE_TOKEN_BOB": bob} {
		if u.env[name], err = user.token(secret); err != nil {
			return err
		}
	}
	var text strings.Builder
	text.WriteString("# written by `logline up`: demo users alice (tenant acme) and bob (tenant globex)\n")
	for _, name := range []string{
		"DATABASE_URL", "LOGLINE_URL", "LOGLINE_TOKEN_ALICE", "LOGLINE_TOKEN_BOB", "LOGLINE_JWT_SECRET",
		"LOGLINE_TRUST_ROOT", "LOGLINE_SIGNING_KEY_FILE",
	} {
		fmt.Fprintf(&text, "export %s='%s'\n", name, strings.ReplaceAll(u.env[name], "'", `'\''`))
	}
	path := filepath.Join(u.Dir, "up.env")
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write up.env: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write up.env: %w", err)
	}
	return nil
}

// jwtSecret is kept in DIR, so that tokens stay good over restarts.
func (u *up) jwtSecret() (string, error) {
	path := filepath.Join(u.Dir, "jwt.secret")
	known, err := os.ReadFile(path)
	if err == nil && len(known) >= 32 {
		return strings.TrimSpace(string(known)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the token secret: %w", err)
	}
	secret := randomHex(32)
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the token secret: %w", err)
	}
	return secret, nil
}

func randomHex(bytes int) string {
	raw := make([]byte, bytes)
	rand.Read(raw) // never fails: crypto/rand
	return hex.EncodeToString(raw)
}

// demoUser is a user of the local system.
type demoUser struct{ sub, tenant string }

var (
	alice = demoUser{"alice", "acme"}
	bob   = demoUser{"bob", "globex"}
)

// claims are what a verified token says, in the form of Supabase Auth.
func (d demoUser) claims() map[string]any { return ledger.Claims(d.sub, d.tenant) }

func (d demoUser) token(secret string) (string, error) {
	claims := d.claims()
	claims["iat"], claims["exp"] = time.Now().Unix(), time.Now().Add(upTokenLife).Unix()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(claims)).SignedString([]byte(secret))
	if err != nil {
		return "", fmt.Errorf("sign a demo token: %w", err)
	}
	return signed, nil
}
