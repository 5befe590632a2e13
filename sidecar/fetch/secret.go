package fetch

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

const keyPlaceholder = "{{idempotency_key}}"

var placeholder = regexp.MustCompile(`\{\{[A-Z][A-Z0-9_]*\}\}`)

// fill returns value with its placeholders filled in for t.
func (c *Client) fill(holder *Holder, t *target, key, value string) (string, *Error) {
	if strings.Contains(value, keyPlaceholder) {
		if key == "" {
			return "", denied("fetch: this run has no idempotency key: its batch has several spans")
		}
		value = strings.ReplaceAll(value, keyPlaceholder, key)
	}
	var fault *Error
	filled := placeholder.ReplaceAllStringFunc(value, func(text string) string {
		name := text[2 : len(text)-2]
		if fault == nil {
			fault = c.mayFill(holder, t, name)
		}
		if fault != nil {
			return ""
		}
		return c.secrets[name].Value
	})
	return filled, fault
}

// mayFill says why the secret of this name is not filled in towards t, or nil.
func (c *Client) mayFill(holder *Holder, t *target, name string) *Error {
	if !holder.Secret(name) {
		return denied("fetch: the manifest does not grant the secret to %s: a governor runs `logline manifest "+
			"--give %s=secret:%s`", holder.Name, holder.Name, name)
	}
	secret := c.secrets[name]
	switch {
	case secret == nil:
		return denied("fetch: the operator has no secret %s: LOGLINE_SECRETS must list %s@%s", name, name,
			t.host)
	case !slices.Contains(secret.Hosts, t.host):
		return denied("fetch: the secret %s is for other hosts: LOGLINE_SECRETS must list %s@%s", name, name,
			t.host)
	case !t.secure && !c.isListedPrivate(t):
		return denied("fetch: a secret goes over https only: http does for a private address on " +
			"LOGLINE_FETCH_ALLOW")
	}
	return nil
}

// isListedPrivate reports whether t is a private address that the operator's list names as such.
func (c *Client) isListedPrivate(t *target) bool {
	address, err := netip.ParseAddr(t.url.Hostname())
	return err == nil && !isPublic(address) && c.allow[t.host]
}

// mask takes the secrets out of an answer: a server may send back what it was sent.
func (c *Client) mask(answer *Response) *Response {
	answer.Body, answer.URL = c.hide(answer.Body), c.hide(answer.URL)
	headers := make(map[string]string, len(answer.Headers))
	for name, value := range answer.Headers {
		headers[c.hide(name)] = c.hide(value)
	}
	answer.Headers = headers
	return answer
}

func (c *Client) masked(fault *Error) *Error {
	return &Error{fault.Code, c.hide(fault.Message)}
}
