// Package config is the environment of the sidecar: every variable, its default, unit and meaning.
//
// It owns the list (Describe, from which .env.example is generated) and the checks. It refuses a
// value that it does not understand instead of falling back to the default, and it never prints a
// secret. Nothing else in the sidecar reads the environment.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// Config is the environment, read and checked. Build one with Load; the zero value is not usable.
// Printing it (fmt, slog) masks what is secret.
type Config struct {
	DatabaseURL    string `envconfig:"DATABASE_URL" needed:"true" secret:"url" desc:"Where the ledger is: a Postgres URL, in production of the role loglineos_sidecar. A pooler in transaction mode does not do."`
	ReplicationURL string `envconfig:"REPLICATION_URL" secret:"url" desc:"A Postgres URL that may replicate, for the tail alone. Default: DATABASE_URL. On Supabase with Postgres 15 or 16 it must be the role postgres; a pooler does not do."`
	Listen         string `envconfig:"LOGLINE_LISTEN" default:"127.0.0.1:8787" unit:"host:port" desc:"Where API and console listen. An empty host is every interface."`
	Source         string `envconfig:"LOGLINE_SOURCE" default:"wal" values:"wal poll" desc:"Where new spans come from: wal, the replication slot (fastest), or poll, questions to the table, for hosts that allow no replication: then REPLICATION_URL and wal_level do not matter. One for all sidecars of a cell."`
	Slot           string `envconfig:"LOGLINE_SLOT" default:"loglineos" desc:"Name of the replication slot, and of the leader's lock, also where LOGLINE_SOURCE is poll. One for each cell."`
	Publication    string `envconfig:"LOGLINE_PUBLICATION" default:"loglineos" desc:"Name of the publication that the migrations made."`
	Node           string `envconfig:"LOGLINE_NODE" desc:"Name of this sidecar in spans, leases and logs. Default: the host's name."`
	Workers        int    `envconfig:"LOGLINE_WORKERS" default:"0" unit:"processes" desc:"Code workers for strangers' functions and policies: how many run at once. Four times as many processes may be alive, the others waiting for hosts. 0: two for each core, at least four, so that a few that run long hold up nobody."`
	MaxInFlight    int    `envconfig:"LOGLINE_MAX_IN_FLIGHT" default:"64" unit:"requests" desc:"Requests that run or wait for their commit at once, and as many again of those that may reach the network; the rest waits in the ledger."`
	LogLevel       string `envconfig:"LOGLINE_LOG_LEVEL" default:"info" values:"debug info warn error" desc:"Least level that is logged."`
	LogFormat      string `envconfig:"LOGLINE_LOG_FORMAT" default:"text" values:"text json" desc:"Form of the log on standard error."`
	JWTSecret      string `envconfig:"LOGLINE_JWT_SECRET" secret:"all" desc:"HS256 secret that signs the callers' tokens, at least 32 bytes; on Supabase the JWT secret of the project. Absent: the API refuses every caller."`
	Secrets        Names  `envconfig:"LOGLINE_SECRETS" desc:"Environment variables, with commas, that the host may fill into the headers of a granted fetch, each with the host that alone gets it: OPENAI_API_KEY@api.openai.com:443. A bare name does where LOGLINE_FETCH_ALLOW has one host."`
	FetchAllow     Hosts  `envconfig:"LOGLINE_FETCH_ALLOW" desc:"Hosts, as host:port with commas, that code may reach where the manifest grants it too. A private address counts only when it stands here itself, for example 127.0.0.1:11434."`
	DrainMs        int    `envconfig:"LOGLINE_DRAIN_MS" default:"10000" unit:"ms" desc:"How long a stop waits for what is running; the rest is taken over by another sidecar."`
	WallsMs        int    `envconfig:"LOGLINE_WALLS_MS" default:"30000" unit:"ms" desc:"How often the walls of the ledger are looked at (ledger.guard_check()); while one does not stand, /readyz answers 503."`
	TrustRoot      string `envconfig:"LOGLINE_TRUST_ROOT" desc:"Fingerprint of the root key: 64 characters of hex, the BLAKE3 of the public key (logline keys list). Absent: no key counts, and nothing runs that requires signatures."`
	SigningKeyHex  string `envconfig:"SIGNING_KEY_HEX" secret:"all" desc:"Private key that signs what the sidecar appends: 64 characters of hex (logline keys generate). Ledger code never sees it. Absent, and no file either: spans are hashed and not signed."`
	SigningKeyFile string `envconfig:"LOGLINE_SIGNING_KEY_FILE" desc:"File that holds the private key in place of SIGNING_KEY_HEX. Its owner alone may read it (mode 0600)."`
	AppUserID      string `envconfig:"APP_USER_ID" desc:"Who the commands act as that act as a user (logline function, span, timeline, policy), where --as is not given. The sidecar does not read it."`
	AppTenantID    string `envconfig:"APP_TENANT_ID" desc:"The tenant of APP_USER_ID, where --tenant is not given."`

	secrets []Secret
}

// Names is a list of names of environment variables, each with @host:port or without.
type Names []string

// Secret is one variable of LOGLINE_SECRETS.
type Secret struct {
	Name, Value string
	Hosts       []string // host:port of those that may get it
}

// GoString keeps %#v from printing the value, as String does for the other verbs.
func (s Secret) GoString() string { return s.String() }

// String returns the name.
func (s Secret) String() string { return s.Name }

// Hosts is a list of host:port in lower case.
type Hosts []string

// Load reads the environment. The error joins one message for each faulty variable, with the mend.
func Load() (*Config, error) { return load("") }

// LoadFor is Load with databaseURL in place of DATABASE_URL and REPLICATION_URL, for `logline up`,
// whose Postgres is its own.
func LoadFor(databaseURL string) (*Config, error) { return load(databaseURL) }

// TrustRoot returns LOGLINE_TRUST_ROOT, "" where it is absent, for commands that need nothing else.
func TrustRoot() string { return os.Getenv("LOGLINE_TRUST_ROOT") }

// DatabaseURL returns DATABASE_URL, "" where it is absent, for commands that need nothing else.
func DatabaseURL() string { return os.Getenv("DATABASE_URL") }

// ActAs returns APP_USER_ID and APP_TENANT_ID, "" where they are absent.
func ActAs() (user, tenant string) { return os.Getenv("APP_USER_ID"), os.Getenv("APP_TENANT_ID") }

// HasOwnerURL reports whether OWNER_URL is set, by which the pages give commands the owner's login.
func HasOwnerURL() bool { return os.Getenv("OWNER_URL") != "" }

// LoginPassword returns LOGLINE_PASSWORD, of the command that makes a login, and whether it is set.
func LoginPassword() (password string, isSet bool) { return os.LookupEnv("LOGLINE_PASSWORD") }

// ListenAddress returns LOGLINE_LISTEN, or its default, for commands that need nothing else.
func ListenAddress() string {
	if address := os.Getenv("LOGLINE_LISTEN"); address != "" {
		return address
	}
	return "127.0.0.1:8787"
}

// SidecarURL is where a sidecar's HTTP is, for commands that ask it: LOGLINE_URL, else what LOGLINE_LISTEN
// says of one on this machine.
func SidecarURL() string {
	if stated := strings.TrimRight(os.Getenv("LOGLINE_URL"), "/"); stated != "" {
		return stated
	}
	host, port, err := net.SplitHostPort(ListenAddress())
	if err != nil {
		return "http://" + ListenAddress()
	}
	if address, err := netip.ParseAddr(host); host == "" || err == nil && address.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// Slot is LOGLINE_SLOT or its default, for commands that need nothing else.
func Slot() string { return cmp.Or(os.Getenv("LOGLINE_SLOT"), "loglineos") }

// Publication is LOGLINE_PUBLICATION or its default, for commands that need nothing else.
func Publication() string { return cmp.Or(os.Getenv("LOGLINE_PUBLICATION"), "loglineos") }

func load(databaseURL string) (*Config, error) {
	var c Config
	if err := envconfig.Process("", &c); err != nil {
		return nil, processError(err)
	}
	if databaseURL != "" {
		c.DatabaseURL, c.ReplicationURL = databaseURL, databaseURL
	}
	if c.ReplicationURL == "" {
		c.ReplicationURL = c.DatabaseURL
	}
	var faults []error
	if c.Node == "" {
		node, err := os.Hostname()
		if err != nil {
			faults = append(faults, fmt.Errorf("read the host's name: %w; set LOGLINE_NODE", err))
		}
		c.Node = node
	}
	if c.Workers == 0 {
		c.Workers = max(4, 2*runtime.NumCPU())
	}
	faults = append(faults, c.readSecrets()...)
	if err := errors.Join(append(faults, c.check()...)...); err != nil {
		return nil, err
	}
	return &c, nil
}

// Drain returns DrainMs as a duration.
func (c *Config) Drain() time.Duration { return time.Duration(c.DrainMs) * time.Millisecond }

// FetchSecrets returns what LOGLINE_SECRETS lists, with the values.
func (c *Config) FetchSecrets() []Secret { return c.secrets }

// Level returns LogLevel for slog.
func (c *Config) Level() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		panic("log level was not checked: " + c.LogLevel)
	}
	return level
}

// processError turns envconfig's first complaint into cause and mend; it quotes no value, for it
// may be a secret.
func processError(err error) error {
	var parse *envconfig.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("%s is not of type %s: set it as .env.example shows", parse.KeyName, parse.TypeName)
	}
	return fmt.Errorf("read the environment: %w; set it as .env.example shows", err)
}

var (
	slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
	nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)
	envName  = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	hexKey   = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)
	hexHash  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (c *Config) check() []error {
	var faults []error
	refuse := func(variable, cause, mend string) {
		faults = append(faults, fmt.Errorf("%s %s: %s", variable, cause, mend))
	}
	for _, v := range []struct{ name, value string }{
		{"DATABASE_URL", c.DatabaseURL}, {"REPLICATION_URL", c.ReplicationURL},
	} {
		if v.name == "REPLICATION_URL" && v.value == c.DatabaseURL {
			continue // by default, and told above
		}
		if cause := urlFault(v.value); cause != "" {
			refuse(v.name, cause, "write postgres://user:password@host:5432/database, with @ : / # % of a "+
				"password as %40 %3A %2F %23 %25")
		}
	}
	if _, port, err := net.SplitHostPort(c.Listen); err != nil || !isPort(port, 0) {
		refuse("LOGLINE_LISTEN", fmt.Sprintf("is %q", c.Listen), "write host:port, for example 127.0.0.1:8787")
	}
	if !slotName.MatchString(c.Slot) {
		refuse("LOGLINE_SLOT", fmt.Sprintf("is %q", c.Slot), "use 1 to 63 lower case letters, digits and _")
	}
	if !slotName.MatchString(c.Publication) {
		refuse("LOGLINE_PUBLICATION", fmt.Sprintf("is %q", c.Publication),
			"use 1 to 63 lower case letters, digits and _")
	}
	if !nodeName.MatchString(c.Node) {
		refuse("LOGLINE_NODE", fmt.Sprintf("is %q", c.Node), "use at most 100 letters, digits, _ . and -")
	}
	for _, v := range []struct {
		name               string
		value, least, most int
	}{
		{"LOGLINE_WORKERS", c.Workers, 0, 1024},
		{"LOGLINE_MAX_IN_FLIGHT", c.MaxInFlight, 1, 1 << 20},
		{"LOGLINE_DRAIN_MS", c.DrainMs, 0, 600_000},
		{"LOGLINE_WALLS_MS", c.WallsMs, 100, 3_600_000},
	} {
		if v.value < v.least || v.value > v.most {
			refuse(v.name, fmt.Sprintf("is %d", v.value), fmt.Sprintf("use %d to %d", v.least, v.most))
		}
	}
	return append(faults, c.checkWords()...)
}

// checkWords checks the variables that take words of a list, secrets and hosts.
func (c *Config) checkWords() []error {
	var faults []error
	refuse := func(variable, cause, mend string) {
		faults = append(faults, fmt.Errorf("%s %s: %s", variable, cause, mend))
	}
	for _, v := range Describe() {
		value := reflect.ValueOf(c).Elem().FieldByName(v.field).String()
		if len(v.Values) > 0 && !slices.Contains(v.Values, value) {
			refuse(v.Name, fmt.Sprintf("is %q", value), "use "+strings.Join(v.Values, ", "))
		}
	}
	if c.JWTSecret != "" && len(c.JWTSecret) < 32 {
		refuse("LOGLINE_JWT_SECRET", fmt.Sprintf("has %d bytes", len(c.JWTSecret)),
			"use at least 32 (RFC 7518 §3.2)")
	}
	for _, host := range c.FetchAllow {
		if cause := hostFault(host); cause != "" {
			refuse("LOGLINE_FETCH_ALLOW", cause, "write host:port with commas, for example api.openai.com:443")
		}
	}
	if c.SigningKeyHex != "" && !hexKey.MatchString(c.SigningKeyHex) {
		refuse("SIGNING_KEY_HEX", "is no private key", "use the 64 characters of hex of `logline keys generate`")
	}
	if c.SigningKeyHex != "" && c.SigningKeyFile != "" {
		refuse("SIGNING_KEY_HEX", "and LOGLINE_SIGNING_KEY_FILE are both set", "keep one of them")
	}
	if c.TrustRoot != "" && !hexHash.MatchString(c.TrustRoot) {
		refuse("LOGLINE_TRUST_ROOT", "is no fingerprint", "use 64 characters of lower case hex")
	}
	return faults
}

// urlFault says what is wrong with a Postgres URL without quoting it: it holds a password.
func urlFault(text string) string {
	parsed, err := url.Parse(text)
	switch {
	case text == "":
		return "is empty"
	case err != nil:
		return "is no URL"
	case parsed.Scheme != "postgres" && parsed.Scheme != "postgresql":
		return "does not begin with postgres://"
	case parsed.Host == "" && parsed.Query().Get("host") == "":
		return "names no host"
	case parsed.Port() != "" && !isPort(parsed.Port(), 1):
		return "has the port " + strconv.Quote(parsed.Port())
	}
	return ""
}

func hostFault(text string) string {
	host, port, err := net.SplitHostPort(text)
	if err != nil || !isPort(port, 1) {
		return fmt.Sprintf("holds %.80q, which is no host:port", text)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" || '0' <= last[0] && last[0] <= '9' || strings.Contains(host, "..") || host[0] == '.' ||
		strings.Trim(host, letters) != "" {
		return fmt.Sprintf("holds %.80q, which is no host name", text)
	}
	return ""
}

func isPort(text string, least uint64) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port >= least
}

// Decode implements envconfig.Decoder: names with commas, spaces and empty parts dropped.
func (n *Names) Decode(text string) error {
	*n = splitList(text)
	return nil
}

// Decode implements envconfig.Decoder.
func (h *Hosts) Decode(text string) error {
	*h = splitList(strings.ToLower(text))
	return nil
}

func splitList(text string) []string {
	var parts []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
