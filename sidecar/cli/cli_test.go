package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/loglineos/loglineos/tests/program"
)

// withoutJSON are the commands that have no --json, and why.
var withoutJSON = map[string]string{
	"up":         "it serves until it is stopped; its ready line is for people, up.env for programs",
	"serve":      "it serves until it is stopped; LOGLINE_LOG_FORMAT=json makes its log JSON",
	"completion": "a script is no JSON",
	"manifest":   "what it prints is the manifest's JSON",
	"keys":       "it has commands below",
	"function":   "it has commands below",
	"policy":     "it has commands below",
	"span":       "it has commands below",
	"keys sign":  "what it prints is the span's JSON",
}

func call(args ...string) (code int, out, said string) {
	var o, e bytes.Buffer
	code = Main(args, &o, &e)
	return code, o.String(), e.String()
}

// What each command has, those of others too: a help that begins with its use and ends in examples, the same
// by `help`, and exit code 2 for what it does not know.
func TestEveryCommandKeepsTheConventions(t *testing.T) {
	t.Parallel()
	for _, p := range pages() {
		t.Run(p.words, func(t *testing.T) {
			t.Parallel()
			words := strings.Fields(p.words)
			code, help, said := call(append(words, "--help")...)
			if code != 0 || said != "" || help != p.help {
				t.Errorf("--help exits with %d, says %q, and prints\n%s", code, said, help)
			}
			if code, same, _ := call(append([]string{"help"}, words...)...); code != 0 || same != help {
				t.Errorf("`logline help %s` exits with %d and prints\n%s", p.words, code, same)
			}
			if !strings.HasPrefix(help, "Usage: logline "+p.words) {
				t.Errorf("the help begins with %q", strings.SplitN(help, "\n", 2)[0])
			}
			_, examples, found := strings.Cut(help, "\nExample")
			if !found || !strings.Contains(examples, "logline "+words[0]) {
				t.Errorf("the help ends in no example:\n%s", help)
			}
			if subcommands(p.words) == nil && !strings.Contains(help, "\nExit codes: 0 ") {
				t.Errorf("the help names no exit codes:\n%s", help)
			}
			for line := range strings.Lines(help) {
				if len([]rune(line)) > 112 {
					t.Errorf("a line of the help is too long: %q", line)
				}
			}
			code, out, said := call(append(words, "--no-such-flag")...)
			if code != 2 || out != "" || !strings.Contains(said, "logline") || !strings.HasPrefix(said, "logline: ") {
				t.Errorf("an unknown flag exits with %d, prints %q, says %q", code, out, said)
			}
			if _, isExempt := withoutJSON[p.words]; isExempt == slices.Contains(p.flags(), "--json") {
				t.Errorf("--json: in the help %t, exempt %t", !isExempt, isExempt)
			}
		})
	}
}

// A flag that the help lists is one that the command knows.
func TestEveryFlagOfAHelpIsKnown(t *testing.T) {
	t.Parallel()
	for _, p := range pages() {
		if subcommands(p.words) != nil {
			continue
		}
		for _, name := range p.flags() {
			code, _, said := call(append(strings.Fields(p.words), name+"=\x00", "--no-such-flag")...)
			isKnown := !strings.Contains(said, "not defined: "+strings.TrimPrefix(name, "-"))
			if name != "--help" && (code != 2 || !isKnown) {
				t.Errorf("logline %s %s exits with %d and says %q", p.words, name, code, said)
			}
		}
	}
}

func TestUnknownCommandsAreWrongUse(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"lsit", "help lsit", "keys lsit", "function lsit", "span lsit", "policy lsit",
		"completion tcsh", "completion", "schedule lsit", "requests lsit"} {
		if code, out, said := call(strings.Fields(words)...); code != 2 || out != "" || said == "" {
			t.Errorf("logline %s exits with %d, prints %q, says %q", words, code, out, said)
		}
	}
	if code, out, _ := call(); code != 0 || !strings.Contains(out, "logline function") {
		t.Errorf("logline alone exits with %d and prints\n%s", code, out)
	}
}

func TestASlipIsAnsweredWithTheCommandThatIsMeant(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]string{
		"fuction": "function", "functoin": "function", "Verfy": "verify", "help timelin": "timeline",
		"function pubish": "function publish", "span histroy x": "span history",
		"requests redirve": "requests redrive",
		"lsit":             "", "up2date": "", "function x": "",
	} {
		asks := ": did you mean `logline " + want + "`?"
		code, _, said := call(strings.Fields(words)...)
		if code != 2 || strings.Contains(said, "did you mean") != (want != "") ||
			want != "" && !strings.Contains(said, asks) {
			t.Errorf("logline %s exits with %d and says %q, want %q in it", words, code, said, asks)
		}
	}
}

// A variable that is not set leaves an empty value behind: no command takes that for a flag left out.
func TestAFlagWithoutAValueIsWrongUse(t *testing.T) {
	t.Setenv("APP_USER_ID", "somebody")
	t.Setenv("APP_TENANT_ID", "else")
	t.Setenv("DATABASE_URL", nobodyThere)
	for _, args := range [][]string{
		{"bootstrap", "--rollback", ""}, {"bootstrap", "--key", ""}, {"bootstrap", "--over", ""},
		{"span", "append", "{}", "--as", ""}, {"span", "append", "{}", "--tenant", ""},
		{"span", "append", "{}", "--sign", ""}, {"timeline", "--as-owner", "--in", ""},
		{"requests", "cancel", "--tenant", ""}, {"requests", "cancel", "--function", ""},
		{"keys", "generate", "--tenant", ""}, {"verify", "--database", ""}, {"e2e", "--tenant", ""},
	} {
		if code, out, said := call(args...); code != 2 || out != "" || !strings.Contains(said, "it is empty") {
			t.Errorf("logline %q exits with %d, prints %q, says %q", args, code, out, said)
		}
	}
}

// nobodyThere is the URL of no server.
const nobodyThere = "postgres://nobody@127.0.0.1:1/none"

// What is wrong with the call itself is told without a database.
func TestWrongUseIsToldBeforeTheConnection(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"e2e", "--within", "0s", "--database", nobodyThere},
		{"bootstrap", "--rollback", "run_code@new", "--database", nobodyThere},
		{"bootstrap", "--rollback", "run_code", "--kernels", "--database", nobodyThere},
		{"compliance", "--html", t.TempDir(), "--database", nobodyThere},
		{"verify", "--database", "postgres://%zz"},
		{"span", "append", "{}", "--as", "a", "--tenant", "b", "--database", "postgres://host:port/x"},
	} {
		if code, out, said := call(args...); code != 2 || out != "" {
			t.Errorf("logline %q exits with %d, prints %q, says %q", args, code, out, said)
		}
	}
	if code, _, said := call("verify", "--database", nobodyThere); code != 1 {
		t.Errorf("without a server verify exits with %d and says %q", code, said)
	}
}

// A terminal or a pipe that says nothing does not keep a command from ending, and one that never ends does
// not fill the memory.
func TestReadingEndsWithTheWishToStopAndWithABound(t *testing.T) {
	t.Parallel()
	silent, mouth := io.Pipe()
	defer mouth.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := readInput(ctx, silent)
		ended <- err
	}()
	if _, err := mouth.Write([]byte("{")); err != nil { // it reads
		t.Fatal(err)
	}
	stop()
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case err := <-ended:
		if !errors.Is(err, errStopped) {
			t.Errorf("it ends with %v", err)
		}
	case <-timer.C:
		t.Error("it reads on")
	}
	if raw, err := readInput(t.Context(), strings.NewReader("{}")); err != nil || string(raw) != "{}" {
		t.Errorf("it reads %q, %v", raw, err)
	}
	long := strings.NewReader(strings.Repeat(" ", inputBytesMax+1))
	if _, err := readInput(t.Context(), long); err == nil || !strings.Contains(err.Error(), "4 MiB") {
		t.Errorf("of a document that is too long it says %v", err)
	}
}

// What a stranger has written moves no cursor and turns no line around: JSON says the same, escaped.
func TestATerminalGetsNothingToActOn(t *testing.T) {
	t.Parallel()
	const hostile = "a\x1b]0;x\a\u009b31m\u202eb\tc\nd\u2066\u200f\u061c\u2028"
	var b bytes.Buffer
	if err := printJSON(&b, map[string]string{hostile: hostile}, false); err != nil {
		t.Fatal(err)
	}
	var read map[string]string
	if err := json.Unmarshal(b.Bytes(), &read); err != nil || read[hostile] != hostile {
		t.Errorf("it reads back as %q, %v", read, err)
	}
	var said bytes.Buffer
	if code := exitCode(errors.New(hostile), &said); code != 1 || !strings.Contains(said.String(), "\nd") {
		t.Errorf("it exits with %d and says %q", code, said.String())
	}
	for _, printed := range []string{b.String(), said.String(), plainText(hostile, 100)} {
		acts := func(r rune) bool {
			return unicode.In(r, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp) && r != '\n' && r != '\t'
		}
		if i := strings.IndexFunc(printed, acts); i >= 0 {
			t.Errorf("%q has %q", printed, printed[i:])
		}
	}
}

// Nothing is colored but on a terminal.
func TestAPipeIsNotColored(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	list := table{status: 1}
	list.add("ID", "STATUS")
	list.add("1", "error")
	if err := list.print(&b); err != nil || strings.Contains(b.String(), "\x1b") {
		t.Errorf("it prints %q, %v", b.String(), err)
	}
	if on := (paint{true}).red("x"); on != "\x1b[31mx\x1b[0m" {
		t.Errorf("red is %q", on)
	}
}

// complete asks bash what it would offer for a line.
func complete(t *testing.T, line string) []string {
	t.Helper()
	_, script, _ := call("completion", "bash")
	words := strings.Split(line, " ")
	ask := script + "\nCOMP_WORDS=(" + strings.Join(words[:len(words)-1], " ") + " \"$1\")\n" +
		"COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_logline\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
	c := exec.CommandContext(t.Context(), "bash", "-uc", ask, "bash", words[len(words)-1])
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("bash: %v\n%s", err, out)
	}
	return strings.Fields(string(out))
}

func TestBashCompletesCommandsAndFlags(t *testing.T) {
	t.Parallel()
	program.Need(t, "bash")
	for line, want := range map[string]string{
		"logline fu":                            "function",
		"logline function ":                     "new dev publish call logs",
		"logline function p":                    "publish",
		"logline function dev --on":             "--once",
		"logline function dev greet.ts --inp":   "--input",
		"logline requests re":                   "redrive",
		"logline requests redrive --dead --fun": "--function",
		"logline keys rotate --k":               "--key",
		"logline completion ":                   "bash zsh fish",
		"logline help sp":                       "span",
		"logline help function ":                "new dev publish call logs",
		"logline help function pu":              "publish",
		"logline help doctor ":                  "",
		"logline function dev gr":               "",
		"logline nix --":                        "",
	} {
		if got := strings.Join(complete(t, line), " "); got != want {
			t.Errorf("%q is completed by %q, want %q", line, got, want)
		}
	}
	for _, p := range pages() {
		long := slices.DeleteFunc(p.flags(), func(name string) bool { return !strings.HasPrefix(name, "--") })
		if got := complete(t, "logline "+p.words+" --"); subcommands(p.words) == nil && !slices.Equal(got, long) {
			t.Errorf("logline %s --: %q, want %q", p.words, got, long)
		}
	}
}

// The other shells read their scripts, and fish offers what it should.
func TestOtherShellsReadTheirScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			program.Need(t, shell)
			_, script, _ := call("completion", shell)
			c := exec.CommandContext(t.Context(), shell, "-n")
			c.Stdin = strings.NewReader(script)
			if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s -n: %v\n%s", shell, err, out)
			}
		})
	}
}

func TestFishCompletesCommandsAndFlags(t *testing.T) {
	t.Parallel()
	program.Need(t, "fish")
	_, script, _ := call("completion", "fish")
	for line, want := range map[string]string{"logline func": "function", "logline function pu": "publish",
		"logline help fun": "function", "logline help function pu": "publish",
		"logline function dev --onc": "--once"} {
		ask := exec.CommandContext(t.Context(), "fish", "--no-config", "-c", script+"\ncomplete -C '"+line+"'")
		if out, err := ask.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("fish completes %q by %q, %v", line, out, err)
		}
	}
}

func TestKeysGenerateSpeaksJSON(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	code, out, _ := call("keys", "generate", "--root", "--json")
	var made struct{ Private, Public, Fingerprint string }
	if err := json.Unmarshal([]byte(out), &made); err != nil || code != 0 || len(made.Private) != 64 ||
		len(made.Public) != 64 || len(made.Fingerprint) != 64 {
		t.Errorf("it exits with %d and prints %s, %v", code, out, err)
	}
}
