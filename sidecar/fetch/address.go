package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Addresses that no stranger's host has. IPv6: what is outside of 2000::/3 is none either.
var (
	notPublic = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
		"172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
	globalV6 = netip.MustParsePrefix("2000::/3")
	nat64    = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: the last four bytes are an IPv4 address
	// Behind a name that is private by its form lie machines of the operator's own networks, and of his own.
	ownNetworks = prefixes("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
		"::1/128", "fc00::/7")
	// RFC 6761, RFC 6762, RFC 8375 and ICANN's resolution on .internal.
	privateSuffixes = []string{".localhost", ".local", ".internal", ".lan", ".home.arpa"}
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

func within(list []netip.Prefix, address netip.Addr) bool {
	for _, prefix := range list {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

// isPublic reports whether address belongs to the public internet, also where it is wrapped in another.
func isPublic(address netip.Addr) bool {
	address = address.Unmap()
	if address.Zone() != "" {
		return false
	}
	if nat64.Contains(address) {
		bytes := address.As16()
		address = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	if address.Is6() && !globalV6.Contains(address) {
		return false
	}
	return !within(notPublic, address)
}

// isPrivateName reports whether a name can only mean a machine of the operator's own network.
func isPrivateName(host string) bool {
	if !strings.Contains(host, ".") {
		return true
	}
	for _, suffix := range privateSuffixes {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// mayDial reports whether a connection to host (a name or an address, on the operator's list) may go to
// address: a public one; one that stands on the list itself; one of the own networks behind a name that is
// private by its form. So the name of a stranger never leads inside, whatever his DNS says.
func (c *Client) mayDial(host, port string, address netip.Addr) bool {
	if isPublic(address) {
		return true
	}
	if c.allow[net.JoinHostPort(address.String(), port)] {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err != nil && isPrivateName(host) && within(ownNetworks, address)
}

// dial resolves a host, checks every address, and connects to one of these very addresses: a second
// look-up could say something else.
func (c *Client) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, fmt.Errorf("split host and port: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	found, err := c.addresses(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	for _, address := range found {
		if !c.mayDial(host, port, address) {
			return nil, fmt.Errorf("check %s: %w", host, errAddress)
		}
	}
	var dialer net.Dialer
	err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	for _, address := range found {
		conn, fault := dialer.DialContext(ctx, network, net.JoinHostPort(address.String(), port))
		if fault == nil {
			return conn, nil
		}
		if err = fault; errors.Is(fault, context.Canceled) {
			break
		}
	}
	return nil, fmt.Errorf("dial: %w", err)
}

// addresses are those of host, IPv4 in IPv6 unwrapped: so they are checked, and so dialed.
func (c *Client) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if literal, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{literal.Unmap()}, nil
	}
	resolved, err := c.resolve(ctx, host)
	found := make([]netip.Addr, len(resolved))
	for i, address := range resolved {
		found[i] = address.Unmap()
	}
	return found, err
}
