package app

import (
	"context"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/tail"
)

// lateBeat is more than a leader in health lets pass: it beats each second.
const lateBeat = 2 * time.Second

// leadership reads who leads, for what is said of the slot and of the leader. What this login may not read is
// told later.
func (d *doctor) leadership(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	d.leading, _ = d.session.Leadership(ctx, d.slotName(), tail.LockClass)
}

// leader tells who works. It holds the cell's lock and beats each second, whatever its source.
func (d *doctor) leader(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	now, err := d.session.Leadership(ctx, d.slotName(), tail.LockClass)
	const look = "start `logline serve`; where it runs, look at its log and /readyz"
	ago := now.Silent.Round(100 * time.Millisecond)
	switch {
	case err != nil:
		d.fault("leader", err.Error(), "run `logline migrate --again` as the owner")
	case now.Node == "" && now.IsHeld:
		d.warn("leader", "somebody has begun to lead, and has not said who", "look again in a few seconds")
	case now.Node == "":
		d.warn("leader", "nobody has led yet", "start `logline serve`")
	case !now.IsHeld:
		d.warn("leader", fmt.Sprintf("nobody leads: %s did last, and beat %s ago", now.Node, ago), look)
	case now.Silent > lateBeat:
		d.warn("leader", fmt.Sprintf("%s holds the lead, and beat %s ago: it is frozen, or cut off", now.Node, ago),
			"a sidecar that stands by takes over 4 s after the last beat; where none does, look at that one")
	case d.config != nil && now.Source != d.config.Source:
		d.warn("leader", fmt.Sprintf("%s leads, by %s, and LOGLINE_SOURCE is %s here; it beat %s ago", now.Node,
			now.Source, d.config.Source, ago), "give all sidecars of a cell the same LOGLINE_SOURCE")
	default:
		d.fine("leader", fmt.Sprintf("%s leads, by %s; it beat %s ago", now.Node, now.Source, ago))
	}
}
