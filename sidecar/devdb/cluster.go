package devdb

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	settingsFile = "loglineos.conf"
	maxLogBytes  = 16 << 20
)

// defaults are the settings of every cluster; Options.Settings go over them.
func defaults() map[string]string {
	return map[string]string{
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "", // its path could pass the 107 bytes that it may have
		"wal_level":               "logical",
		"max_wal_senders":         "20",
		"max_replication_slots":   "20",
		"max_connections":         "100",
		"shared_buffers":          "128MB",
		"password_encryption":     "scram-sha-256",
		"log_line_prefix":         "%m [%p] %q%u@%d ",
		"logging_collector":       "off",
	}
}

// initData makes the cluster if there is none. Its folder appears by a rename: a crashed initdb leaves
// none.
func (s *Server) initData(ctx context.Context) error {
	passwordFile := filepath.Join(s.Dir, "postgres.password")
	if _, err := os.Stat(filepath.Join(s.data, "PG_VERSION")); err == nil {
		content, err := os.ReadFile(passwordFile)
		if err != nil {
			return fmt.Errorf("read password of %s: %w: put the file back, or remove %s to start empty",
				s.data, err, s.data)
		}
		s.password = strings.TrimSpace(string(content))
		return nil
	}
	if s.options.InitCache != "" {
		return s.copyFromCache(ctx, passwordFile)
	}
	return s.initdb(ctx, passwordFile)
}

func (s *Server) initdb(ctx context.Context, passwordFile string) error {
	content, err := os.ReadFile(passwordFile)
	if errors.Is(err, os.ErrNotExist) {
		content = []byte(rand.Text() + "\n")
		err = writeFile(passwordFile, string(content), 0o600)
	}
	if err != nil {
		return fmt.Errorf("read password: %w", err)
	}
	if err := s.account.own(passwordFile); err != nil {
		return err
	}
	s.password = strings.TrimSpace(string(content))
	fresh := s.data + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove unfinished cluster: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := s.account.own(fresh); err != nil {
		return err
	}
	args := []string{"-D", fresh, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", passwordFile,
		"-E", "UTF8", "--locale=C"}
	if s.options.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	out, err := s.account.command(ctx, filepath.Join(s.Bin, "initdb"), args...).CombinedOutput()
	if err != nil {
		return diagnose("run initdb", err, string(out))
	}
	include := "include = '" + settingsFile + "'\n"
	if err := appendFile(filepath.Join(fresh, "postgresql.conf"), include); err != nil {
		return err
	}
	if err := os.Rename(fresh, s.data); err != nil {
		return fmt.Errorf("name data directory: %w", err)
	}
	return nil
}

// copyFromCache takes DIR's files from a cluster that some earlier Start made in the cache. `cp -a` keeps
// owner and mode of every file, which Postgres insists on.
func (s *Server) copyFromCache(ctx context.Context, passwordFile string) error {
	sum := sha256.Sum256([]byte(s.Bin + "\n" + s.Version + "\n" + strconv.Itoa(os.Geteuid())))
	dir := filepath.Join(s.options.InitCache, "pg-"+hex.EncodeToString(sum[:6]))
	cached := &Server{Dir: dir, Bin: s.Bin, account: s.account}
	cached.data = filepath.Join(dir, filepath.Base(s.data))
	cached.options.Settings = s.options.Settings
	if err := errors.Join(makeOpen(s.options.InitCache), makeOpen(cached.Dir)); err != nil {
		return err
	}
	unlock, err := lock(ctx, cached.Dir+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	cachedPassword := filepath.Join(cached.Dir, "postgres.password")
	if err := cached.initData(ctx); err != nil {
		return fmt.Errorf("fill cache: %w", err)
	}
	s.password = cached.password
	fresh := s.data + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove unfinished cluster: %w", err)
	}
	for _, pair := range [][2]string{{cachedPassword, passwordFile}, {cached.data, fresh}} {
		if out, err := exec.CommandContext(ctx, "cp", "-a", pair[0], pair[1]).CombinedOutput(); err != nil {
			return diagnose("copy cluster", err, string(out))
		}
	}
	if err := os.Rename(fresh, s.data); err != nil {
		return fmt.Errorf("name data directory: %w", err)
	}
	return nil
}

// writeSettings renews the included file at every start, below what `alter system` has set.
func (s *Server) writeSettings(port int) error {
	settings := defaults()
	maps.Copy(settings, s.options.Settings)
	settings["port"] = strconv.Itoa(port)
	var text strings.Builder
	text.WriteString("# written by logline at every start: use `alter system` for settings of your own\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	path := filepath.Join(s.data, settingsFile)
	if err := writeFile(path, text.String(), 0o600); err != nil {
		return err
	}
	return s.account.own(path)
}

// openLog opens the server's log for append and says where this start begins in it.
func (s *Server) openLog() (file *os.File, offset int64, err error) {
	if file, err = os.OpenFile(s.LogFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640); err != nil {
		return nil, 0, fmt.Errorf("open log: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() > maxLogBytes {
		err = file.Truncate(0)
		return file, 0, err
	}
	if err != nil {
		_ = file.Close()
		return nil, 0, fmt.Errorf("open log: %w", err)
	}
	return file, info.Size(), nil
}

// freePort is the wanted port if it is free, else a random one. It is taken from below the range that
// kernels give to outgoing connections, where a client that reconnects could take the port from a
// restarting server.
func freePort(wanted int) (int, error) {
	const first, last, attempts = 15432, 32000, 100
	for range attempts {
		port := wanted
		if port == 0 {
			n, err := rand.Int(rand.Reader, big.NewInt(last-first))
			if err != nil {
				return 0, fmt.Errorf("pick port: %w", err)
			}
			port = first + int(n.Int64())
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) && wanted == 0 {
			return 0, fmt.Errorf("pick port: %w", err)
		}
		wanted = 0
	}
	return 0, fmt.Errorf("pick port: %d tried between %d and %d, all taken", attempts, first, last)
}

// lock waits for an exclusive lock that ends with this process at the latest.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = poll(ctx, pollInterval, func() (bool, error) { return TryLock(file) })
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = file.Close() }, nil
}

// poll asks until the answer is yes, an error, or the end of ctx.
func poll(ctx context.Context, interval time.Duration, ask func() (bool, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func appendFile(path, line string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	if _, err := file.WriteString(line); err != nil {
		_ = file.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
