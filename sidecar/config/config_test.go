package config

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const databaseURL = "postgres://alice:hunter2@db.example:5433/app?sslmode=require&password=hunter2"

// setup empties the environment of every variable of the sidecar, then sets DATABASE_URL and env.
// It uses t.Setenv, so these tests do not run in parallel.
func setup(t *testing.T, env map[string]string) (*Config, error) {
	t.Helper()
	for _, v := range Describe() {
		t.Setenv(v.Name, "")
		if err := os.Unsetenv(v.Name); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DATABASE_URL", databaseURL)
	for name, value := range env {
		t.Setenv(name, value)
	}
	return Load()
}

func TestLoadFillsDefaults(t *testing.T) {
	c, err := setup(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	node, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if c.ReplicationURL != databaseURL || c.Listen != "127.0.0.1:8787" || c.Slot != "loglineos" ||
		c.Node != node || c.Workers != max(4, 2*runtime.NumCPU()) ||
		c.Level() != slog.LevelInfo || c.DrainMs != 10000 {
		t.Errorf("got %v", c)
	}
}

func TestLoadReadsLists(t *testing.T) {
	c, err := setup(t, map[string]string{
		"LOGLINE_SECRETS": " OPENAI_API_KEY@api.OPENAI.com:443,,OTHER_KEY@127.0.0.1:11434," +
			"OPENAI_API_KEY@[::1]:80 ",
		"OPENAI_API_KEY": "sk-12345", "OTHER_KEY": "sk-22345",
		"LOGLINE_FETCH_ALLOW": "API.openai.com:443, 127.0.0.1:11434,[::1]:80", "LOGLINE_LOG_LEVEL": "debug",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.FetchAllow, Hosts{"api.openai.com:443", "127.0.0.1:11434", "[::1]:80"}) {
		t.Errorf("got %q", c.FetchAllow)
	}
	want := []Secret{{"OPENAI_API_KEY", "sk-12345", []string{"api.openai.com:443", "[::1]:80"}},
		{"OTHER_KEY", "sk-22345", []string{"127.0.0.1:11434"}}}
	if !reflect.DeepEqual(c.FetchSecrets(), want) {
		t.Errorf("got %v", c.FetchSecrets())
	}
}

func TestABareSecretIsBoundToTheOnlyHost(t *testing.T) {
	c, err := setup(t, map[string]string{"LOGLINE_SECRETS": "KEY", "KEY": "hunter2hunter2",
		"LOGLINE_FETCH_ALLOW": "api.openai.com:443"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Secret{{"KEY", "hunter2hunter2", []string{"api.openai.com:443"}}}
	if !reflect.DeepEqual(c.FetchSecrets(), want) {
		t.Errorf("got %v", c.FetchSecrets())
	}
}

func TestSecretsAreRefused(t *testing.T) {
	const hosts = "api.openai.com:443,127.0.0.1:11434"
	for _, c := range []struct{ list, value, allow, want string }{
		{"KEY", "hunter2hunter2", hosts, "names KEY without a host: write KEY@host:port"},
		{"KEY", "hunter2hunter2", "", "names KEY without a host"},
		{"KEY@evil.example:443", "hunter2hunter2", hosts, `binds KEY to "evil.example:443"`},
		{"KEY@", "hunter2hunter2", hosts, "binds KEY to"},
		{"KEY@api.openai.com", "hunter2hunter2", hosts, "binds KEY to"},
		{"KEY@api.openai.com:443", "hunter2", hosts, "which is short: use at least 8 characters"},
		{"KEY@api.openai.com:443", "hunter2hunter2\n", hosts, "without a line's end"},
		{"KEY@api.openai.com:443", "hunter2 hunter2", hosts, "which holds a space"},
		{"KEY@api.openai.com:443", "hunter2hünter2", hosts, "beyond ASCII"},
	} {
		_, err := setup(t, map[string]string{"LOGLINE_SECRETS": c.list, "KEY": c.value,
			"LOGLINE_FETCH_ALLOW": c.allow})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.list, err, c.want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error prints the secret: %v", err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"DATABASE_URL", "", "DATABASE_URL is empty"},
		{"DATABASE_URL", "mysql://a:hunter2@b/c", "DATABASE_URL does not begin with postgres://"},
		{"DATABASE_URL", "postgres:///x", "DATABASE_URL names no host"},
		{"DATABASE_URL", "postgres://a:hunter2@b:99999/x", `DATABASE_URL has the port "99999"`},
		{"REPLICATION_URL", "postgres://a:hunter2 b/x", "REPLICATION_URL is no URL"},
		{"LOGLINE_LISTEN", "8787", "write host:port"},
		{"LOGLINE_LISTEN", "localhost:99999", "LOGLINE_LISTEN is"},
		{"LOGLINE_SLOT", "My-Slot", "LOGLINE_SLOT is"},
		{"LOGLINE_PUBLICATION", "x;drop", "LOGLINE_PUBLICATION is"},
		{"LOGLINE_NODE", "a b", "LOGLINE_NODE is"},
		{"LOGLINE_WORKERS", "-1", "LOGLINE_WORKERS is -1: use 0 to 1024"},
		{"LOGLINE_WORKERS", "many", "LOGLINE_WORKERS is not of type int"},
		{"LOGLINE_MAX_IN_FLIGHT", "0", "LOGLINE_MAX_IN_FLIGHT is 0"},
		{"LOGLINE_DRAIN_MS", "700000", "LOGLINE_DRAIN_MS is 700000"},
		{"LOGLINE_LOG_LEVEL", "loud", "use debug, info, warn, error"},
		{"LOGLINE_LOG_FORMAT", "xml", "use text, json"},
		{"LOGLINE_JWT_SECRET", "hunter2", "LOGLINE_JWT_SECRET has 7 bytes"},
		{"LOGLINE_SECRETS", "sk-hunter2", "never values"},
		{"LOGLINE_SECRETS", "DATABASE_URL", "the sidecar's own variables"},
		{"LOGLINE_SECRETS", "NOT_SET_ANYWHERE", "which is not set"},
		{"LOGLINE_FETCH_ALLOW", "api.openai.com", "LOGLINE_FETCH_ALLOW"},
		{"LOGLINE_FETCH_ALLOW", "*.openai.com:443", "no host name"},
		{"LOGLINE_FETCH_ALLOW", "a:0", "no host:port"},
		{"LOGLINE_FETCH_ALLOW", "api.openai.com.:443", "no host name"},
		{"LOGLINE_FETCH_ALLOW", "2130706433:80", "no host name"},
		{"LOGLINE_FETCH_ALLOW", "0x7f.1:80", "no host name"},
		{"SIGNING_KEY_HEX", "hunter2", "SIGNING_KEY_HEX is no private key"},
		{"SIGNING_KEY_HEX", strings.Repeat("g", 64), "SIGNING_KEY_HEX is no private key"},
		{"LOGLINE_SECRETS", "SIGNING_KEY_HEX", "the sidecar's own variables"},
		{"LOGLINE_TRUST_ROOT", "abc", "LOGLINE_TRUST_ROOT is no fingerprint"},
	} {
		_, err := setup(t, map[string]string{c.name: c.value})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: got %v, want %s", c.name, c.value, err, c.want)
		} else if c.name != "LOGLINE_SECRETS" && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error prints the secret: %v", c.name, err)
		}
	}
}

func TestLoadTakesOneSigningKey(t *testing.T) {
	key := map[string]string{"SIGNING_KEY_HEX": strings.Repeat("ab", 32)}
	if c, err := setup(t, key); err != nil || c.SigningKeyHex == "" {
		t.Errorf("got %v, %v", c, err)
	}
	key["LOGLINE_SIGNING_KEY_FILE"] = "sidecar.key"
	if _, err := setup(t, key); err == nil || !strings.Contains(err.Error(), "are both set") {
		t.Errorf("both: %v", err)
	}
}

func TestLoadNamesAllFaultsAtOnce(t *testing.T) {
	_, err := setup(t, map[string]string{
		"LOGLINE_SLOT": "A", "LOGLINE_LOG_LEVEL": "x", "LOGLINE_DRAIN_MS": "-1"})
	if err == nil || strings.Count(err.Error(), "LOGLINE_") != 3 {
		t.Fatalf("got %v", err)
	}
}

func TestPrintingMasksSecrets(t *testing.T) {
	c, err := setup(t, map[string]string{"LOGLINE_JWT_SECRET": strings.Repeat("hunter2", 5),
		"SIGNING_KEY_HEX": strings.Repeat("f00d", 16),
		"LOGLINE_SECRETS": "PROVIDER_KEY", "PROVIDER_KEY": "hunter2hunter2",
		"LOGLINE_FETCH_ALLOW": "a.example:443"})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	logger.Info("starting", "config", c)
	logger.Info("starting", "config", *c)
	printed := fmt.Sprint(c) + fmt.Sprintf("%v %+v %#v %s %+v %#v", *c, c, *c, c,
		c.FetchSecrets(), c.FetchSecrets()) + log.String()
	if strings.Contains(printed, "hunter2") || strings.Contains(printed, "f00d") {
		t.Errorf("a secret is printed:\n%s", printed)
	}
	if !strings.Contains(printed, "alice@db.example:5433/app") {
		t.Errorf("the database is not recognizable:\n%s", printed)
	}
}

// A misspelt variable is named; what clients, tests and LOGLINE_SECRETS have under our prefix is not.
func TestNamesVariablesThatNothingReads(t *testing.T) {
	if _, err := setup(t, map[string]string{"LOGLINE_SOURC": "poll", "LOGLINE_SLOT": "a",
		"LOGLINE_URL":         "http://x",
		"LOGLINE_TOKEN_ALICE": "x", "LOGLINE_SECRETS": "LOGLINE_MINE@a.example:443, OTHER@a.example:443",
		"LOGLINE_MINE": "long-enough", "OTHER": "long-enough",
		"LOGLINE_FETCH_ALLOW": "a.example:443"}); err != nil {
		t.Fatal(err)
	}
	got := Unknown()
	if !slices.Contains(got, "LOGLINE_SOURC") {
		t.Errorf("got %v", got)
	}
	for _, name := range []string{"LOGLINE_SLOT", "LOGLINE_URL", "LOGLINE_TOKEN_ALICE", "LOGLINE_MINE"} {
		if slices.Contains(got, name) {
			t.Errorf("%s is known", name)
		}
	}
}

// What the reference implementation read is kept, or named with what takes its place; a secret of one's own
// may have such a name.
func TestNamesVariablesOfTheReferenceImplementation(t *testing.T) {
	env := map[string]string{"LOGLINE_FETCH_ALLOW": "a.example:443", "LOGLINE_SECRETS": "KMS_HEX@a.example:443"}
	for _, v := range FormerVariables() {
		env[v.Name] = "hunter2hunter2"
		if v.Name == "" || !strings.HasSuffix(v.Now, ".") {
			t.Errorf("%s has no sentence that says what to use now", v.Name)
		}
	}
	env["DATABASE_URL"], env["SIGNING_KEY_HEX"] = databaseURL, strings.Repeat("ab", 32)
	c, err := setup(t, env)
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, v := range FormerSet() {
		named = append(named, v.Name)
	}
	for _, v := range FormerVariables() {
		if want := v.Fate != Kept && v.Name != "KMS_HEX"; slices.Contains(named, v.Name) != want {
			t.Errorf("%s (%s) is named: %v, want %v", v.Name, v.Fate, !want, want)
		}
	}
	if c.DatabaseURL != databaseURL || c.SigningKeyHex != strings.Repeat("ab", 32) {
		t.Errorf("what is kept is not read: %v", c)
	}
}

func TestEveryVariableIsDescribed(t *testing.T) {
	for _, v := range Describe() {
		if v.Name == "" || !strings.HasSuffix(v.Help, ".") {
			t.Errorf("%s has no help", v.field)
		}
	}
}

func TestExampleIsFresh(t *testing.T) {
	committed, err := os.ReadFile("../../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, Example()) {
		t.Error(".env.example is stale: run `go run ./scripts/gen`")
	}
}

func TestTheSidecarsURLFollowsFromWhereItListens(t *testing.T) {
	for _, c := range []struct{ url, listen, want string }{
		{"", "", "http://127.0.0.1:8787"},
		{"", ":9000", "http://127.0.0.1:9000"},
		{"", "0.0.0.0:9000", "http://127.0.0.1:9000"},
		{"", "[::]:9000", "http://127.0.0.1:9000"},
		{"", "[fd00::1]:9000", "http://[fd00::1]:9000"},
		{"http://leader.example:1/", "127.0.0.1:9000", "http://leader.example:1"},
	} {
		t.Setenv("LOGLINE_URL", c.url)
		t.Setenv("LOGLINE_LISTEN", c.listen)
		if got := SidecarURL(); got != c.want {
			t.Errorf("%q, %q: got %s, want %s", c.url, c.listen, got, c.want)
		}
	}
}
