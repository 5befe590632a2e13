package fetch

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// target is a URL that may be asked, taken apart.
type target struct {
	url    *url.URL
	host   string // as the lists have it: name or address, and port
	secure bool
}

// parseTarget reads a URL strictly: what two parsers could read in two ways is refused.
func parseTarget(text string) (*target, *Error) {
	if len(text) > urlBytesMax {
		return nil, overLimit("fetch: the URL has %d bytes, at most %d", len(text), urlBytesMax)
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c == '\\' || c >= 0x7f {
			return nil, denied("fetch: the URL holds %q: encode it", text[i:i+1])
		}
	}
	parsed, err := url.Parse(text)
	if err != nil || parsed.Opaque != "" || parsed.Host == "" {
		return nil, denied("fetch: %.80q is no URL: write https://host/path", text)
	}
	t := &target{url: parsed, secure: parsed.Scheme == "https"}
	if !t.secure && parsed.Scheme != "http" {
		return nil, denied("fetch: the scheme %.20q is not fetched: use https or http", parsed.Scheme)
	}
	if parsed.User != nil {
		return nil, denied("fetch: the URL holds a user or an @ before its path: put credentials into a header")
	}
	if t.host, err = canonical(withPort(parsed.Host, t.secure)); err != nil {
		return nil, denied("fetch: %s", err)
	}
	parsed.Fragment, parsed.RawFragment = "", ""
	parsed.Host = t.host
	return t, nil
}

// withPort adds the default port where host states none.
func withPort(host string, secure bool) string {
	if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
		return host
	}
	if secure {
		return host + ":443"
	}
	return host + ":80"
}

// canonical returns host:port in the one form in which hosts are compared: a name in lower case, an
// address as netip prints it, the port without leading zeros.
func canonical(text string) (string, error) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 1 {
		return "", fmt.Errorf("%.80q names no port: write host:port", text)
	}
	host, portText := strings.ToLower(text[:colon]), text[colon+1:]
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || portText[0] == '+' {
		return "", fmt.Errorf("%.20q is no port", portText)
	}
	suffix := ":" + strconv.FormatUint(port, 10)
	if inner, isV6 := strings.CutPrefix(host, "["); isV6 {
		address, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !strings.HasSuffix(inner, "]") || !address.Is6() || address.Zone() != "" {
			return "", fmt.Errorf("%.80q is no IPv6 address", host)
		}
		return "[" + address.String() + "]" + suffix, nil
	}
	if address, err := netip.ParseAddr(host); err == nil && address.Is4() {
		return host + suffix, nil
	}
	return host + suffix, nameFault(host)
}

// nameFault says why host is no name of a host. Numbers in forms that only some resolvers know
// (2130706433, 0x7f.1, 0177.0.0.1) are no names.
func nameFault(host string) error {
	if strings.HasSuffix(host, ".") {
		return fmt.Errorf("%.80q ends in a dot: write it without", host)
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return fmt.Errorf("%.80q is no host name: use letters, digits and -, other alphabets as xn--…", host)
		}
	}
	last := labels[len(labels)-1]
	if last[0] >= '0' && last[0] <= '9' {
		return fmt.Errorf("%.80q is no host name: write an address as four decimal numbers", host)
	}
	if len(host) > 253 {
		return fmt.Errorf("%.80q… is too long for a host name", host)
	}
	return nil
}
