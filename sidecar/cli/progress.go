package cli

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// progressEvery is how often long work says what it is at.
const progressEvery = 3 * time.Second

// progressOn says on errOut, where that is a terminal, what the work of a command is at, every few seconds:
// short work says nothing. at tells it; stop ends it, before the result is printed.
func progressOn(errOut io.Writer, name string) (at func(part string), stop func()) {
	if !isTerminal(errOut) {
		return func(string) {}, func() {}
	}
	return tellEvery(errOut, name)
}

func tellEvery(errOut io.Writer, name string) (at func(part string), stop func()) {
	var part atomic.Value
	part.Store("connected")
	began, ticker := time.Now(), time.NewTicker(progressEvery)
	stopped, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stopped:
				return
			case now := <-ticker.C:
				fmt.Fprintf(errOut, "logline: %s, %d s: %s\n", name, int(now.Sub(began).Seconds()), part.Load())
			}
		}
	}()
	return func(next string) { part.Store(next) }, sync.OnceFunc(func() {
		ticker.Stop()
		close(stopped)
		<-ended
	})
}
