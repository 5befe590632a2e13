package config

import (
	"os"
	"slices"
	"strings"
)

// Fate is what has become of a variable of the reference implementation.
type Fate string

// The fates. A moved variable has a successor that is no variable; of moved and dropped ones `serve` and
// `doctor` say that they are set and not read.
const (
	Kept    Fate = "kept"
	Moved   Fate = "moved"
	Dropped Fate = "dropped"
)

// Former is one variable of the reference implementation. Now says what to use, or why nothing is needed.
type Former struct {
	Name string
	Fate Fate
	Now  string
}

// FormerVariables lists the environment of the reference implementation and of its Blueprint.
func FormerVariables() []Former {
	return []Former{
		{"DATABASE_URL", Kept,
			"A direct connection as a login that is a member of loglineos_sidecar; for commands, " +
				"as the owner."},
		{"SIGNING_KEY_HEX", Kept,
			"The private key that signs what the sidecar appends. A key of the reference " +
				"implementation may go on: `logline keys publish`."},
		{"APP_USER_ID", Kept,
			"For commands: the user that they act as (`--as`). The sidecar takes no identity from " +
				"its environment: code sees that of its cause as `ctx.env.APP_USER_ID`."},
		{"APP_TENANT_ID", Kept,
			"The same of the tenant (`--tenant`, `ctx.env.APP_TENANT_ID`)."},
		{"SUPABASE_URL", Dropped,
			"Clients use it (docs/clients.md). The sidecar speaks to Postgres alone: " +
				"DATABASE_URL."},
		{"SUPABASE_ANON_KEY", Dropped,
			"Clients use it, or the publishable key. Nothing here calls the Data API."},
		{"SUPABASE_SERVICE_ROLE_KEY", Dropped,
			"Nothing here needs a key that passes every policy: the sidecar logs in as a member " +
				"of loglineos_sidecar. Take it out of this environment."},
		{"NODE_ENV", Dropped,
			"There is no Node here. LOGLINE_LOG_LEVEL and LOGLINE_LOG_FORMAT set the log."},
		{"DB_PROVIDER", Dropped,
			"The same ledger runs on Supabase and on a plain Postgres: nothing is to be chosen."},
		{"BOOT_FUNCTION_ID", Moved,
			"What boots is a trigger of the manifest; what runs is the `parent_id` of a request."},
		{"PROVIDER_ID", Moved,
			"`input.provider_id` of a request to provider_exec (docs/providers.md)."},
		{"PROVIDER_PAYLOAD", Moved,
			"`input.payload` of the same request."},
		{"VARIANT_ID", Moved,
			"`input` of a request, as every argument of a run. Prompts are still to come."},
		{"EVAL_ID", Moved,
			"`input` of a request. Prompts are still to come."},
		{"PROMPT_FAMILY", Moved,
			"`input` of a request. Prompts are still to come."},
		{"WINDOW_DAYS", Moved,
			"`input` of a request. Prompts are still to come."},
		{"USER_INPUT", Moved,
			"`input` of a request. Prompts are still to come."},
		{"CONTEXT_TEXT", Moved,
			"`input` of a request. Prompts are still to come."},
		{"KMS_HEX", Dropped,
			"The ledger encrypts nothing itself: encrypt `content` before it is sent, and keep " +
				"the key."},
		{"KMS_KEY_HANDLE", Dropped,
			"As KMS_HEX. Private keys for signatures are files, or SIGNING_KEY_HEX."},
		{"TOKEN_PEPPER", Dropped,
			"No tokens are made here: those of Supabase Auth, or of whoever signs yours, count."},
	}
}

// FormerSet returns those of FormerVariables that are set in the environment and that nothing reads. What
// LOGLINE_SECRETS names is a secret of its user's own.
func FormerSet() []Former {
	mine := secretNames()
	var set []Former
	for _, v := range FormerVariables() {
		if v.Fate != Kept && os.Getenv(v.Name) != "" && !slices.Contains(mine, v.Name) {
			set = append(set, v)
		}
	}
	return set
}

// secretNames are the variables that LOGLINE_SECRETS lists.
func secretNames() (names []string) {
	for name := range strings.SplitSeq(os.Getenv("LOGLINE_SECRETS"), ",") {
		name, _, _ = strings.Cut(strings.TrimSpace(name), "@")
		names = append(names, name)
	}
	return names
}
