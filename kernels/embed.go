// Package kernels carries the behavior that is published into the ledger: the five kernels and the policies
// of the system as JavaScript, their indexes, and the default manifest. It holds no logic of its own;
// `logline bootstrap` publishes what is here.
package kernels

import (
	"embed"
	"encoding/json"
	"fmt"
	"path"

	"github.com/loglineos/loglineos/sidecar/span"
)

//go:embed *.js *.d.ts index.json manifest.json policies/*.js policies/index.json
var files embed.FS

// Kernel is one entry of an index.json with its source: a kernel, or a policy of the system.
type Kernel struct {
	ID          span.ID         `json:"id"` // never changes
	Name        string          `json:"name"`
	File        string          `json:"file"`
	Description string          `json:"description"`
	Metadata    json.RawMessage `json:"metadata"` // of a policy: what it judges, and when
	Source      string          `json:"-"`
}

// All returns the kernels in the order of index.json.
func All() ([]Kernel, error) { return read(".") }

// Policies returns the policies of the system in the order of policies/index.json.
func Policies() ([]Kernel, error) { return read("policies") }

func read(folder string) ([]Kernel, error) {
	index, err := files.ReadFile(path.Join(folder, "index.json"))
	if err != nil {
		return nil, fmt.Errorf("read the index of %s: %w", folder, err)
	}
	var all []Kernel
	if err := json.Unmarshal(index, &all); err != nil {
		return nil, fmt.Errorf("decode the index of %s: %w", folder, err)
	}
	for i := range all {
		source, err := files.ReadFile(path.Join(folder, all[i].File))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", all[i].Name, err)
		}
		all[i].Source = string(source)
	}
	return all, nil
}

// Manifest returns the default manifest document.
func Manifest() (json.RawMessage, error) {
	raw, err := files.ReadFile("manifest.json")
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	return raw, nil
}

// Types returns what an editor wants to know of ctx and of the globals, by the name of the file.
func Types() (map[string][]byte, error) {
	types := map[string][]byte{"kernel.d.ts": nil, "globals.d.ts": nil}
	for name := range types {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the types: %w", err)
		}
		types[name] = text
	}
	return types, nil
}
