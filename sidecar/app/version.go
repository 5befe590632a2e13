package app

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/loglineos/loglineos/sidecar/sandbox"
)

// Release is the version of the source; the changelog has an entry for each.
const Release = "0.2.0"

// commit is what the linker writes into a released binary (scripts/release); "" in every other.
var commit string

// Commit is the commit that this binary was built from, in full, "" where the build does not know it.
func Commit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return ""
}

// Version is the release, and the beginning of the commit where the build knows it: 0.2.0+0123456789ab.
func Version() string {
	if c := Commit(); len(c) >= 12 {
		return Release + "+" + c[:12]
	}
	return Release
}

// Build is what `logline version` says of a binary, and of the machine that it stands on.
type Build struct {
	Version  string `json:"version"`
	Release  string `json:"release"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Walls are those that the kernel of this machine puts around strangers' code, tried on a child: "stands",
	// or why one does not; nil where Fault says why no child can live here.
	Walls map[string]string `json:"walls,omitempty"`
	Fault string            `json:"fault,omitempty"`
	// Order are the names of Walls as they are raised.
	Order []string `json:"-"`
}

// DescribeBuild starts a child of the sandbox to see which walls stand, and ends it.
func DescribeBuild(ctx context.Context) Build {
	b := Build{Version: Version(), Release: Release, Commit: Commit(), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if ctx.Err() != nil {
		return b
	}
	pool, err := sandbox.New(sandbox.Options{Workers: 1})
	if err != nil {
		b.Fault = fmt.Sprintf("no child of the sandbox can start here: %s", err.Error())
		return b
	}
	defer pool.Close()
	b.Walls = describeWalls(pool.Walls())
	for _, wall := range pool.Walls() {
		b.Order = append(b.Order, wall.Name)
	}
	return b
}

// describeWalls says of each wall that it stands, or why it does not.
func describeWalls(walls []sandbox.Wall) map[string]string {
	said := map[string]string{}
	for _, wall := range walls {
		if said[wall.Name] = "stands"; wall.Missing != "" {
			said[wall.Name] = "missing: " + wall.Missing
		}
	}
	return said
}
