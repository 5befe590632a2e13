package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/tests/program"
)

const someCommit = "0123456789abcdef0123456789abcdef01234567"

// copySource copies what a release is built from, without tests, into a folder of t's own.
func copySource(t *testing.T, name string) string {
	t.Helper()
	const root = "../.."
	target := filepath.Join(t.TempDir(), name)
	for _, part := range []string{"go.mod", "go.sum", "README.md", "LICENSE", "CHANGELOG.md", "sidecar",
		"kernels", "sql", "supabase"} {
		from := filepath.Join(root, part)
		err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			if entry.IsDir() {
				return os.MkdirAll(filepath.Join(target, relative), 0o755)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(filepath.Join(target, relative)), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(target, relative), text, 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return target
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The same source in two folders, one of them a clone with another history, in two environments, makes the
// same bytes; and nothing is asked of the network. LOGLINE_TEST_RELEASE=1 does so for every platform, and
// compiles everything a second time.
func TestTheSameSourceMakesTheSameBytes(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	all := os.Getenv("LOGLINE_TEST_RELEASE") != ""
	made := options{commit: someCommit, platforms: []string{runtime.GOOS + "/" + runtime.GOARCH}}
	if !slices.Contains(platforms, made.platforms[0]) {
		t.Skipf("%s is not released", made.platforms[0])
	}
	if all {
		made.platforms = platforms
	}
	first, second := made, made
	first.source, first.out = copySource(t, "source"), t.TempDir()
	must(t, release(t.Context(), first))

	second.source, second.out = copySource(t, "another folder"), t.TempDir()
	for _, args := range [][]string{{"init", "-q"}, {"add", "."},
		{"-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"}} {
		if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", second.source}, args...)...).
			CombinedOutput(); err != nil {
			t.Logf("the second folder is no clone: git %s: %s", args[0], out)
			break
		}
	}
	t.Setenv("GOFLAGS", "-race")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("CGO_ENABLED", "1")
	if all {
		t.Setenv("GOCACHE", t.TempDir())
	}
	older := filepath.Join(second.out, "logline_0.0.1_plan9_386.tar.gz")
	must(t, os.WriteFile(older, nil, 0o600))
	must(t, release(t.Context(), second))
	if _, err := os.Stat(older); err == nil {
		t.Error("an archive of a release before lies beside the new ones")
	}
	names, err := filepath.Glob(filepath.Join(first.out, "*"))
	must(t, err)
	if want := len(made.platforms) + 2; len(names) != want {
		t.Errorf("made %d files, want %d", len(names), want)
	}
	for _, name := range names {
		a, err := os.ReadFile(name)
		must(t, err)
		b, err := os.ReadFile(filepath.Join(second.out, filepath.Base(name)))
		must(t, err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs", filepath.Base(name))
		}
	}
	checkSums(t, first.out, made.platforms)
	for _, platform := range made.platforms {
		checkArchive(t, first.out, platform)
	}
}

// checkSums holds SHA256SUMS and build.json against the archives.
func checkSums(t *testing.T, out string, wanted []string) {
	t.Helper()
	sums, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
	must(t, err)
	text, err := os.ReadFile(filepath.Join(out, "build.json"))
	must(t, err)
	var made record
	must(t, json.Unmarshal(text, &made))
	if made.Version != app.Release || made.Commit != someCommit || made.Go != runtime.Version() ||
		len(made.Built) != len(wanted) {
		t.Errorf("build.json says %s", text)
	}
	for _, b := range made.Built {
		archive, err := os.ReadFile(filepath.Join(out, b.Archive))
		must(t, err)
		if line := sum(archive) + "  " + b.Archive + "\n"; b.SHA256 != sum(archive) ||
			!strings.Contains(string(sums), line) {
			t.Errorf("the checksums do not have %q", line)
		}
	}
}

// checkArchive looks into one archive: the pages, and a static binary without a path of this machine.
func checkArchive(t *testing.T, out, platform string) {
	t.Helper()
	system, machine, _ := strings.Cut(platform, "/")
	folder := "logline_" + app.Release + "_" + system + "_" + machine
	program, files := "logline", map[string][]byte(nil)
	if system == "windows" {
		program, files = "logline.exe", unzip(t, filepath.Join(out, folder+".zip"))
	} else {
		files = untar(t, filepath.Join(out, folder+".tar.gz"))
	}
	for _, name := range []string{program, "README.md", "LICENSE", "CHANGELOG.md"} {
		if len(files[folder+"/"+name]) == 0 {
			t.Errorf("%s: %s is missing", platform, name)
		}
	}
	binary := filepath.Join(t.TempDir(), program)
	content := files[folder+"/"+program]
	must(t, os.WriteFile(binary, content, 0o755))
	info, err := buildinfo.ReadFile(binary)
	must(t, err)
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["GOOS"] != system || settings["GOARCH"] != machine || settings["CGO_ENABLED"] != "0" ||
		settings["-trimpath"] != "true" || settings["vcs.revision"] != "" {
		t.Errorf("%s is built with %v", platform, settings)
	}
	here, err := os.Getwd()
	must(t, err)
	for _, path := range []string{filepath.Dir(filepath.Dir(here)), os.TempDir() + "/Test"} {
		if bytes.Contains(content, []byte(path)) {
			t.Errorf("%s holds the path %s", platform, path)
		}
	}
	if system == "linux" {
		checkStatic(t, binary)
	}
	if platform == runtime.GOOS+"/"+runtime.GOARCH {
		said, err := exec.CommandContext(t.Context(), binary, "version").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(said), app.Release+"+"+someCommit[:12]+"\n") {
			t.Errorf("logline version: %v: %s", err, said)
		}
	}
}

func checkStatic(t *testing.T, binary string) {
	t.Helper()
	file, err := elf.Open(binary)
	must(t, err)
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("it is not static: it has a segment %s", segment.Type)
		}
	}
}

func untar(t *testing.T, name string) map[string][]byte {
	t.Helper()
	file, err := os.Open(name)
	must(t, err)
	defer file.Close()
	zipped, err := gzip.NewReader(file)
	must(t, err)
	files, reader := map[string][]byte{}, tar.NewReader(zipped)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return files
		}
		must(t, err)
		if files[header.Name], err = io.ReadAll(reader); err != nil {
			t.Fatal(err)
		}
		if isProgram := strings.HasSuffix(header.Name, "/logline"); isProgram != (header.Mode == 0o755) {
			t.Errorf("%s has the mode %o", header.Name, header.Mode)
		}
	}
}

func unzip(t *testing.T, name string) map[string][]byte {
	t.Helper()
	reader, err := zip.OpenReader(name)
	must(t, err)
	defer reader.Close()
	files := map[string][]byte{}
	for _, file := range reader.File {
		entry, err := file.Open()
		must(t, err)
		if files[file.Name], err = io.ReadAll(entry); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// A clone states its commit only where that names the source, and its tag says the version of the source.
func TestACommitIsStatedOnlyWhereItNamesTheSource(t *testing.T) {
	t.Parallel()
	program.Need(t, "git")
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=n",
			"-c", "user.email=e"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %s", args[0], out)
		}
		return strings.TrimSpace(string(out))
	}
	if commit, err := commitOf(t.Context(), dir, false); err != nil || commit != "" {
		t.Errorf("outside a clone: %q, %v", commit, err)
	}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "m")
	head := git("rev-parse", "HEAD")
	if commit, err := commitOf(t.Context(), dir, false); err != nil || commit != head {
		t.Errorf("of a clone: %q, %v, want %s", commit, err, head)
	}
	git("tag", "v"+app.Release)
	if commit, err := commitOf(t.Context(), dir, false); err != nil || commit != head {
		t.Errorf("with its tag: %q, %v", commit, err)
	}
	git("tag", "-d", "v"+app.Release)
	git("tag", "v0.0.1")
	if _, err := commitOf(t.Context(), dir, false); err == nil || !strings.Contains(err.Error(), "v0.0.1") {
		t.Errorf("with another version's tag: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "new"), nil, 0o644))
	if _, err := commitOf(t.Context(), dir, false); err == nil || !strings.Contains(err.Error(), "new") {
		t.Errorf("with a change: %v", err)
	}
	if commit, err := commitOf(t.Context(), dir, true); err != nil || commit != "" {
		t.Errorf("with a change and -dirty: %q, %v", commit, err)
	}
}
