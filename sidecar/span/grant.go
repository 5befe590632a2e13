package span

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Grant is one right of a kernel, a function, a user or a tenant: an action, and the objects it reaches.
// Its text forms are
//
//	run                         run a function
//	reserve                     reserve quota
//	sql                         raw ctx.sql, read only
//	insertSpan:a,b              append spans of the types a and b; * is every client-writable type
//	version:a,b                 append the next version of spans of the types a and b; * is every
//	                            client-writable type and prompt_*
//	fetch:host:port             reach one host
//	secret:NAME                 have the host fill in one secret
//	visibility:public           append spans that everybody reads
//	visibility:public:a,b       the same, of the types a and b only
//
// The last two are for users and tenants, and the database alone goes by them
// (ledger_private.may_publish); the others are for kernels and functions.
type Grant struct {
	Action  string
	Objects []string // nil for run, reserve, sql and visibility:public
}

// The actions of a Grant.
const (
	ActionRun     = "run"
	ActionReserve = "reserve"
	ActionSQL     = "sql"
	ActionInsert  = "insertSpan"
	ActionVersion = "version"
	ActionFetch   = "fetch"
	ActionSecret  = "secret"
	ActionPublish = "visibility:public"
)

const (
	codeGrantForms = "run, reserve, sql, insertSpan:<types>, version:<types>, fetch:<host>:<port> " +
		"or secret:<NAME>"
	userGrantForms = "visibility:public or visibility:public:<types>"
)

// ParseGrant reads one grant. The error says what is wrong with it.
func ParseGrant(text string) (Grant, error) {
	if object, found := strings.CutPrefix(text, ActionPublish); found {
		return parsePublish(object)
	}
	action, object, hasObject := strings.Cut(text, ":")
	grant := Grant{Action: action}
	switch action {
	case ActionRun, ActionReserve, ActionSQL:
		if hasObject {
			return Grant{}, fmt.Errorf("%s takes no object", action)
		}
		return grant, nil
	case ActionInsert, ActionVersion:
		grant.Objects = strings.Split(object, ",")
		for _, entityType := range grant.Objects {
			if !isTypeName(entityType) && entityType != "*" {
				return Grant{}, fmt.Errorf("%.40q is no entity type", entityType)
			}
		}
		return grant, nil
	case ActionFetch:
		host, err := parseHost(object)
		if err != nil {
			return Grant{}, err
		}
		grant.Objects = []string{host}
		return grant, nil
	case ActionSecret:
		if !isSecretName(object) {
			return Grant{}, fmt.Errorf("%.40q is no name of a secret: want upper case letters, digits and _", object)
		}
		grant.Objects = []string{object}
		return grant, nil
	}
	return Grant{}, fmt.Errorf("%.40q is no action", action)
}

// parsePublish reads what stands behind visibility:public, nothing or a colon and types.
func parsePublish(object string) (Grant, error) {
	grant := Grant{Action: ActionPublish}
	if object == "" {
		return grant, nil
	}
	types, found := strings.CutPrefix(object, ":")
	if !found {
		return Grant{}, fmt.Errorf("%.40q is no action", ActionPublish+object)
	}
	grant.Objects = strings.Split(types, ",")
	for _, entityType := range grant.Objects {
		if !isTypeName(entityType) {
			return Grant{}, fmt.Errorf("%.40q is no entity type", entityType)
		}
	}
	return grant, nil
}

// isIdentity reports whether holder names a user or a tenant, as user:<user id> or tenant:<tenant id>.
func isIdentity(holder string) bool {
	for _, prefix := range []string{"user:", "tenant:"} {
		if name, found := strings.CutPrefix(holder, prefix); found {
			return name != "" && utf8.RuneCountInString(name) <= textRules["owner_id"].most
		}
	}
	return false
}

// String returns the text form of g.
func (g Grant) String() string {
	if g.Objects == nil {
		return g.Action
	}
	return g.Action + ":" + strings.Join(g.Objects, ",")
}

// allows reports whether g reaches object. Objects of run, reserve and sql do not matter.
func (g *Grant) allows(action, object string) bool {
	if g.Action != action || object == "*" {
		return false
	}
	if g.Objects == nil || slices.Contains(g.Objects, object) {
		return true
	}
	if !slices.Contains(g.Objects, "*") {
		return false
	}
	return isClientWritable(object) || action == ActionVersion && strings.HasPrefix(object, "prompt_")
}

// isClientWritable reports whether insertSpan:* reaches entityType: what clients may append, but for
// what governs or runs.
func isClientWritable(entityType string) bool {
	return isTypeName(entityType) && !IsEngineType(entityType) && !IsGoverning(entityType)
}

// IsGoverning reports whether spans of entityType run, or rule what runs: code may append them only on
// behalf of its own owner, or it would act as somebody else.
func IsGoverning(entityType string) bool {
	switch entityType {
	case "manifest", "key", "function", "policy", "provider":
		return true
	}
	return strings.HasPrefix(entityType, "prompt_")
}

// parseHost reads host:port and returns it in lower case. Wildcards are refused.
func parseHost(text string) (string, error) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 1 {
		return "", fmt.Errorf("%.80q names no port: want host:port", text)
	}
	host, portText := strings.ToLower(text[:colon]), text[colon+1:]
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || portText[0] == '0' || portText[0] == '+' {
		return "", fmt.Errorf("%.20q is no port: want 1 to 65535", portText)
	}
	if inner, isV6 := strings.CutPrefix(host, "["); isV6 {
		address, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(inner, "]") || !address.Is6() {
			return "", fmt.Errorf("%.80q is no IPv6 address", host)
		}
		return "[" + address.String() + "]:" + portText, nil
	}
	for _, label := range strings.Split(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", fmt.Errorf("%.80q is no host name: wildcards, spaces and paths are not taken", host)
		}
	}
	return host + ":" + portText, nil
}

func isSecretName(name string) bool {
	return name != "" && len(name) <= 100 && 'A' <= name[0] && name[0] <= 'Z' &&
		strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}
