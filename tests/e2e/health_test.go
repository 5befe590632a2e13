package e2e_test

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/tests/program"
)

// health runs `logline health` and returns its exit code and output.
func health(t *testing.T, sidecar *program.Process, args ...string) (int, string) {
	t.Helper()
	at := "LOGLINE_LISTEN=" + strings.TrimPrefix(sidecar.URL(), "http://")
	p := program.Start(t, []string{at}, append([]string{"health"}, args...)...)
	return p.Wait(), p.Out.String()
}

// A sidecar that stands by is alive and not ready; a dead one is neither. The command takes the address from
// the environment that the sidecar has.
func TestHealthTellsAliveFromReady(t *testing.T) {
	t.Parallel()
	s := setup(t)
	leader := s.serve()
	standby := s.spawn("LOGLINE_NODE=second")
	standsBy(t, standby)
	for _, c := range []struct {
		name    string
		sidecar *program.Process
		args    []string
		code    int
		says    string
	}{
		{"leader lives", leader, nil, 0, "alive"},
		{"leader is ready", leader, []string{"--ready"}, 0, "streaming"},
		{"standby lives", standby, nil, 0, "alive"},
		{"standby is not ready", standby, []string{"--ready"}, 1, "unwell"},
		{"json", leader, []string{"--ready", "--json"}, 0, `"phase": "streaming"`},
		{"json of a standby", standby, []string{"--ready", "--json"}, 1, `"phase": "standby"`},
		{"wrong address", leader, []string{"--listen", "nowhere"}, 2, ""},
	} {
		if code, said := health(t, c.sidecar, c.args...); code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%s: exit %d, want %d; it says %q, want %q in it", c.name, code, c.code, said, c.says)
		}
	}
	leader.Kill()
	if code, said := health(t, leader); code != 1 || !strings.Contains(said, "no sidecar answers") {
		t.Errorf("of a dead sidecar: exit %d: %s", code, said)
	}
}

// The binary says which walls stand on this machine, and which do not.
func TestVersionTriesTheWalls(t *testing.T) {
	t.Parallel()
	p := program.Start(t, nil, "version", "--json")
	if code := p.Wait(); code != 0 {
		t.Fatalf("exit %d: %s", code, p.Err.String())
	}
	var build app.Build
	if err := json.Unmarshal([]byte(p.Out.String()), &build); err != nil {
		t.Fatalf("decode %q: %v", p.Out.String(), err)
	}
	if build.Release != app.Release || build.Go != runtime.Version() ||
		build.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("it says %+v", build)
	}
	want := "stands"
	if runtime.GOOS != "linux" {
		want = "missing: "
	}
	for _, wall := range []string{"rlimits", "no_new_privs", "not_dumpable"} { // every Linux has these
		if !strings.HasPrefix(build.Walls[wall], want) {
			t.Errorf("the wall %s: %q, want %q", wall, build.Walls[wall], want)
		}
	}
	plain := program.Start(t, nil, "version")
	if code, said := plain.Wait(), plain.Out.String(); code != 0 || !strings.Contains(said, "\nwalls ") ||
		!strings.HasPrefix(said, build.Version+"\n") {
		t.Errorf("as text, exit %d: %s", code, said)
	}
}
