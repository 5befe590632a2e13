// Command release builds what is released: static binaries of logline, each in an archive with README.md,
// LICENSE and CHANGELOG.md, and SHA256SUMS of all.
//
//	go run ./scripts/release [-out DIR] [-platforms LIST] [-commit HASH] [-dirty]
//
// It is run from the root of the source. The same source, commit and Go make the same bytes, in whatever
// folder and on whatever machine: paths, times, build ids and the settings of the environment stay out.
// Nothing is fetched once `go mod download` has run. The version stands in sidecar/app/version.go; a tag v*
// of the commit must say the same. The commit is git's, where the source is a clone without changes.
//
// To add a platform: a line in platforms, and a look at `logline version` there.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
)

// platforms are what is released, as GOOS/GOARCH.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64",
	"windows/arm64"}

// commitVariable is what the linker writes the commit into.
const commitVariable = "github.com/loglineos/loglineos/sidecar/app.commit"

// options are one release.
type options struct {
	source    string // root of the source
	out       string
	platforms []string
	commit    string
}

// built is one archive, as build.json lists it.
type built struct {
	Platform     string `json:"platform"`
	Archive      string `json:"archive"`
	ArchiveBytes int64  `json:"archive_bytes"`
	SHA256       string `json:"sha256"`
	BinaryBytes  int64  `json:"binary_bytes"`
	BinarySHA256 string `json:"binary_sha256"`
}

// record is build.json: what somebody needs who wants to make the same bytes.
type record struct {
	Version string  `json:"version"`
	Commit  string  `json:"commit"`
	Go      string  `json:"go"`
	Built   []built `json:"built"`
}

func main() {
	o := options{source: "."}
	var list string
	var dirty bool
	flag.StringVar(&o.out, "out", filepath.Join("bin", "release"), "folder of the archives")
	flag.StringVar(&list, "platforms", strings.Join(platforms, ","), "GOOS/GOARCH, with commas; host: this one")
	flag.StringVar(&o.commit, "commit", "", "default: git's, where the source is a clone")
	flag.BoolVar(&dirty, "dirty", false, "build a clone with uncommitted changes, and state no commit")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o.platforms = strings.Split(strings.ReplaceAll(list, "host", runtime.GOOS+"/"+runtime.GOARCH), ",")
	var err error
	if o.commit == "" {
		o.commit, err = commitOf(ctx, o.source, dirty)
	}
	if err == nil {
		err = release(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// commitOf is the commit of a clone without changes, "" outside a clone.
func commitOf(ctx context.Context, source string, dirty bool) (string, error) {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", source}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	if top, err := git("rev-parse", "--show-prefix"); err != nil || top != "" {
		return "", nil // an archive of the source, perhaps within another's clone
	}
	changes, err := git("status", "--porcelain")
	switch {
	case err != nil:
		return "", fmt.Errorf("ask git for changes: %w", err)
	case changes != "" && dirty:
		return "", nil
	case changes != "":
		return "", fmt.Errorf("the clone has changes, so no commit names this source: commit them, or say "+
			"-dirty:\n%s", changes)
	}
	tags, err := git("tag", "--points-at", "HEAD", "v*")
	if err != nil {
		return "", fmt.Errorf("ask git for tags: %w", err)
	}
	if tags != "" && !slices.Contains(strings.Fields(tags), "v"+app.Release) {
		return "", fmt.Errorf("the commit has the tag %s, the source is of version %s (sidecar/app/version.go)",
			tags, app.Release)
	}
	return git("rev-parse", "HEAD")
}

// release builds every platform into o.out.
func release(ctx context.Context, o options) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("make the folder of archives: %w", err)
	}
	if err := removeArchives(o.out); err != nil {
		return err
	}
	made := record{Version: app.Release, Commit: o.commit, Go: runtime.Version()}
	var sums bytes.Buffer
	for _, platform := range o.platforms {
		if !slices.Contains(platforms, platform) {
			return fmt.Errorf("platform %q is not released: want some of %s", platform, strings.Join(platforms, ", "))
		}
		began := time.Now()
		b, err := buildOne(ctx, o, platform)
		if err != nil {
			return err
		}
		made.Built = append(made.Built, b)
		fmt.Fprintf(&sums, "%s  %s\n", b.SHA256, b.Archive)
		fmt.Printf("%-14s %5.1f MB, packed %4.1f MB  %s  in %d s\n", platform, float64(b.BinaryBytes)/1e6,
			float64(b.ArchiveBytes)/1e6, b.Archive, int(time.Since(began).Seconds()))
	}
	if err := os.WriteFile(filepath.Join(o.out, "SHA256SUMS"), sums.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write checksums: %w", err)
	}
	text, err := json.MarshalIndent(made, "", "  ")
	if err != nil {
		return fmt.Errorf("write build.json: %w", err)
	}
	if err := os.WriteFile(filepath.Join(o.out, "build.json"), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write build.json: %w", err)
	}
	return nil
}

// removeArchives takes away what a release before has left: of SHA256SUMS' folder all is to be published.
func removeArchives(folder string) error {
	for _, pattern := range []string{"logline_*.tar.gz", "logline_*.zip"} {
		older, err := filepath.Glob(filepath.Join(folder, pattern))
		for _, path := range older {
			err = errors.Join(err, os.Remove(path))
		}
		if err != nil {
			return fmt.Errorf("remove older archives: %w", err)
		}
	}
	return nil
}

// buildOne builds and packs one platform.
func buildOne(ctx context.Context, o options, platform string) (built, error) {
	system, machine, _ := strings.Cut(platform, "/")
	dir, err := os.MkdirTemp("", "loglineos-release-")
	if err != nil {
		return built{}, fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	program := "logline"
	if system == "windows" {
		program += ".exe"
	}
	binary := filepath.Join(dir, program)
	flags := "-s -w -buildid="
	if o.commit != "" {
		flags += " -X " + commitVariable + "=" + o.commit
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags,
		"-o", binary, "./sidecar")
	build.Dir, build.Env = o.source, environment(system, machine)
	if said, err := build.CombinedOutput(); err != nil {
		return built{}, fmt.Errorf("build %s: %w: %s", platform, err, bytes.TrimSpace(said))
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return built{}, fmt.Errorf("read the binary: %w", err)
	}
	name := fmt.Sprintf("logline_%s_%s_%s", app.Release, system, machine)
	files := []packed{{program, 0o755, content}}
	for _, page := range []string{"CHANGELOG.md", "LICENSE", "README.md"} {
		text, err := os.ReadFile(filepath.Join(o.source, page))
		if err != nil {
			return built{}, fmt.Errorf("read a page of the archive: %w", err)
		}
		files = append(files, packed{page, 0o644, text})
	}
	archive, suffix, err := pack(system, name, files)
	if err != nil {
		return built{}, err
	}
	b := built{Platform: platform, Archive: name + suffix, ArchiveBytes: int64(len(archive)),
		SHA256: sum(archive), BinaryBytes: int64(len(content)), BinarySHA256: sum(content)}
	if err := os.WriteFile(filepath.Join(o.out, b.Archive), archive, 0o644); err != nil {
		return built{}, fmt.Errorf("write the archive: %w", err)
	}
	return b, nil
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}

// environment is the caller's but for what changes the bytes of a build.
func environment(system, machine string) []string {
	keep := []string{"GOPATH", "GOMODCACHE", "GOCACHE", "GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB",
		"GOPRIVATE", "GOROOT", "GOTMPDIR", "GOINSECURE", "GOAUTH"}
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return strings.HasPrefix(name, "GO") && !slices.Contains(keep, name) || strings.HasPrefix(name, "CGO_")
	})
	return append(env, "GOOS="+system, "GOARCH="+machine, "CGO_ENABLED=0", "GOAMD64=v1", "GOARM64=v8.0",
		"GOTOOLCHAIN=local", "GOWORK=off", "GOENV=off")
}
