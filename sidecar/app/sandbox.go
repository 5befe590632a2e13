package app

import "github.com/loglineos/loglineos/sidecar/sandbox"

// logSandbox says once, at the start, which walls the kernel has put around strangers' code.
func (a *App) logSandbox() {
	var standing []string
	for _, wall := range a.pool.Walls() {
		if wall.Missing == "" {
			standing = append(standing, wall.Name)
			continue
		}
		a.log.Warn("a wall of the sandbox does not stand", "wall", wall.Name, "reason", wall.Missing)
	}
	a.log.Info("sandbox is ready", "walls", standing)
}

// sandboxWalls is the same for /readyz.
func (a *App) sandboxWalls() map[string]string {
	return describeWalls(a.pool.Walls())
}

// sandboxFault says why a ledger in strict mode is not ready here: strict means that what cannot be walled in
// does not count as working. Nothing lowers the walls; the manifest alone decides whether they are demanded.
func (a *App) sandboxFault() string {
	manifest := a.stage0.Manifest()
	if manifest == nil || !manifest.Features.StrictMode {
		return ""
	}
	if breach := sandbox.Breach(a.pool.Walls()); breach != "" {
		return "strict_mode: the sandbox lacks " + breach
	}
	return ""
}
