package examples_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/loglineos/loglineos/tests/node"
)

// Functions and policies of the examples are strictly what kernel.d.ts and globals.d.ts say, with no types of
// a browser and none of Node.
func TestTheExamplesAreTyped(t *testing.T) {
	t.Parallel()
	tsc := node.Tool(t, "tsc")
	files, err := filepath.Glob(filepath.Join(root, "docs", "examples", "*", "*.ts"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 9 {
		t.Errorf("%d files are checked, want 9 at least", len(files))
	}
	files = append(files, filepath.Join(root, "kernels", "globals.d.ts"))
	for i, name := range files {
		if files[i], err = filepath.Abs(name); err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadFile(name); err != nil { // so that go test runs again where one has changed
			t.Fatal(err)
		}
	}
	config, err := json.Marshal(map[string]any{"files": files, "compilerOptions": map[string]any{
		"strict": true, "noEmit": true, "target": "es2022", "module": "esnext", "moduleResolution": "bundler",
		"moduleDetection": "force", "lib": []string{"es2023"}, "types": []string{}, "noUnusedLocals": true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	project := filepath.Join(t.TempDir(), "tsconfig.json")
	if err := os.WriteFile(project, config, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.CommandContext(t.Context(), tsc, "-p", project).CombinedOutput(); err != nil {
		t.Errorf("tsc: %v\n%s", err, said)
	}
}
