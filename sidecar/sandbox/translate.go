package sandbox

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

var moduleLike = regexp.MustCompile(`(?m)^\s*(export|import)\b`)

// translate turns TypeScript, or JavaScript newer than goja, into what goja reads, with a source map.
//
// esbuild knows a top-level return only outside of modules and a top-level await only inside: a body is
// therefore put into an async function first. Which of the two ways comes first is a guess; the other one is
// tried too.
func translate(source string, entry Entry, typescript bool) (*program, *Error) {
	ways := []func(string, Entry, bool) (*program, *Error){translateBody, translateModule}
	if moduleLike.MatchString(source) {
		ways[0], ways[1] = ways[1], ways[0]
	}
	compiled, failed := ways[0](source, entry, typescript)
	if failed == nil {
		return compiled, nil
	}
	if compiled, worse := ways[1](source, entry, typescript); worse == nil {
		return compiled, nil
	}
	return nil, failed
}

func translateModule(source string, entry Entry, typescript bool) (*program, *Error) {
	code, mapping, failed := transform(source, typescript)
	if failed != nil {
		return nil, failed
	}
	f := form{source: code, entry: entry, mapping: mapping}
	compiled, failed := f.compile()
	if failed != nil && failed.Message == noImports {
		failed.Line, failed.Column = importLine(source), 1
	}
	return compiled, failed
}

func translateBody(source string, entry Entry, typescript bool) (*program, *Error) {
	f := form{entry: entry, closed: true, shift: 1}
	head := "function " + bodyName + "(){\n"
	if strings.Contains(source, "await") {
		head = "async " + head
	}
	code, mapping, failed := transform(head+source+"\n"+f.trailer()+"}", typescript)
	if failed != nil {
		failed.Line = max(failed.Line-1, 1)
		return nil, failed
	}
	f.source, f.mapping = code, mapping
	return f.compile()
}

// transform runs esbuild. The source map is shifted by the wrapper's one line.
func transform(source string, typescript bool) (code string, mapping []byte, failed *Error) {
	options := api.TransformOptions{
		Loader: api.LoaderJS,
		Target: api.ES2022,
		Supported: map[string]bool{"async-generator": false, "for-await": false,
			"top-level-await": true, "unicode-escapes": false,
			// so that goja refuses the flag where it stands
			"regexp-set-notation": true},
		Sourcemap:      api.SourceMapExternal,
		SourcesContent: api.SourcesContentExclude,
		Sourcefile:     codeName,
		TreeShaking:    api.TreeShakingFalse,
		LogLevel:       api.LogLevelSilent,
		TsconfigRaw:    `{"compilerOptions":{"target":"es2022","useDefineForClassFields":true}}`,
	}
	if typescript {
		options.Loader = api.LoaderTS
	}
	result := api.Transform(source, options)
	if len(result.Errors) > 0 {
		first := result.Errors[0]
		failed = &Error{Code: CodeSyntax, Message: cut("SyntaxError: " + first.Text)}
		if at := first.Location; at != nil {
			failed.Line, failed.Column = at.Line, at.Column+1
		}
		return "", nil, failed
	}
	head, rest, _ := bytes.Cut(result.Map, []byte(`"mappings": "`))
	mappings, tail, _ := bytes.Cut(rest, []byte(`"`))
	mapping = slices.Concat(head, []byte(`"mappings": ";`), shiftColumns(mappings), []byte(`"`), tail)
	return string(result.Code), mapping, nil
}

// importLine returns the line of the first import statement in the author's source.
func importLine(source string) int {
	n := 1
	for line := range strings.Lines(source) {
		if strings.HasPrefix(strings.TrimSpace(line), "import") {
			return n
		}
		n++
	}
	return 1
}
