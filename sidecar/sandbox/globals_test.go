package sandbox

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Each file of testdata/globals is a body that returns the list of what does not hold.
func TestGlobalsKeepTheirStandards(t *testing.T) {
	t.Parallel()
	p := setup(t)
	checks, err := os.ReadFile("testdata/globals/checks.js")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/globals/*.js")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if filepath.Base(file) == "checks.js" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, language := range []string{"javascript", "typescript"} {
				r := run(string(checks)+string(source), host(echo))
				r.Limits.Timeout, r.Program.Language = 5*time.Second, language
				if got := output(t, p, r); got != "[]" {
					t.Errorf("%s: %s", language, got)
				}
			}
		})
	}
}

// A program that names none of them pays for none.
func TestGlobalsAreGivenToThoseWhoNameThem(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]int{
		"return input.n": 0, "console.log(1)": 1, "new URL(x).searchParams": 1, "globalThis.default = () => 1": 0,
		"globalThis[x]": 20, "const g = globalThis; g[x]": 20, "eval(x)": 20, "(0).constructor": 20, `\u0055RL`: 20,
	} {
		if got := namesGlobals(source); len(got) != want {
			t.Errorf("%s: %d globals (%v), want %d", source, len(got), got, want)
		}
	}
}
