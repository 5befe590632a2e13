package e2e_test

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/tests/program"
)

// A stop is no fault, however early it comes: here while the database that is asked says nothing.
func TestSIGTERMDuringTheStartIsAStop(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"serve", "up"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			silent, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			url := "postgres://u:p@" + silent.Addr().String() + "/x?sslmode=disable"
			env, args := []string{"DATABASE_URL=" + url, "LOGLINE_LISTEN=127.0.0.1:0"}, []string{"serve"}
			if command == "up" {
				args = []string{"up", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--database", url}
			}
			p := program.Start(t, env, args...)
			conn, err := silent.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if code := p.Stop(syscall.SIGTERM); code != 0 {
				t.Errorf("it ends with %d", code)
			}
			if said := p.Err.String(); strings.Contains(said, "logline: ") {
				t.Errorf("it says %s", said)
			}
		})
	}
}
