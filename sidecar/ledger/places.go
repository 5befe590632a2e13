package ledger

import (
	"context"

	"github.com/loglineos/loglineos/sidecar/turns"
)

// readPlaces bounds what kernels, functions and policies read at once, so that connections are left for
// commits and bodies. Tenants take turns, and of several places none holds the last. The system's policies
// have places of their own: what tenants read delays none of them.
type readPlaces struct{ tenants, system *turns.Turns }

func newReadPlaces(connectionsMax int) readPlaces {
	places := func(n int) *turns.Turns { return turns.New(max(n, 1), max(n-1, 1)) }
	return readPlaces{tenants: places(connectionsMax * 3 / 10), system: places(connectionsMax / 5)}
}

// take waits for a place. It returns what gives it back.
func (p readPlaces) take(ctx context.Context, scope Scope) (leave func(), err error) {
	places := p.tenants
	if scope.OfSystem {
		places = p.system
	}
	if !places.Take(ctx, nil, scope.TenantID) {
		return nil, ctx.Err()
	}
	return func() { places.Leave(scope.TenantID) }, nil
}
