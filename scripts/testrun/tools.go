package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// aptTimeout bounds one call of apt-get.
const aptTimeout = 5 * time.Minute

// tool is a program that some test uses, and Debian's package of it. (Postgres is not here: the
// tests' own helper finds or fetches it.)
type tool struct{ program, debianPackage, usedBy string }

var tools = []tool{
	{"node", "nodejs", "tests/vectors: the second implementation of the canonical form"},
}

// installTools installs what is missing, on Debian as root. A failure is said and costs no test but
// those that need the tool: they are skipped by name.
func installTools() {
	var packages []string
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err != nil {
			packages = append(packages, t.debianPackage)
		}
	}
	if len(packages) == 0 || os.Geteuid() != 0 || !isDebian() {
		return
	}
	fmt.Printf("installing %s by apt-get, for tests that use it\n", strings.Join(packages, ", "))
	install := append([]string{"install", "-y", "--no-install-recommends"}, packages...)
	if err := aptGet(install...); err == nil {
		return
	}
	err := aptGet("update") // a fresh container has no lists
	if err == nil {
		err = aptGet(install...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
	}
}

func isDebian() bool {
	_, err := os.Stat("/etc/debian_version")
	_, lookErr := exec.LookPath("apt-get")
	return err == nil && lookErr == nil
}

func aptGet(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), aptTimeout)
	defer cancel()
	options := []string{"-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold"}
	command := exec.CommandContext(ctx, "apt-get", append(options, args...)...)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l")
	out, err := command.CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("run apt-get %s: %w: %s", args[0], err, lines[len(lines)-1])
	}
	return nil
}
