package docs_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// patience bounds all commands of one page.
const patience = 2 * time.Minute

// The commands of each page do what they are for: they end with 0.
func TestThePagesCommandsRun(t *testing.T) {
	t.Parallel()
	program.Need(t, "bash", "psql", "jq", "curl")
	byPage := map[string][]pages.Block{}
	for _, b := range commands(t) {
		if b.Mark == "" {
			byPage[b.Page] = append(byPage[b.Page], b)
		}
	}
	for page, blocks := range byPage {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			ran := clone(t).paste(page, blocks)
			if ran.err != nil {
				t.Errorf("%s\n%s", ran.err, ran.said)
			}
		})
	}
}

// A block that fails is named, and what follows it does not run.
func TestAFailingBlockIsNamed(t *testing.T) {
	t.Parallel()
	for _, failing := range []pages.Block{
		{Page: "planted.md", Language: "sh", Text: "false\n", Line: 4},
		{Page: "planted.md", Language: "sql", Text: "select no_such_column;\n", Line: 4},
	} {
		ran := clone(t).paste("planted.md", []pages.Block{
			{Page: "planted.md", Language: "sh", Text: "echo first\n", Line: 1}, failing,
			{Page: "planted.md", Language: "sh", Text: "echo behind it\n", Line: 8},
		})
		if ran.err == nil || !strings.Contains(ran.said, "planted.md:4 fails") ||
			!strings.Contains(ran.said, "first\n") || strings.Contains(ran.said, "behind it") {
			t.Errorf("%s: %v\n%s", failing.Language, ran.err, ran.said)
		}
	}
}

// folder is a clone of the repository in which `logline up` runs: what is read is linked, what commands write
// lands here.
type folder struct {
	t       *testing.T
	dir     string
	address string // host:port of the sidecar
}

func clone(t *testing.T) *folder {
	t.Helper()
	f := &folder{t: t, dir: pgtest.Dir(t)}
	for _, name := range []string{"docs", "kernels", "sql", "supabase", "tests"} {
		f.link(filepath.Join(root, name), name)
	}
	if err := os.Mkdir(filepath.Join(f.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.link(program.Logline(), filepath.Join("bin", "logline"))
	f.up()
	for _, name := range []string{"root.key", "sidecar.key"} {
		key, err := os.ReadFile(filepath.Join(f.dir, ".logline", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(f.dir, name), key, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *folder) link(target, name string) {
	f.t.Helper()
	path, err := filepath.Abs(target)
	if err == nil {
		err = os.Symlink(path, filepath.Join(f.dir, name))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// up starts everything and ends it with the test.
func (f *folder) up() {
	f.t.Helper()
	command := exec.Command(program.Logline(), "up", "--data-dir", filepath.Join(f.dir, ".logline"),
		"--listen", "127.0.0.1:0")
	command.Dir = f.dir
	up := program.Launch(f.t, command)
	f.t.Cleanup(func() {
		if code := up.Stop(syscall.SIGTERM); code != 0 {
			f.t.Errorf("logline up ends with %d", code)
		}
	})
	up.AwaitSaid("ready      http://")
	f.address = strings.TrimPrefix(up.AwaitReady().URL(), "http://")
}

// outcome is how the blocks of a page went.
type outcome struct {
	said string
	err  error
}

// paste runs blocks one after another in one shell, as a reader would who has sourced up.env.
func (f *folder) paste(page string, blocks []pages.Block) outcome {
	f.t.Helper()
	var script strings.Builder
	script.WriteString("set -Eeuo pipefail\ntrap 'echo \"$at fails\" >&2' ERR\nat=start\n. .logline/up.env\n" +
		"export PATH=$PWD/bin:$PATH\n")
	for _, b := range blocks {
		fmt.Fprintf(&script, "\nat='%s'\n", b)
		text := strings.ReplaceAll(b.Text, "127.0.0.1:8787", f.address)
		if b.Language == "sql" {
			text = "psql -X -q -v ON_ERROR_STOP=1 \"$DATABASE_URL\" <<'END OF BLOCK'\n" + text + "END OF BLOCK\n"
		}
		script.WriteString(text)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	var said program.Transcript
	file := filepath.Join(f.dir, "blocks.sh")
	if err := os.WriteFile(file, []byte(script.String()), 0o644); err != nil {
		f.t.Fatal(err)
	}
	shell := exec.CommandContext(ctx, "bash", file)
	shell.Dir = f.dir
	shell.Stdout, shell.Stderr, shell.WaitDelay = &said, &said, time.Second
	shell.SysProcAttr = program.WithParent()
	err := shell.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("end the commands of %s within %s: %w", page, patience, ctx.Err())
	}
	return outcome{said.String(), err}
}
