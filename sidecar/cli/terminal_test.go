package cli

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheNullDeviceIsNoTerminal(t *testing.T) {
	t.Parallel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if isTerminal(null) || isTerminal(&strings.Builder{}) {
		t.Error("what is no terminal passes for one")
	}
}

func TestLongWorkSaysWhatItIsAtAndShortWorkNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		at, stop := tellEvery(&said, "verify")
		at("the walls")
		after := func(d time.Duration) { // of the bubble's own time
			<-time.After(d)
			synctest.Wait()
		}
		if after(progressEvery - time.Second); said.String() != "" {
			t.Errorf("at once: %q", said.String())
		}
		after(2 * time.Second)
		at("the slot")
		after(progressEvery)
		stop()
		stop()
		after(time.Minute)
		const want = "logline: verify, 3 s: the walls\nlogline: verify, 6 s: the slot\n"
		if said.String() != want {
			t.Errorf("it says %q, want %q", said.String(), want)
		}
	})
}

func TestWhyARequestIsDeadIsSaidOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ reason, code, message, want string }{
		{"3 attempts failed, the last with exception: Error: no", "exception", "Error: no",
			"3 attempts failed, the last with exception: Error: no"},
		{"3 attempts failed, the last with exception: Error: lo", "exception", "Error: long",
			"3 attempts failed, the last with exception: Error: lo"},
		{"it was lost", "crash", "it was lost", "it was lost"},
		{"lost 3", "crash", "it was lost", "lost 3; crash: it was lost"},
		{"2 attempts failed, the last with exception: ", "exception", "n", "2 attempts failed, the last with " +
			"exception: ; exception: n"},
	} {
		failure, err := json.Marshal(map[string]string{"code": c.code, "message": c.message})
		if got := why(&c.reason, failure); err != nil || got != c.want {
			t.Errorf("%q with %s: %q, want %q", c.reason, failure, got, c.want)
		}
	}
}
