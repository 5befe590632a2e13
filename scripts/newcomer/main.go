// Command newcomer does what somebody does who sees this project for the first time, and says how long each
// step takes: clone, make build, make up, and the first function of README.md until its execution stands in
// the ledger.
//
//	go run ./scripts/newcomer           # twice: with an empty build cache, and with the one that this left
//	go run ./scripts/newcomer -warm     # once, with the build cache of this machine
//
// It clones what is committed here, into a folder for temporary files, and removes all of it. The modules of
// Go and Postgres are those of the machine: what they take to fetch is the network's affair. It needs git,
// make, psql and a Postgres that `make up` finds or fetches.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

const (
	upMax       = 5 * time.Minute // from `make up` to its ready line
	functionMax = time.Minute     // from the commit of the function to its execution
	askEvery    = 10 * time.Millisecond
)

// step is one thing that a newcomer does.
type step struct {
	name string
	took time.Duration
}

// newcomer is one pass, in a folder of its own.
type newcomer struct {
	dir   string // holds the clone
	clone string
	env   []string
	steps []step
}

func main() {
	isWarm := flag.Bool("warm", false, "one pass, with the build cache of this machine")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, *isWarm); err != nil {
		fmt.Fprintln(os.Stderr, "newcomer:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, isWarm bool) (err error) {
	if isWarm {
		return pass(ctx, "warm: the build cache of this machine", nil)
	}
	cache, err := os.MkdirTemp("", "loglineos-newcomer-cache-")
	if err != nil {
		return fmt.Errorf("make a build cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cache)) }()
	env := []string{"GOCACHE=" + cache}
	if err := pass(ctx, "cold: the build cache is empty", env); err != nil {
		return err
	}
	return pass(ctx, "warm: the build cache is that of the pass before", env)
}

// pass takes all steps once and prints them.
func pass(ctx context.Context, name string, env []string) (err error) {
	dir, err := os.MkdirTemp("", "loglineos-newcomer-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres runs as another user where this is root
		return fmt.Errorf("open the folder: %w", err)
	}
	n := &newcomer{dir: dir, clone: filepath.Join(dir, "loglineos"), env: append(os.Environ(), env...)}
	if err := n.all(ctx); err != nil {
		return err
	}
	fmt.Println(name)
	total := time.Duration(0)
	for _, s := range n.steps {
		fmt.Printf("    %-42s %8.2f s\n", s.name, s.took.Seconds())
		total += s.took
	}
	fmt.Printf("    %-42s %8.2f s\n", "from nothing to the first own function", total.Seconds())
	return nil
}

func (n *newcomer) all(ctx context.Context) (err error) {
	here, err := filepath.Abs(".")
	if err != nil {
		return fmt.Errorf("find this repository: %w", err)
	}
	err = n.time("git clone", func() error {
		return n.run(ctx, n.dir, "git", "clone", "--quiet", here, n.clone)
	})
	if err != nil {
		return err
	}
	if err := n.time("make build", func() error { return n.run(ctx, n.clone, "make", "build") }); err != nil {
		return err
	}
	var stop func() error
	err = n.time("make up, until it says ready", func() (err error) {
		stop, err = n.up(ctx)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return n.first(ctx)
}

// time takes the time of one step.
func (n *newcomer) time(name string, do func() error) error {
	fmt.Fprintln(os.Stderr, "newcomer:", name)
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	n.steps = append(n.steps, step{name, time.Since(began)})
	return nil
}

func (n *newcomer) run(ctx context.Context, dir, name string, arguments ...string) error {
	command := exec.CommandContext(ctx, name, arguments...)
	command.Dir, command.Env = dir, n.env
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", name, err, said)
	}
	return nil
}

// up starts `make up` and returns when it is ready. stop ends it, and its Postgres.
func (n *newcomer) up(ctx context.Context) (stop func() error, err error) {
	command := exec.CommandContext(ctx, "make", "up", "UP_FLAGS=--listen 127.0.0.1:0")
	command.Dir, command.Env = n.clone, n.env
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) } // make passes it on
	var faults bytes.Buffer
	command.Stderr = &faults
	out, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start it: %w", err)
	}
	stop = func() error {
		_ = command.Cancel()            // it may have ended
		_, _ = io.Copy(io.Discard, out) // until logline has closed it
		if err := command.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			return fmt.Errorf("stop make up: %w", err)
		}
		return nil
	}
	late := time.AfterFunc(upMax, func() { _ = command.Cancel() })
	defer late.Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "ready ") {
			return stop, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("it does not get ready within %s:\n%s", upMax, faults.String()), stop())
}

var (
	block  = regexp.MustCompile("(?ms)^## Your first function$.*?^```sql[^\n]*\n(.*?)^```$")
	pause  = regexp.MustCompile(`(?m)^select pg_sleep\(.*\n`)
	output = "{\"twice\": 42}"
)

// first is the newcomer's own function: the first block of SQL of README.md, up to where it would wait, then
// the question behind that until it shows what the function returned.
func (n *newcomer) first(ctx context.Context) error {
	page, err := os.ReadFile(filepath.Join(n.clone, "README.md"))
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	found := block.FindSubmatch(page)
	if found == nil {
		return errors.New(`find the first function: README.md has no block of SQL below "Your first function"`)
	}
	parts := pause.Split(string(found[1]), 2)
	if len(parts) != 2 {
		return errors.New("find the first function: its block does not wait by pg_sleep")
	}
	err = n.time("the function of README.md, by psql", func() error {
		_, err := n.psql(ctx, parts[0])
		return err
	})
	if err != nil {
		return err
	}
	return n.time("… until psql shows its execution", func() error {
		ctx, cancel := context.WithTimeout(ctx, functionMax)
		defer cancel()
		ticker := time.NewTicker(askEvery)
		defer ticker.Stop()
		for {
			said, err := n.psql(ctx, parts[1])
			switch {
			case err != nil:
				return err
			case strings.Contains(said, output):
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for it: %w; psql shows\n%s", ctx.Err(), said)
			case <-ticker.C:
			}
		}
	})
}

// psql pastes a text as the page says: in a shell that has read up.env.
func (n *newcomer) psql(ctx context.Context, text string) (string, error) {
	command := exec.CommandContext(ctx, "bash", "-euc",
		`. .logline/up.env && psql -X -v ON_ERROR_STOP=1 "$DATABASE_URL"`)
	command.Dir, command.Env, command.Stdin = n.clone, n.env, strings.NewReader(text)
	said, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("paste into psql: %w\n%s", err, said)
	}
	return string(said), nil
}
