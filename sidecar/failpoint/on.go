//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// planned is what the environment asks for.
var planned = sync.OnceValue(func() *plan {
	p, err := parse(os.Getenv("LOGLINE_FAILPOINTS"), os.Getenv("LOGLINE_DISABLE"))
	if err != nil {
		panic(err)
	}
	return p
})

// Hit passes a place, and does there what is planned.
func Hit(name string) { _ = Err(name) }

// Err passes a place that can fail, and does there what is planned.
func Err(name string) error { return planned().pass(name) }

// Disabled reports whether a defense is switched off.
func Disabled(defense string) bool { return planned().disabled[defense] }

// plan counts the passes of each place.
type plan struct {
	actions  map[string]action
	disabled map[string]bool

	mutex sync.Mutex
	hits  map[string]int
}

type action struct {
	kind  string // kill, stop, error, delay
	delay time.Duration
	at    int
	isOn  bool // from at on, each time
}

func (p *plan) pass(name string) error {
	if _, known := names[name]; !known {
		panic("failpoint: the place " + name + " is not in the list")
	}
	p.mutex.Lock()
	p.hits[name]++
	hit := p.hits[name]
	p.mutex.Unlock()
	if hit == 1 {
		fmt.Fprintf(os.Stderr, "failpoint=%s passed\n", name)
	}
	a, found := p.actions[name]
	if !found || hit != a.at && !(a.isOn && hit > a.at) {
		return nil
	}
	fmt.Fprintf(os.Stderr, "failpoint=%s does=%s hit=%d\n", name, a.kind, hit)
	return a.do(name)
}

func (a action) do(name string) error {
	switch a.kind {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the signal is there
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "delay":
		timer := time.NewTimer(a.delay)
		defer timer.Stop()
		<-timer.C
	case "error":
		return fmt.Errorf("pass the failpoint %s: it is planned to fail", name)
	}
	return nil
}

// parse reads a plan.
func parse(actions, disabled string) (*plan, error) {
	p := &plan{actions: map[string]action{}, disabled: map[string]bool{}, hits: map[string]int{}}
	for _, entry := range strings.FieldsFunc(actions, func(r rune) bool { return r == ',' }) {
		name, does, _ := strings.Cut(entry, "=")
		if _, known := names[name]; !known {
			return nil, fmt.Errorf("read LOGLINE_FAILPOINTS: there is no place %q", name)
		}
		does, at, counted := strings.Cut(does, "@")
		kind, delay, _ := strings.Cut(does, ":")
		a := action{kind: kind, at: 1}
		var err error
		if counted {
			at, a.isOn = strings.CutSuffix(at, "+")
			a.at, err = strconv.Atoi(at)
		}
		switch {
		case err != nil:
		case kind == "delay":
			a.delay, err = time.ParseDuration(delay)
		case kind != "kill" && kind != "stop" && kind != "error":
			err = fmt.Errorf("there is no action %q", kind)
		}
		if err != nil {
			return nil, fmt.Errorf("read LOGLINE_FAILPOINTS: %s: %w", entry, err)
		}
		p.actions[name] = a
	}
	for _, defense := range strings.FieldsFunc(disabled, func(r rune) bool { return r == ',' }) {
		switch defense {
		case Fence, Derived, Sorted, Snapshot:
			p.disabled[defense] = true
		default:
			return nil, fmt.Errorf("read LOGLINE_DISABLE: there is no defense %q", defense)
		}
	}
	return p, nil
}
