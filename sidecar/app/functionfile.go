package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/sandbox"
)

// FunctionFile is a function as it stands in a file.
type FunctionFile struct {
	Path, Name  string // Name is the file's, without its end
	Source      string
	Language    string
	SampleInput json.RawMessage // of the comment `// input: …`; nil where there is none
}

var (
	functionName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,99}$`)
	sampleInput  = regexp.MustCompile(`(?m)^// input: (.*)$`)
)

// ReadFunctionFile reads a file that ends in .ts or .js.
func ReadFunctionFile(path string) (*FunctionFile, error) {
	file := &FunctionFile{Path: path, Name: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))}
	switch filepath.Ext(path) {
	case ".ts":
		file.Language = "typescript"
	case ".js", ".mjs":
		file.Language = "javascript"
	default:
		return nil, fmt.Errorf("read %s: want a file that ends in .ts or .js", path)
	}
	source, err := readSource(path)
	if err != nil {
		return nil, err
	}
	file.Source = string(source)
	if comment := sampleInput.FindStringSubmatch(file.Source); comment != nil {
		if !json.Valid([]byte(comment[1])) {
			return nil, fmt.Errorf("read %s: what follows `// input:` is no JSON: %.60q", path, comment[1])
		}
		file.SampleInput = json.RawMessage(comment[1])
	}
	return file, nil
}

// sourceFileMax is more than any manifest's limits.source_bytes lets run.
const sourceFileMax = 4 << 20

// readSource reads a file, and waits for no pipe: nothing could end that.
func readSource(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("read %s: it is no file", path)
	case info.Size() > sourceFileMax:
		return nil, fmt.Errorf("read %s: it has more than %d MiB", path, sourceFileMax>>20)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the file: %w", err)
	}
	return source, nil
}

// Compile has the code compiled, in a sandbox of its own, and runs nothing of it. The error says where in the
// file it cannot be read.
func (f *FunctionFile) Compile(ctx context.Context) error {
	pool, err := sandbox.New(sandbox.Options{Workers: 1})
	if err != nil {
		return fmt.Errorf("start the sandbox: %w", err)
	}
	defer pool.Close()
	result := pool.RunCode(ctx, sandbox.Run{Entry: sandbox.EntryNone,
		Program: sandbox.Program{Name: f.Path, Source: f.Source, Language: f.Language}})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case result.Cause != nil:
		return result.Cause
	case result.Err != nil && result.Err.Line > 0:
		return fmt.Errorf("compile %s:%d:%d: %w", f.Path, result.Err.Line, result.Err.Column, result.Err)
	case result.Err != nil:
		return fmt.Errorf("compile %s: %w", f.Path, result.Err)
	}
	return nil
}

const newFunction = `/// <reference path="./globals.d.ts" />
import type { FunctionCtx } from "./kernel";

// input: {"name": "Ada"}
interface Input {
  name: string;
}

export default async function main(ctx: FunctionCtx): Promise<{ greeting: string }> {
  const { name } = ctx.input as Input;
  ctx.log("greeting", name);
  return { greeting: ` + "`Hello, ${name}!`" + ` };
}
`

const newConfig = `{
  "compilerOptions": {
    "strict": true,
    "noEmit": true,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2022"],
    "types": []
  }
}
`

// NewFunction writes folder/name.ts with a function that runs, and beside it what an editor needs to know its
// types: kernel.d.ts, globals.d.ts and, where there is none, tsconfig.json. It returns what it has written. A
// function that is there is not touched, nor is a file of somebody else's: only types that a version of this
// program wrote are written anew.
func NewFunction(folder, name string) ([]string, error) {
	if !functionName.MatchString(name) {
		return nil, fmt.Errorf("make %.40q: a name has letters, digits, _ and -, and begins with a letter", name)
	}
	types, err := kernels.Types()
	if err != nil {
		return nil, err
	}
	stale, err := staleTypes(folder, types)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	path := filepath.Join(folder, name+".ts")
	err = writeNew(path, []byte(newFunction))
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make %s: it is there; take another name, or delete it", path)
	}
	if err != nil {
		return nil, err
	}
	written := []string{path}
	types["tsconfig.json"] = []byte(newConfig)
	for name, text := range types {
		path := filepath.Join(folder, name)
		if slices.Contains(stale, name) {
			err = os.WriteFile(path, text, 0o666)
		} else if err = writeNew(path, text); errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return written, fmt.Errorf("write %s: %w", path, err)
		}
		written = append(written, path)
	}
	slices.Sort(written[1:])
	return written, nil
}

// staleTypes names the types that another version of this program has written into folder. What is not of
// this program, or leads elsewhere, is an error.
func staleTypes(folder string, types map[string][]byte) (stale []string, err error) {
	for name, text := range types {
		path := filepath.Join(folder, name)
		info, err := os.Lstat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at the types that are there: %w", err)
		}
		var known []byte
		if info.Mode().IsRegular() && info.Size() < sourceFileMax {
			if known, err = os.ReadFile(path); err != nil {
				return nil, fmt.Errorf("read the types that are there: %w", err)
			}
		}
		title, _, _ := bytes.Cut(text, []byte(".")) // the first sentence of its comment
		if !bytes.HasPrefix(known, title) {
			return nil, fmt.Errorf("make the types: %s is there, and is not of this program: move it, or give --dir "+
				"another folder", path)
		}
		if !bytes.Equal(known, text) {
			stale = append(stale, name)
		}
	}
	return stale, nil
}

// writeNew writes a file that is not there.
func writeNew(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("make a file: %w", err)
	}
	_, err = file.Write(text)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
