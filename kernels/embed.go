// Package kernels carries the behavior that is published into the ledger: the five kernels as
// JavaScript, their index, and the default manifest. It holds no logic of its own; `logline bootstrap`
// publishes what is here.
package kernels

import (
	"embed"
	"encoding/json"
	"fmt"

	"github.com/loglineos/loglineos/sidecar/span"
)

//go:embed *.js index.json manifest.json
var files embed.FS

// Kernel is one entry of index.json with its source.
type Kernel struct {
	ID          span.ID `json:"id"` // never changes
	Name        string  `json:"name"`
	File        string  `json:"file"`
	Description string  `json:"description"`
	Source      string  `json:"-"`
}

// All returns the kernels in the order of index.json.
func All() ([]Kernel, error) {
	index, err := files.ReadFile("index.json")
	if err != nil {
		return nil, fmt.Errorf("read the kernel index: %w", err)
	}
	var all []Kernel
	if err := json.Unmarshal(index, &all); err != nil {
		return nil, fmt.Errorf("decode the kernel index: %w", err)
	}
	for i := range all {
		source, err := files.ReadFile(all[i].File)
		if err != nil {
			return nil, fmt.Errorf("read kernel %s: %w", all[i].Name, err)
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
