package reference

import (
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/config"
)

// In the texts of this page ~ stands for a backquote.
const configurationHead = `# Reference: configuration

The environment of ~logline serve~, written by ~make gen~ from ~sidecar/config~. Do not edit. Nothing is read
from a file but a key (~LOGLINE_SIGNING_KEY_FILE~); ~.env.example~ is this list to copy. A value that is not
understood is refused by name, exit code 2; a secret is never printed. ~logline doctor~ names what is wrong,
and what begins with LOGLINE_ and nothing reads. Commands of the owner read DATABASE_URL, as the login that
owns the database, and LOGLINE_TRUST_ROOT.

`

const formerHead = `
## Names of the reference implementation

Every variable that the reference implementation and its Blueprint read, and what has become of it. *Kept*:
the same name and meaning. *Moved*: it was an argument, and is one of a request now. *Dropped*: nothing reads
it. Where one that is moved or dropped is set all the same, ~logline serve~ and ~logline doctor~ say so, by
name.

`

func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	p := &page{t: t}
	p.put("%s", strings.ReplaceAll(configurationHead, "~", "`"))
	var rows [][]string
	for _, v := range config.Describe() {
		form := v.Unit
		if len(v.Values) > 0 {
			form = strings.Join(v.Values, ", ")
		}
		standard := "`" + v.Default + "`"
		switch {
		case v.Required:
			standard = "required"
		case v.Default == "":
			standard = ""
		}
		help := v.Help
		if v.Secret {
			help = "Secret. " + help
		}
		rows = append(rows, []string{"`" + v.Name + "`", standard, form, help})
	}
	p.table("name,default,unit or values,meaning", rows)
	p.put("%s", strings.ReplaceAll(formerHead, "~", "`"))
	rows = nil
	for _, v := range config.FormerVariables() {
		rows = append(rows, []string{"`" + v.Name + "`", string(v.Fate), v.Now})
	}
	p.table("name,fate,now", rows)
	golden(t, "configuration.md", p.String())
}
