package ledger

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// pooler forwards connections to the server of databaseURL and, as poolers do, tells the client of a
// backend that is not the one which answers. It returns the URL to connect to.
func pooler(t testing.TB, databaseURL string) string {
	t.Helper()
	target, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	upstream := target.Host
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", upstream)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			}()
			go func() {
				forgeBackend(client, server)
				_ = client.Close()
			}()
		}
	}()
	target.Host = listener.Addr().String()
	return target.String()
}

// forgeBackend copies the server's messages and changes the process id in BackendKeyData.
func forgeBackend(client io.Writer, server io.Reader) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		if head[0] == 'K' {
			binary.BigEndian.PutUint32(body, 77)
		}
		if _, err := client.Write(append(head, body...)); err != nil {
			return
		}
	}
}

func TestRefusesAPooler(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if err := RefusePooler(t.Context(), connect(t, db.URL)); err != nil {
		t.Errorf("the direct connection: %v", err)
	}
	l, err := Open(t.Context(), pooler(t, db.SidecarURL), 2)
	if err == nil {
		l.Close()
		t.Fatal("opens through a pooler")
	}
	if !strings.Contains(err.Error(), "use the direct connection") {
		t.Errorf("got %v", err)
	}
}
