package examples_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/program"
)

// From a clone, by the commands of README.md alone, a newcomer's first function runs; each step has its time.
func TestANewcomersFirstFunctionRuns(t *testing.T) {
	t.Parallel()
	program.Need(t, "git", "make", "psql", "bash")
	head := exec.CommandContext(t.Context(), "git", "rev-parse", "--verify", "--quiet", "HEAD")
	head.Dir = root
	if err := head.Run(); err != nil {
		t.Skip("this is no clone of the repository, so nothing can be cloned from it")
	}
	command := exec.CommandContext(t.Context(), "go", "run", "./scripts/newcomer", "-warm")
	command.Dir = root
	said, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, step := range []string{"git clone", "make build", "make up, until it says ready", "by psql",
		"until psql shows its execution", "from nothing to the first own function"} {
		if !strings.Contains(string(said), step) {
			t.Errorf("the step %q has no time:\n%s", step, said)
		}
	}
}
