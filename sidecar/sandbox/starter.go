package sandbox

import (
	"fmt"
	"os/exec"
	"runtime"
)

// starter is the thread on which all children are started: they die with it, so it lives as long as the Pool,
// and they inherit its NoNewPrivs, which the rest of the process must not have.
type starter struct {
	work  chan startWork
	ended chan struct{}
}

// startWork asks for a process. command makes it, apart with namespaces of its own; it is asked again,
// without, where those are refused.
type startWork struct {
	command func(apart bool) *exec.Cmd
	done    chan startDone
}

type startDone struct {
	cmd   *exec.Cmd
	apart Wall
	err   error
}

func newStarter() (*starter, error) {
	s := &starter{work: make(chan startWork), ended: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := prepareThread()
		ready <- err
		if err != nil {
			return
		}
		apart := Wall{Name: WallNamespaces}
		for w := range s.work {
			cmd := w.command(apart.Missing == "")
			err := cmd.Start()
			if err != nil && apart.Missing == "" && refusesNamespaces(err) {
				cmd = w.command(false)
				if again := cmd.Start(); again == nil {
					apart.Missing = fmt.Sprintf("refused: %s: allow user namespaces, or none of it", err)
					err = nil
				}
			}
			w.done <- startDone{cmd, apart, err}
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("prepare thread for sandbox children: %w", err)
	}
	return s, nil
}

func (s *starter) start(command func(apart bool) *exec.Cmd) (*exec.Cmd, Wall, error) {
	w := startWork{command: command, done: make(chan startDone, 1)}
	s.work <- w
	d := <-w.done
	return d.cmd, d.apart, d.err
}

func (s *starter) stop() {
	close(s.work)
	<-s.ended
}
