package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
)

// ThisNetwork is the network of this machine.
func ThisNetwork() Network {
	return Network{
		Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		Routes: func(address netip.Addr) bool {
			// Connecting a datagram socket sends nothing: it only asks the machine for a route.
			conn, err := net.Dial("udp", netip.AddrPortFrom(address, 5432).String())
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		},
	}
}

const (
	directMend = "use the direct connection to the database host (on Supabase: db.<project>.supabase.co:5432)"
	ipv6Mend   = "run the sidecar where IPv6 is routed, or give the database an IPv4 address (on Supabase: " +
		"the IPv4 add-on)"
)

// reach looks at the way to the host: its name, and a route to one of its addresses.
func (d *doctor) reach(ctx context.Context) bool {
	ctx, cancel := within(ctx)
	defer cancel()
	var err error
	if d.target, err = ledger.TargetOf(d.database); err != nil {
		d.fault("host", "DATABASE_URL is malformed", "write postgres://user:password@host:5432/database, with "+
			"@ : / # % of a password as %40 %3A %2F %23 %25")
		return false
	}
	host := d.target.Host
	if strings.HasPrefix(host, "/") {
		d.fine("host", "a socket of this machine")
		return true
	}
	d.supabaseHost(host)
	addresses := []netip.Addr{}
	if address, err := netip.ParseAddr(host); err == nil {
		addresses = append(addresses, address)
	} else if addresses, err = d.network.Lookup(ctx, host); err != nil || len(addresses) == 0 {
		d.fault("host", fmt.Sprintf("the name %s is not known here", host),
			"correct the host in DATABASE_URL; on Supabase, see that the project is not paused")
		return false
	}
	hasIPv4 := false
	for _, address := range addresses {
		hasIPv4 = hasIPv4 || address.Unmap().Is4()
		if d.network.Routes(address) {
			d.fine("host", fmt.Sprintf("%s has an address that this machine has a route to", host))
			return true
		}
	}
	if !hasIPv4 {
		d.fault("host", host+" has IPv6 addresses only, and this machine has no route to them", ipv6Mend)
		return false
	}
	d.fault("host", "this machine has no route to "+host, "look at its network and firewall")
	return false
}

// supabaseHost tells Supabase's poolers by their names.
func (d *doctor) supabaseHost(host string) {
	switch {
	case !strings.HasSuffix(host, ".pooler.supabase.com"):
	case d.target.Port == 6543:
		d.fault("pooler", "port 6543 of Supabase's pooler is its transaction mode", directMend)
	default:
		d.fault("pooler", "this is Supabase's pooler, which can not stream replication", directMend)
	}
}

// connect makes the session.
func (d *doctor) connect(ctx context.Context) bool {
	ctx, cancel := within(ctx)
	defer cancel()
	session, err := ledger.Examine(ctx, d.database)
	if err != nil {
		cause, mend := d.explainConnect(err)
		d.fault("connection", cause, mend)
		return false
	}
	d.session = session
	address, _ := netip.ParseAddr(d.target.Host)
	isNear := strings.HasPrefix(d.target.Host, "/") || d.target.Host == "localhost" ||
		address.IsLoopback() || address.IsPrivate()
	switch {
	case session.IsEncrypted() || isNear:
		d.fine("connection", fmt.Sprintf("%q is let in to the database %q", d.target.User, d.target.Database))
	default:
		d.warn("connection", "it is not encrypted: everybody on the way can read it",
			"add ?sslmode=verify-full to DATABASE_URL, with sslrootcert where the server has its own authority")
	}
	return true
}

func (d *doctor) explainConnect(err error) (cause, mend string) {
	text := err.Error()
	var timeout net.Error
	switch state := ledger.StateOf(err); {
	case state == "28P01", state == "28000" && strings.Contains(text, "password"):
		return fmt.Sprintf("the server refuses the password of %q", d.target.User),
			"correct it in DATABASE_URL; letters such as @ : / # must be written as %40 %3A %2F %23"
	case state == "28000":
		return fmt.Sprintf("the server refuses the login %q", d.target.User),
			"make the role (`create role … login`), and let pg_hba.conf accept it from here"
	case state == "3D000":
		return fmt.Sprintf("there is no database %q", d.target.Database), "correct the name in DATABASE_URL"
	case state == "53300":
		return "the server has no connection left", "raise max_connections, or end what holds them"
	case state == "57P03":
		return "the server is starting up or shutting down", "wait, and look at its log"
	case strings.Contains(text, "unsupported startup parameter"):
		return "this is a pooler that refuses the session's parameters", directMend
	case strings.Contains(text, "server refused TLS"):
		return "the server offers no encryption, and DATABASE_URL asks for it",
			"turn ssl on at the server, or use sslmode=disable on a network of your own"
	case strings.Contains(text, "x509"), strings.Contains(text, "tls:"):
		return "the server's certificate is not trusted: " + unwrapped(err),
			"name its authority (sslrootcert), and the host that it is made out to"
	case strings.Contains(text, "connection refused"):
		return fmt.Sprintf("nobody listens on %s, port %d", d.target.Host, d.target.Port),
			"start the server, or correct host and port in DATABASE_URL"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("%s does not answer on port %d", d.target.Host, d.target.Port),
			"look at the firewall, and at the host: it may be down"
	}
	return "the connection fails: " + unwrapped(err), "look at the server's log"
}

func (d *doctor) pooler(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	if err := d.session.Pooler(ctx); err != nil {
		d.fault("pooler", "DATABASE_URL leads through a pooler, which drops what a session sets", directMend)
		return
	}
	d.fine("pooler", "none: each transaction meets the same process of the server")
}

// examineServer reads the server's settings and judges those that need nothing else.
func (d *doctor) examineServer(ctx context.Context) bool {
	ctx, cancel := within(ctx)
	defer cancel()
	var err error
	if d.server, err = d.session.Server(ctx); err != nil {
		d.fault("server", err.Error(), "use Postgres 15 to 18 itself, not something that is like it")
		return false
	}
	s := d.server
	version := fmt.Sprintf("Postgres %d.%d", s.Version/10000, s.Version%10000)
	switch {
	case s.Version < olderServer:
		d.fault("server", version+" is too old", "upgrade to Postgres 15 or later")
	case s.Version >= newerServer:
		d.warn("server", version+" is newer than what this version was tested with", "try it on a copy first")
	default:
		d.fine("server", version)
	}
	if s.IsStandby {
		d.fault("server", "it is a standby, which takes no writes", "connect to the primary")
	}
	if left := s.SessionsMax - s.SessionsInUse; left < connectionsMax+2 {
		d.warn("connections", fmt.Sprintf("%d of %d are in use, and a sidecar wants %d", s.SessionsInUse,
			s.SessionsMax, connectionsMax+2), "raise max_connections, or end what holds them")
	}
	return true
}

func (d *doctor) clock() {
	ahead := d.server.ClockAhead.Round(time.Millisecond)
	switch off := ahead.Abs(); {
	case off > clockFault:
		d.fault("clock", fmt.Sprintf("the database's clock is %s ahead of this machine's", ahead),
			"set both by NTP: tokens and times of clients would be refused")
	case off > clockWarning:
		d.warn("clock", fmt.Sprintf("the database's clock is %s ahead of this machine's", ahead),
			"set both by NTP; the sidecar itself goes by the database's")
	default:
		d.fine("clock", fmt.Sprintf("the database's is within %s of this machine's", max(off, time.Millisecond)))
	}
}
