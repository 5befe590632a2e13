package sandbox

import "strings"

// The names of the walls around a child, in the order in which they are raised.
const (
	WallRlimits     = "rlimits"      // no core, no file content, 16 files, bounded memory
	WallNoNewPrivs  = "no_new_privs" // no set-user-id program gives it more rights
	WallNamespaces  = "namespaces"   // a network without a device, and System V objects of its own
	WallUser        = "user"         // not root
	WallNotDumpable = "not_dumpable" // its memory is not readable by others of its user, nor theirs by it
	WallLandlock    = "landlock"     // no path of any file system, no TCP, no signal to others
	WallSeccomp     = "seccomp"      // the system calls that Go's runtime needs, and no other
)

// Wall is one wall of the kernel around a child. Missing says why it does not stand and what to do; "" means
// that it stands.
type Wall struct {
	Name    string `json:"name"`
	Missing string `json:"missing,omitempty"`
}

// strictWalls are those without which a strict ledger is not ready.
var strictWalls = [...]string{WallLandlock, WallSeccomp}

// Breach says which wall that strict mode demands does not stand, and why; "" when all stand.
func Breach(walls []Wall) string {
	var missing []string
	for _, name := range strictWalls {
		found := false
		for _, w := range walls {
			if w.Name != name {
				continue
			}
			if found = true; w.Missing != "" {
				missing = append(missing, name+" ("+w.Missing+")")
			}
		}
		if !found {
			missing = append(missing, name)
		}
	}
	return strings.Join(missing, ", ")
}

func appendWalls(e *encoder, walls []Wall) {
	e.uint(uint64(len(walls)))
	for _, w := range walls {
		e.text(w.Name)
		e.text(w.Missing)
	}
}

func decodeWalls(body []byte) ([]Wall, bool) {
	d := decoder{body: body}
	walls := make([]Wall, d.count())
	for i := range walls {
		walls[i] = Wall{Name: d.text(), Missing: d.text()}
	}
	return walls, d.done()
}
