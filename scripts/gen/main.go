// Command gen writes the generated files of the repository that come from Go: .env.example and the
// reference of the commands. Run it from the repository's root; with -check it writes nothing and exits 1
// where a file is stale.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"

	"github.com/loglineos/loglineos/sidecar/cli"
	"github.com/loglineos/loglineos/sidecar/config"
)

func main() {
	check := flag.Bool("check", false, "compare instead of writing")
	flag.Parse()
	generated := map[string][]byte{".env.example": config.Example(), "docs/reference/cli.md": cli.Reference()}
	exit := 0
	for name, content := range generated {
		if err := put(name, content, *check); err != nil {
			fmt.Fprintln(os.Stderr, "gen:", err)
			exit = 1
		}
	}
	os.Exit(exit)
}

func put(name string, content []byte, check bool) error {
	if _, err := os.Stat("go.mod"); err != nil {
		return fmt.Errorf("find the repository's root: %w", err)
	}
	if !check {
		return os.WriteFile(name, content, 0o644)
	}
	committed, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read generated file: %w", err)
	}
	if !bytes.Equal(committed, content) {
		return fmt.Errorf("%s is stale: run go run ./scripts/gen", name)
	}
	return nil
}
