//go:build !linux

package sandbox

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
)

const selfExecutable = "" // os.Executable

func prepareThread() error { return nil }

func childAttributes() *syscall.SysProcAttr { return nil }

// newLink makes the wire: two pipes, the child's standard input and output.
func newLink(cmd *exec.Cmd) (link io.ReadWriteCloser, given []*os.File, err error) {
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, nil, errors.Join(err, inRead.Close(), inWrite.Close())
	}
	cmd.Stdin, cmd.Stdout = inRead, outWrite
	return pipes{outRead, inWrite}, []*os.File{inRead, outWrite}, nil
}

type pipes struct {
	io.ReadCloser
	out *os.File
}

func (p pipes) Write(b []byte) (int, error) { return p.out.Write(b) }
func (p pipes) Close() error                { return errors.Join(p.ReadCloser.Close(), p.out.Close()) }
