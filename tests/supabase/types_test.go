package supabase_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write supabase/types/ledger.ts anew instead of comparing")

// generated is what `supabase gen types` writes of the migrations.
func generated(t *testing.T) string {
	t.Helper()
	p := pushed(t)
	return p.cli("gen", "types", "--remote="+p.URL, "--schema", "ledger", "--workdir="+p.dir).stdout
}

func TestTypesAreFresh(t *testing.T) {
	t.Parallel()
	got, path := generated(t), filepath.Join(root, "supabase", "types", "ledger.ts")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != read(t, path) {
		t.Error("supabase/types/ledger.ts is stale: make gen")
	}
}
