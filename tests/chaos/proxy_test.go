package chaos_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy is a TCP proxy between a sidecar and Postgres, whose behavior a test changes while connections are
// open. What it holds back in a black hole is delivered when that ends, as the network would, unless it was
// reset.
type proxy struct {
	listener net.Listener
	target   string

	mutex   sync.Mutex
	changed *sync.Cond
	state   weather
	pairs   map[*pair]bool
	closed  bool
}

// weather is how a proxy treats its connections. Its zero value passes everything at once.
type weather struct {
	holdUp, holdDown bool          // nothing from the sidecar, or to it, gets through
	delay            time.Duration // of each piece, each way
	refuse           bool          // no new connections
}

// pair is one connection of a sidecar and its other half.
type pair struct{ client, server *net.TCPConn }

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, pairs: map[*pair]bool{}}
	p.changed = sync.NewCond(&p.mutex)
	go p.accept()
	t.Cleanup(p.close)
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mutex.Lock()
	p.closed = true
	p.mutex.Unlock()
	p.changed.Broadcast()
	p.reset()
}

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(conn.(*net.TCPConn))
	}
}

func (p *proxy) serve(client *net.TCPConn) {
	p.mutex.Lock()
	refuse, target := p.state.refuse || p.closed, p.target
	p.mutex.Unlock()
	if refuse {
		_ = client.Close()
		return
	}
	conn, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		_ = client.Close() // Postgres is down
		return
	}
	pair := &pair{client, conn.(*net.TCPConn)}
	p.mutex.Lock()
	p.pairs[pair] = true
	p.mutex.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(pair.server, client, func(w weather) bool { return w.holdUp }) })
	both.Go(func() { p.copy(client, pair.server, func(w weather) bool { return w.holdDown }) })
	both.Wait()
	p.mutex.Lock()
	delete(p.pairs, pair)
	p.mutex.Unlock()
	_ = client.Close()
	_ = pair.server.Close()
}

// copy passes what comes until one end closes.
func (p *proxy) copy(to, from *net.TCPConn, isHeld func(weather) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		p.mutex.Lock()
		for isHeld(p.state) && !p.closed { // an end of the stream, too
			p.changed.Wait()
		}
		delay := p.state.delay
		p.mutex.Unlock()
		if n > 0 {
			if delay > 0 {
				timer := time.NewTimer(delay)
				<-timer.C
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if errors.Is(err, io.EOF) {
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

// set changes the weather.
func (p *proxy) set(w weather) {
	p.mutex.Lock()
	p.state = w
	p.mutex.Unlock()
	p.changed.Broadcast()
}

// retarget sends everybody to another server, and cuts who is with the old one.
func (p *proxy) retarget(target string) {
	p.mutex.Lock()
	p.target = target
	p.mutex.Unlock()
	p.reset()
}

// reset cuts every connection by RST, at both ends. What is held back is lost.
func (p *proxy) reset() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for pair := range p.pairs {
		for _, conn := range []*net.TCPConn{pair.client, pair.server} {
			_ = conn.SetLinger(0) // it may be closed already
			_ = conn.Close()
		}
	}
}

// halfOpen cuts the server's ends alone: the sidecar's stay open, and nobody listens.
func (p *proxy) halfOpen() {
	p.mutex.Lock()
	p.state.holdDown = true // not even the end of the stream reaches it
	for pair := range p.pairs {
		_ = pair.server.SetLinger(0) // it may be closed already
		_ = pair.server.Close()
	}
	p.mutex.Unlock()
}
