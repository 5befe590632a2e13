package sandbox

import (
	"strings"

	"github.com/dop251/goja"
	"github.com/nlnwa/whatwg-url/url"
)

// parseURL is (text, base or undefined) and gives the parts of a URL, undefined where it is none.
func (t *task) parseURL(c goja.FunctionCall) goja.Value {
	var parsed *url.Url
	var err error
	if base := c.Argument(1); goja.IsUndefined(base) {
		parsed, err = url.Parse(c.Argument(0).String())
	} else {
		parsed, err = url.ParseRef(base.String(), c.Argument(0).String())
	}
	if err != nil {
		return goja.Undefined()
	}
	return t.urlParts(parsed)
}

// setURL is (href, part, value) and gives the parts of the changed URL, undefined where it cannot be.
func (t *task) setURL(c goja.FunctionCall) goja.Value {
	part, value := c.Argument(1).String(), c.Argument(2).String()
	href := c.Argument(0).String()
	if part == "href" {
		href = value
	}
	parsed, err := url.Parse(href)
	if err != nil {
		return goja.Undefined()
	}
	switch part {
	case "protocol":
		parsed.SetProtocol(value)
	case "username":
		parsed.SetUsername(value)
	case "password":
		parsed.SetPassword(value)
	case "host":
		parsed.SetHost(value)
	case "hostname":
		parsed.SetHostname(value)
	case "port":
		parsed.SetPort(value)
	case "pathname":
		parsed.SetPathname(value)
	case "search":
		parsed.SetSearch(value)
	case "hash":
		parsed.SetHash(value)
	}
	return t.urlParts(parsed)
}

// urlParts are in the order that prelude/url.js names.
func (t *task) urlParts(u *url.Url) goja.Value {
	return t.vm.NewArray(u.Href(false), originOf(u), u.Protocol(), u.Username(), u.Password(), u.Host(),
		u.Hostname(), u.Port(), u.Pathname(), u.Search(), u.Hash())
}

func originOf(u *url.Url) string {
	switch u.Scheme() {
	case "http", "https", "ws", "wss", "ftp":
		return u.Protocol() + "//" + u.Host()
	case "blob":
		if inner, err := url.Parse(u.Pathname()); err == nil && strings.HasPrefix(inner.Scheme(), "http") {
			return originOf(inner)
		}
	}
	return "null"
}
