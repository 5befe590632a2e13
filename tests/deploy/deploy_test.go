// Package deploy_test holds the files of scripts/deploy against their own tools (BuildKit's linter, Compose's
// loader and AWS' types, by the module in lint/; systemd-analyze), and builds what the Dockerfile builds.
// No image is made and nothing is deployed: that needs an engine, or an account.
//
// To add a file: its tool in lint/main.go, a row in TestEachFilePassesItsOwnTool, and in brokenFiles changes
// that its tool must refuse.
package deploy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/loglineos/loglineos/tests/program"
)

const (
	root  = "../.."
	files = root + "/scripts/deploy/"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	return string(text)
}

// lintProgram builds lint/ once. Only where its modules can not be had (errNoModules) may a test go without.
var lintProgram = sync.OnceValues(func() (path string, err error) {
	dir, err := os.MkdirTemp("", "loglineos-lint-")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "lint")
	for _, args := range [][]string{{"mod", "download"}, {"build", "-o", path, "."}} {
		command := exec.Command("go", args...)
		command.Dir = "lint"
		if out, err := command.CombinedOutput(); err != nil && args[0] == "mod" {
			return "", fmt.Errorf("%w: %s", errNoModules, out)
		} else if err != nil {
			return "", fmt.Errorf("build lint/: %w: %s", err, out)
		}
	}
	return path, nil
})

var errNoModules = errors.New("the modules of lint/ can not be had")

func TestMain(m *testing.M) {
	code := m.Run()
	if linter, _ := lintProgram(); linter != "" {
		_ = os.RemoveAll(filepath.Dir(linter))
	}
	os.Exit(code)
}

// lint runs the tool of a kind of file and returns what it finds wrong.
func lint(t *testing.T, kind string, names ...string) string {
	t.Helper()
	linter, err := lintProgram()
	if errors.Is(err, errNoModules) {
		program.Unfetched(t, "the tools of "+kind+" files: "+err.Error())
	}
	must(t, err)
	out, err := exec.CommandContext(t.Context(), linter, append([]string{kind}, names...)...).CombinedOutput()
	if (err != nil) != (len(out) > 0) {
		t.Fatalf("lint %s ends with %v and says %q", kind, err, out)
	}
	return string(out)
}

func TestEachFilePassesItsOwnTool(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind  string
		names []string
	}{
		{"dockerfile", []string{files + "Dockerfile"}},
		{"compose", []string{files + "compose.yaml"}},
		{"compose", []string{"testdata/supabase.yaml", files + "compose.supabase.yaml"}},
		{"toml", []string{files + "fly.toml"}},
		{"ecs", []string{files + "ecs-task.json"}},
		{"rds", []string{files + "rds-parameters.json"}},
	} {
		if said := lint(t, c.kind, c.names...); said != "" {
			t.Errorf("%v: %s", c.names, said)
		}
	}
}

// brokenFiles are changes that the tools must refuse: a check that can not fail is none.
var brokenFiles = []struct{ kind, name, old, new string }{
	{"dockerfile", "Dockerfile", "WORKDIR /source", "WORKDIIR /source"},
	{"dockerfile", "Dockerfile", "AS build", "as build"},
	{"dockerfile", "Dockerfile", "USER 65532:65532", "USER root"},
	{"dockerfile", "Dockerfile", `CMD ["/logline", "health"]`, `CMD curl -f localhost:8787`},
	{"dockerfile", "Dockerfile", `ENTRYPOINT ["/logline"]`, `ENTRYPOINT /logline`},
	{"dockerfile", "Dockerfile", "static-debian12:nonroot", "static-debian12"},
	{"compose", "compose.yaml", "read_only: true", "read_only: false"},
	{"compose", "compose.yaml", "cap_drop: [ALL]", "cap_drop: [NET_RAW]"},
	{"compose", "compose.yaml", "no-new-privileges:true", "seccomp=unconfined"},
	{"compose", "compose.yaml", "stop_grace_period: 20s", "stop_grace_period: 10s"},
	{"compose", "compose.yaml", "condition: service_healthy", "condition: service_ready"},
	{"compose", "compose.yaml", "- LOGLINE_NODE\n", ""},
	{"compose", "compose.yaml", "pids_limit", "pid_limit"},
	{"toml", "fly.toml", `path = "/healthz"`, `path = "/"`},
	{"toml", "fly.toml", "kill_signal", "kill_signl"},
	{"toml", "fly.toml", `sidecar = "serve"`, `sidecar = serve`},
	{"ecs", "ecs-task.json", "readonlyRootFilesystem", "readOnlyRoot"},
	{"ecs", "ecs-task.json", `"ARM64"`, `"ARM"`},
	{"ecs", "ecs-task.json", `"stopTimeout": 20`, `"stopTimeout": 10`},
	{"rds", "rds-parameters.json", "pending-reboot", "reboot"},
}

func TestItsOwnToolRefusesABrokenFile(t *testing.T) {
	t.Parallel()
	for _, b := range brokenFiles {
		text := contents(t, files+b.name)
		if !strings.Contains(text, b.old) {
			t.Errorf("%s has no %q to break", b.name, b.old)
			continue
		}
		broken := filepath.Join(t.TempDir(), b.name)
		must(t, os.WriteFile(broken, []byte(strings.ReplaceAll(text, b.old, b.new)), 0o644))
		if said := lint(t, b.kind, broken); said == "" {
			t.Errorf("%s with %q in the place of %q passes", b.name, b.new, b.old)
		}
	}
}

// analyze runs systemd-analyze on the unit with new in the place of old, and returns what it complains of.
func analyze(t *testing.T, old, new string) string {
	t.Helper()
	analyzer := program.Find(t, "systemd-analyze")
	text := contents(t, files+"logline.service")
	if !strings.Contains(text, old) {
		t.Fatalf("the unit has no %q to break", old)
	}
	self, err := os.Executable() // the program of the unit has to be there
	must(t, err)
	text = strings.ReplaceAll(strings.ReplaceAll(text, old, new), "/usr/local/bin/logline", self)
	unit := filepath.Join(t.TempDir(), "logline.service")
	must(t, os.WriteFile(unit, []byte(text), 0o644))
	said, err := exec.CommandContext(t.Context(), analyzer, "verify", unit).CombinedOutput()
	if err != nil || len(said) > 0 {
		return "verify: " + string(said)
	}
	// The most that it may be exposed, in tenths; a unit without any hardening has 96.
	rate := exec.CommandContext(t.Context(), analyzer, "security", "--offline=true", "--threshold=25", unit)
	said, err = rate.CombinedOutput()
	if err != nil {
		return "security: " + string(said)
	}
	return ""
}

func TestTheUnitIsSoundAndTight(t *testing.T) {
	t.Parallel()
	if said := analyze(t, "[Unit]", "[Unit]"); said != "" {
		t.Error(said)
	}
	for old, new := range map[string]string{
		"NoNewPrivileges=yes":                            "NoNewPrivileges=perhaps",
		"KillMode=mixed":                                 "KilMode=mixed",
		"SystemCallFilter=@sy":                           "SystemCallFilter=@nothing @sy",
		"CapabilityBoundingSet=\nAmbientCapabilities=\n": "",
	} {
		if analyze(t, old, new) == "" {
			t.Errorf("a unit with %q in the place of %q passes", new, old)
		}
	}
}

// The sandbox makes namespaces of these kinds, landlock rules and seccomp filters: a unit that refuses one of
// them takes a wall down.
func TestTheUnitLeavesTheSandboxItsWalls(t *testing.T) {
	t.Parallel()
	unit := contents(t, files+"logline.service")
	for _, line := range []string{"RestrictNamespaces=user net ipc\n", " landlock_create_ruleset ",
		" landlock_restrict_self ", " seccomp\n"} {
		if !strings.Contains(unit, line) {
			t.Errorf("the unit has no %q", strings.TrimSpace(line))
		}
	}
}

var buildCommand = regexp.MustCompile(`(?ms)^RUN (CGO_ENABLED=0 .*?)\n\n`)

// The build command of the Dockerfile, run on what .dockerignore lets through, makes the released binary.
func TestTheImageHoldsTheReleasedBinary(t *testing.T) {
	t.Parallel()
	const commit = "0123456789abcdef0123456789abcdef01234567"
	dir := t.TempDir()
	command := buildCommand.FindStringSubmatch(contents(t, files+"Dockerfile"))
	if command == nil {
		t.Fatal("the Dockerfile has no build command")
	}
	source := filepath.Join(dir, "source")
	copyContext(t, source)
	binary := filepath.Join(dir, "logline")
	script := strings.ReplaceAll(command[1], "-o /logline ", "-o "+binary+" ")
	build := exec.CommandContext(t.Context(), "sh", "-euc", script)
	build.Dir = source
	build.Env = append(os.Environ(), "TARGETOS="+runtime.GOOS, "TARGETARCH="+runtime.GOARCH, "COMMIT="+commit,
		"GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	release := exec.CommandContext(t.Context(), "go", "run", "./scripts/release", "-platforms", "host",
		"-commit", commit, "-out", dir)
	release.Dir = root
	if out, err := release.CombinedOutput(); err != nil {
		t.Fatalf("make the release for this machine: %v: %s", err, out)
	}
	var made struct {
		Built []struct {
			BinarySHA256 string `json:"binary_sha256"`
		}
	}
	must(t, json.Unmarshal([]byte(contents(t, filepath.Join(dir, "build.json"))), &made))
	sum, err := exec.CommandContext(t.Context(), "sha256sum", binary).Output()
	must(t, err)
	if !strings.HasPrefix(string(sum), made.Built[0].BinarySHA256) {
		t.Errorf("the image's binary is %.64s, the released one %s", sum, made.Built[0].BinarySHA256)
	}
}

// copyContext copies what Dockerfile.dockerignore lets through.
func copyContext(t *testing.T, target string) {
	t.Helper()
	var kept, dropped []string
	for line := range strings.Lines(contents(t, files+"Dockerfile.dockerignore")) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line == "*" || line[0] == '#':
		case line[0] == '!':
			kept = append(kept, line[1:])
		case strings.HasPrefix(line, "**/"):
			dropped = append(dropped, line[3:])
		default:
			t.Fatalf("Dockerfile.dockerignore: %q is of no form that this test reads", line)
		}
	}
	for _, name := range kept {
		top := filepath.Join(root, name)
		err := filepath.WalkDir(top, func(from string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			for _, pattern := range dropped {
				if matched, err := path.Match(pattern, entry.Name()); err != nil || matched {
					if entry.IsDir() {
						return fs.SkipDir
					}
					return err
				}
			}
			relative, err := filepath.Rel(root, from)
			if err != nil {
				return err
			}
			to := filepath.Join(target, relative)
			if entry.IsDir() {
				return os.MkdirAll(to, 0o755)
			}
			text, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			return os.WriteFile(to, text, 0o644)
		})
		must(t, err)
	}
}

// What a Dockerfile is built with is what this module asks for.
func TestTheImageIsBuiltWithThisGo(t *testing.T) {
	t.Parallel()
	want := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(contents(t, root+"/go.mod"))
	if want == nil || !strings.Contains(contents(t, files+"Dockerfile"), "golang:"+want[1]+"-") {
		t.Errorf("the Dockerfile is not on golang:%s", want[1])
	}
}

// Every variable that the files set is one that the sidecar reads, and no secret stands in them.
func TestTheFilesSetKnownVariables(t *testing.T) {
	t.Parallel()
	known := contents(t, root+"/.env.example")
	for _, name := range []string{"compose.yaml", "compose.supabase.yaml", "fly.toml", "ecs-task.json",
		"Dockerfile", "logline.service"} {
		text := contents(t, files+name)
		for _, variable := range regexp.MustCompile(`\bLOGLINE_[A-Z_]+`).FindAllString(text, -1) {
			if variable != "LOGLINE_PASSWORD" && !strings.Contains(known, variable+"=") {
				t.Errorf("%s sets %s, which nothing reads", name, variable)
			}
		}
	}
}
