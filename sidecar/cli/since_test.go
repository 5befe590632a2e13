package cli

import (
	"flag"
	"io"
	"testing"
	"time"
)

func TestSinceTakesDays(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "24h": 24 * time.Hour,
		"7d": 7 * 24 * time.Hour, "d": -1, "-1d": -1, "70000d": -1, "1x": -1, "": -1} {
		var got time.Duration
		flags := flag.NewFlagSet("timeline", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		since(flags, &got)
		err := flags.Parse([]string{"--since=" + text})
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("--since %q is %v, %v", text, got, err)
		}
	}
}
