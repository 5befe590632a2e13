package devdb

import (
	"context"
	"testing"
)

// testSettings make a server quick and small; no test here pulls the plug of the machine.
func testSettings() map[string]string {
	return map[string]string{"fsync": "off", "shared_buffers": "16MB", "max_connections": "20"}
}

func TestStartsAndStops(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, err := Start(ctx, Options{Dir: t.TempDir(), Settings: testSettings(), Log: func(m string) { t.Log(m) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(s.URL("x"), s.Dir, s.Version, s.Pid())
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}
