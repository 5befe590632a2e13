package cli

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

const completionHelp = `Usage: logline completion bash|zsh|fish

Prints a script by which the shell completes commands, subcommands and flags; what else stands on the line it
completes as files. The script asks nothing of logline or a database.

Exit codes: 0 done, 1 it failed, 2 wrong use.

Examples:

    . <(logline completion bash)                                         # this shell; or in ~/.bashrc
    logline completion bash > /etc/bash_completion.d/logline             # every shell
    logline completion zsh > "${fpath[1]}/_logline"
    logline completion fish > ~/.config/fish/completions/logline.fish
`

func runCompletion(_ signals, args []string, out, _ io.Writer) error {
	shell, err := parseOne("completion", completionHelp, args, out, nil)
	if err != nil {
		return err
	}
	scripts := map[string]func(io.Writer, []page){"bash": completeBash, "zsh": completeZsh, "fish": completeFish}
	write := scripts[shell]
	if write == nil {
		return wrongUse("completion", "there is no script for %q: want bash, zsh or fish", shell)
	}
	write(out, pages())
	return nil
}

var flagOfHelp = regexp.MustCompile(`(?m)^ {4}(--?[a-z][a-z-]*)[ ,=]`)

// flags are those that the help of a command lists.
func (p page) flags() []string {
	flags := []string{"--help"}
	for _, match := range flagOfHelp.FindAllStringSubmatch(p.help, -1) {
		if !slices.Contains(flags, match[1]) {
			flags = append(flags, match[1])
		}
	}
	return flags
}

// commandsOf are the pages of one word.
func commandsOf(list []page) []page {
	return slices.DeleteFunc(slices.Clone(list), func(p page) bool { return strings.Contains(p.words, " ") })
}

func namesOf(list []page) string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.words
	}
	return strings.Join(names, " ")
}

// cases are the arms of a case over the words of a command, in bash and zsh: first those of two words.
func cases(list []page) string {
	var b strings.Builder
	for _, isLong := range []bool{true, false} {
		for _, p := range list {
			if isLong != strings.Contains(p.words, " ") {
				continue
			}
			pattern := "'" + p.words + "'"
			if isLong {
				pattern += "|'" + p.words + " '*"
			} else {
				pattern = p.words + "|'" + p.words + " '*"
			}
			fmt.Fprintf(&b, "    %s) subs=%q flags=%q ;;\n", pattern, strings.Join(p.subs, " "),
				strings.Join(p.flags(), " "))
		}
	}
	for _, p := range commandsOf(list) {
		if subcommands(p.words) != nil {
			fmt.Fprintf(&b, "    'help %s') subs=%q ;;\n", p.words, strings.Join(p.subs, " "))
		}
	}
	fmt.Fprintf(&b, "    help) subs=%q ;;\n", namesOf(commandsOf(list)))
	return b.String()
}

func completeBash(out io.Writer, list []page) {
	fmt.Fprintf(out, `# Completion of logline for bash, written by: logline completion bash
_logline() {
    local current=${COMP_WORDS[COMP_CWORD]} subs='' flags=''
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W '%s help --help --version' -- "$current"))
        return
    fi
    case "${COMP_WORDS[*]:1:COMP_CWORD-1}" in
%s    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
    elif ((COMP_CWORD == 2)) || [[ ${COMP_WORDS[1]} == help ]]; then
        COMPREPLY=($(compgen -W "$subs" -- "$current"))
    fi
}
complete -o default -F _logline logline
`, namesOf(commandsOf(list)), cases(list))
}

func completeZsh(out io.Writer, list []page) {
	var described strings.Builder
	for _, p := range commandsOf(list) {
		fmt.Fprintf(&described, "            '%s:%s'\n", p.words, strings.ReplaceAll(p.summary, "'", `'\''`))
	}
	fmt.Fprintf(out, `#compdef logline
# Completion of logline for zsh, written by: logline completion zsh
_logline() {
    local subs='' flags=''
    local -a commands
    if ((CURRENT == 2)); then
        commands=(
%s        )
        _describe command commands
        return
    fi
    case "${words[2,CURRENT-1]}" in
%s    esac
    if [[ ${words[CURRENT]} == -* ]]; then
        compadd -- ${=flags}
    elif [[ -n $subs ]] && { ((CURRENT == 3)) || [[ ${words[2]} == help ]]; }; then
        compadd -- ${=subs}
    else
        _files
    fi
}
if [[ ${funcstack[1]} == _logline ]]; then
    _logline "$@"
else
    compdef _logline logline
fi
`, described.String(), cases(list))
}

func completeFish(out io.Writer, list []page) {
	quoted := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `\'`) + "'" }
	fmt.Fprintln(out, "# Completion of logline for fish, written by: logline completion fish")
	fmt.Fprintf(out, "complete -c logline -n __fish_use_subcommand -f -a help\n")
	fmt.Fprintf(out, "complete -c logline -n '__fish_seen_subcommand_from help; and "+
		"not __fish_seen_subcommand_from %[1]s' -f -a '%[1]s'\n", namesOf(commandsOf(list)))
	for _, p := range list {
		first, second, isLong := strings.Cut(p.words, " ")
		seen := "__fish_seen_subcommand_from " + first
		if !isLong {
			fmt.Fprintf(out, "complete -c logline -n __fish_use_subcommand -f -a %s -d %s\n", first, quoted(p.summary))
			for _, sub := range p.subs {
				fmt.Fprintf(out, "complete -c logline -n %s -f -a %s\n",
					quoted(seen+"; and not __fish_seen_subcommand_from "+strings.Join(p.subs, " ")), sub)
			}
		} else {
			seen += "; and __fish_seen_subcommand_from " + second
		}
		if p.subs != nil && subcommands(first) != nil {
			continue // the flags are those of the subcommands
		}
		for _, name := range p.flags() {
			kind, name := "-l", strings.TrimLeft(name, "-")
			if len(name) == 1 {
				kind = "-o"
			}
			fmt.Fprintf(out, "complete -c logline -n %s %s %s\n", quoted(seen), kind, name)
		}
	}
}
