package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// slip appends the next version of a system span as a governor without a key does: neither signed nor hashed.
func (s *signedSystem) slip(id span.ID, change func(*span.Span)) *span.Span {
	s.t.Helper()
	row := s.next(id)
	row.Seq++
	row.Signature, row.PublicKey, row.SigAlg, row.SigKeyID = nil, nil, nil, nil
	change(row)
	s.append(row)
	return row
}

// features replaces them in a manifest.
func features(t *testing.T, row *span.Span, required any, grants map[string][]string) {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(row.Metadata, &document); err != nil {
		t.Fatal(err)
	}
	document["features"] = map[string]any{"signatures_required": required}
	if grants != nil {
		document["grants"] = grants
	}
	var err error
	if row.Metadata, err = json.Marshal(document); err != nil {
		t.Fatal(err)
	}
}

// A governor has no key. What he writes into the manifest must not get the root's signature by a command that
// states something else, or nothing.
func TestNoCommandSignsAManifestThatDoesNotCount(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.require("root", true)
	for _, who := range []string{"system:bootstrap", "system:test", "user:mallory"} {
		slipped := s.slip(span.ManifestID, func(row *span.Span) {
			row.Who = who
			features(t, row, false, map[string][]string{"run_code": {"sql"}})
		})
		root := s.root
		for _, c := range []struct {
			code int
			root string
			args []string
			says string
		}{
			{0, root, []string{"bootstrap", "--key", s.file("root")}, "is not signed"},
			{0, "", []string{"bootstrap", "--key", s.file("root")}, "is not signed"},
			{0, root, []string{"bootstrap"}, "is not signed"},
			{0, "", []string{"bootstrap"}, "is not signed"},
			{1, root, []string{"manifest", "--give", "run_code=sql", "--key", s.file("root")}, "--file"},
			{1, "", []string{"manifest", "--give", "run_code=sql", "--key", s.file("root")}, "--file"},
			{1, root, []string{"manifest", "--key", s.file("root")}, "is not signed"},
			{1, root, []string{"manifest", "--give", "run_code=sql"}, "--file"},
			{1, "", []string{"manifest", "--give", "run_code=sql"}, "LOGLINE_TRUST_ROOT"},
		} {
			s.root = c.root
			if said := s.logline(c.code, c.args...); !strings.Contains(said, c.says) {
				t.Errorf("root %q, logline %v says %q, want %q in it", c.root, c.args, said, c.says)
			}
			if newest := s.latest(span.ManifestID); newest.Seq != slipped.Seq {
				t.Fatalf("root %q, logline %v has signed version %d of %q", c.root, c.args, newest.Seq, who)
			}
		}
		s.root = root
		// What is printed is what rules, and that may be published as a document.
		said := s.logline(0, "manifest")
		document, _, _ := strings.Cut(said, "\n}\n")
		document += "\n}\n"
		if !strings.Contains(said, "is not signed") || !strings.Contains(document, `"signatures_required": true`) {
			t.Errorf("logline manifest prints %s", said)
		}
		file := filepath.Join(s.dir, "manifest.json")
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		s.logline(0, "manifest", "--file", file, "--key", s.file("root"))
		newest := s.latest(span.ManifestID)
		if newest.Seq != slipped.Seq+1 || newest.Signature == nil || newest.Who == "user:mallory" {
			t.Errorf("version %d of %s stands, over the slipped %d", newest.Seq, newest.Who, slipped.Seq)
		}
		sameJSON(t, newest.Metadata, document)
	}
	s.serveSigned("sidecar")
	s.logline(0, "manifest", "--give", "run_code=sql", "--key", s.file("root")) // as ever
}

// The same by a restart of up, whose root key is beside it.
func TestUpSignsNoManifestThatDoesNotCount(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	first := up(t, dir, "--quiet")
	file := filepath.Join(dir, "manifest.json")
	env := []string{"DATABASE_URL=" + first.env["DATABASE_URL"],
		"LOGLINE_TRUST_ROOT=" + first.env["LOGLINE_TRUST_ROOT"]}
	command := func(args ...string) string {
		t.Helper()
		p := program.Start(t, env, args...)
		if code := p.Wait(); code != 0 {
			t.Fatalf("logline %v exits with %d: %s", args, code, p.Err.String())
		}
		return p.Out.String()
	}
	row := &span.Span{Metadata: json.RawMessage(command("manifest"))}
	features(t, row, true, nil)
	if err := os.WriteFile(file, row.Metadata, 0o600); err != nil {
		t.Fatal(err)
	}
	command("manifest", "--file", file, "--key", filepath.Join(dir, "root.key"))
	first.exec(`insert into ledger.universal_registry (id, seq, entity_type, who, did, this, owner_id, tenant_id,
			visibility, status, name, metadata)
		select id, seq + 1, entity_type, who, did, this, owner_id, tenant_id, visibility, status, name,
			metadata || '{"features": {"signatures_required": false}}'
		from ledger.universal_registry where entity_type = 'manifest' order by seq desc limit 1`)
	first.Stop(syscall.SIGINT)
	second := up(t, dir)
	if said := second.Err.String(); !strings.Contains(said, "manifest version 2") {
		t.Errorf("up does not name it: %s", said)
	}
	if n := second.query(`select count(*) from ledger.universal_registry where entity_type = 'manifest'`); n != 3 {
		t.Errorf("%d versions of the manifest, want 3: up has signed what was slipped in", n)
	}
	second.Stop(syscall.SIGINT)
}

// Under another root nothing that the old one has signed counts, and the whole document has to be stated.
func TestAnotherRootSignsAManifestThatIsStated(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.require("root", true)
	said := s.keys(0, "generate", "--root", "--out", s.file("root-2"))
	s.root = fingerprints.FindStringSubmatch(said)[1]
	if said := s.logline(0, "bootstrap", "--key", s.file("root-2")); !strings.Contains(said, "kept") {
		t.Errorf("bootstrap says %s", said)
	}
	if newest := s.latest(span.ManifestID); newest.Seq != 2 {
		t.Fatalf("the second root has signed version %d unasked", newest.Seq)
	}
	file := filepath.Join(s.dir, "manifest.json")
	if err := os.WriteFile(file, s.latest(span.ManifestID).Metadata, 0o600); err != nil {
		t.Fatal(err)
	}
	s.logline(0, "manifest", "--file", file, "--key", s.file("root-2"))
	s.keys(0, "publish", s.file("sidecar"), "--purpose", "span", "--key", s.file("root-2"))
	s.serveSigned("sidecar")
}

// Whose a version is, is not told by a who that every governor may state: once its key has signed one,
// an unsigned one is somebody else's, and stays.
func TestBootstrapPutsNothingOverAGovernorsKernel(t *testing.T) {
	t.Parallel()
	s := setupSigned(t)
	s.logline(0, "bootstrap", "--key", s.file("root"))
	mine := s.slip(span.ObserverBotID, func(row *span.Span) { row.Code = new(*row.Code + "\n// mine\n") })
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"bootstrap", "--key", s.file("root")}, "somebody else wrote it"},
		{[]string{"bootstrap"}, "somebody else wrote it"},
	} {
		if said := s.logline(0, c.args...); !strings.Contains(said, c.says) {
			t.Errorf("logline %v says %s, want %s", c.args, said, c.says)
		}
		if newest := s.latest(span.ObserverBotID); newest.Seq != mine.Seq || *newest.Code != *mine.Code {
			t.Fatalf("logline %v puts version %d over it", c.args, newest.Seq)
		}
	}
	// Without its key bootstrap puts nothing over what it has signed, so that the next one finds its own.
	root, err := sign.ReadKeyFile(s.file("root"))
	if err != nil {
		t.Fatal(err)
	}
	older := s.next(span.RunCodeID)
	older.Seq, older.Code = older.Seq+1, new(*older.Code+"\n// of an older release\n")
	if err := sign.NewSigner(root).Seal(older, s.latest(older.ID).CurrHash); err != nil {
		t.Fatal(err)
	}
	s.append(older)
	if said := s.logline(0, "bootstrap"); !strings.Contains(said, "it is signed: to publish another one") ||
		s.latest(older.ID).Seq != older.Seq {
		t.Errorf("bootstrap without a key says %s", said)
	}
	s.logline(0, "bootstrap", "--key", s.file("root"))
	if newest := s.latest(older.ID); newest.Seq != older.Seq+1 || newest.Signature == nil {
		t.Errorf("bootstrap with its key leaves version %d", newest.Seq)
	}
}
