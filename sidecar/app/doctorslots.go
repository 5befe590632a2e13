package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/tail"
)

// replication looks at what a stream needs of the server and the login.
func (d *doctor) replication(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	s := d.server
	if s.WALLevel != "logical" {
		d.fault("wal_level", "it is "+s.WALLevel+", a slot needs logical",
			"`alter system set wal_level = 'logical'` as a superuser, and restart the server")
	} else {
		d.fine("wal_level", "logical")
	}
	if free := s.SendersMax - s.SendersUsed; free < 1 {
		d.fault("max_wal_senders", fmt.Sprintf("all %d are in use", s.SendersMax),
			"raise max_wal_senders and restart the server, or stop a standby or reader that is not needed")
	} else {
		d.fine("max_wal_senders", fmt.Sprintf("%d of %d are free", free, s.SendersMax))
	}
	url := d.replicationURL()
	target, err := ledger.TargetOf(url)
	if err == nil {
		err = ledger.TryReplication(ctx, url)
	}
	switch state := ledger.StateOf(err); {
	case err == nil:
		d.fine("replication", fmt.Sprintf("%q may replicate", target.User))
	case s.SendersMax-s.SendersUsed < 1:
		d.skip("replication", "no connection for it is left")
	case state == "42501", strings.Contains(strings.ToLower(err.Error()), "replication role"):
		d.fault("replication", fmt.Sprintf("the login %q may not replicate", target.User),
			fmt.Sprintf("`alter role %q replication` as a superuser, or set REPLICATION_URL to a login that may (on "+
				"Supabase with Postgres 15 or 16: postgres)", target.User))
	case state == "28P01", state == "28000":
		d.fault("replication", fmt.Sprintf("the server refuses the login %q for replication", target.User),
			"correct its password, or let pg_hba.conf accept it for this database")
	case state == "", state == "42601", state == "08P01":
		d.fault("replication", "REPLICATION_URL can not be used for replication: "+unwrapped(err), directMend)
	default:
		d.fault("replication", unwrapped(err), directMend)
	}
}

// slots looks at ours, who holds it, how much WAL the slots keep, and whether there is room for one.
func (d *doctor) slots(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	slots, err := d.session.Slots(ctx)
	if err != nil {
		d.fault("slots", err.Error(), "")
		return
	}
	place := slices.IndexFunc(slots, func(s ledger.Slot) bool { return s.Name == d.slotName() })
	d.slotRoom(len(slots), place >= 0)
	if place < 0 {
		d.missingSlot()
	} else {
		d.ourSlot(ctx, slots[place])
	}
	for _, s := range slots {
		switch {
		case s.Name == d.slotName():
		case !s.IsActive && s.RetainedBytes > retainedWarning:
			d.warn("other slots", fmt.Sprintf("%q is not in use and keeps %s of WAL", s.Name, size(s.RetainedBytes)),
				fmt.Sprintf("if nobody needs it: select pg_drop_replication_slot('%s')", s.Name))
		case s.Status == "lost":
			d.warn("other slots", fmt.Sprintf("%q is lost, and takes a place", s.Name),
				fmt.Sprintf("select pg_drop_replication_slot('%s')", s.Name))
		}
	}
	switch keep := d.server.SlotKeepBytes; {
	case keep < 0:
		d.warn("max_slot_wal_keep_size", "unlimited: while no sidecar runs, its slot may fill the disk",
			"`alter system set max_slot_wal_keep_size = '4GB'; select pg_reload_conf()`: a lost slot is caught up")
	case keep < keepLeast:
		d.warn("max_slot_wal_keep_size", size(keep)+" is little: the slot is lost in each longer pause",
			"`alter system set max_slot_wal_keep_size = '4GB'; select pg_reload_conf()`")
	default:
		d.fine("max_slot_wal_keep_size", size(keep))
	}
}

func (d *doctor) slotRoom(used int, isOurs bool) {
	most := d.server.SlotsMax
	switch {
	case used < most:
		d.fine("max_replication_slots", fmt.Sprintf("%d of %d are in use", used, most))
	case isOurs:
		d.warn("max_replication_slots", fmt.Sprintf("all %d are in use: ours could not be made anew", most),
			"drop one that nobody needs, or raise max_replication_slots and restart the server")
	default:
		d.fault("max_replication_slots", fmt.Sprintf("all %d are in use, and none is ours", most),
			"drop one that nobody needs (select slot_name, active from pg_replication_slots), or raise "+
				"max_replication_slots and restart the server; else LOGLINE_SOURCE=poll")
	}
}

// missingSlot is no fault where the leader polls.
func (d *doctor) missingSlot() {
	if d.leading.IsHeld && d.leading.Source == string(tail.Poll) {
		d.fine("slot", fmt.Sprintf("%q is not there, and not needed while %s leads by poll", d.slotName(),
			d.leading.Node))
		return
	}
	d.warn("slot", fmt.Sprintf("%q is not there: nobody listens", d.slotName()),
		"start `logline serve`: it makes the slot, and reads what was missed")
}

func (d *doctor) ourSlot(ctx context.Context, s ledger.Slot) {
	switch {
	case s.Plugin != "pgoutput" || s.Database != d.target.Database:
		d.fault("slot", fmt.Sprintf("%q belongs to another use: plugin %q, database %q", s.Name, s.Plugin,
			s.Database), "set LOGLINE_SLOT to a name that is free")
	case s.Status == "lost":
		d.warn("slot", fmt.Sprintf("%q is lost: the server has removed WAL that it needed", s.Name),
			"start `logline serve`: it makes a new one, and reads what was missed")
	case s.IsBeingMade:
		d.warn("slot", fmt.Sprintf("%q is being made, and waits for the write transactions that are open in the "+
			"cluster; who leads polls meanwhile", s.Name), "end those transactions: they are named below")
		d.blockers(ctx)
		return
	case !s.IsActive:
		who := "nobody reads it"
		if d.leading.IsHeld {
			who = fmt.Sprintf("%s, who leads, does not read it now", d.leading.Node)
		}
		d.warn("slot", fmt.Sprintf("%q waits, and %s; it keeps %s of WAL", s.Name, who, size(s.RetainedBytes)),
			"start `logline serve`; where it runs, look at its log and /readyz")
	default:
		d.fine("slot", fmt.Sprintf("%q is in use by %s", s.Name, s.Holder))
	}
	switch {
	case s.Status == "unreserved" || s.SafeBytes >= 0 && s.SafeBytes < d.server.SlotKeepBytes/4:
		d.warn("retained WAL", fmt.Sprintf("%s, and after %s more the slot is lost", size(s.RetainedBytes),
			size(max(s.SafeBytes, 0))), "start `logline serve`, or see why it is slow: logline_tail_undisposed_rows")
	case s.RetainedBytes > retainedWarning:
		d.warn("retained WAL", size(s.RetainedBytes), "see why the leader is slow, or what transaction is open")
	default:
		d.fine("retained WAL", size(s.RetainedBytes))
	}
}

// blockers names the transactions that a new slot waits for, however young they are.
func (d *doctor) blockers(ctx context.Context) {
	open, err := d.session.WritingTransactions(ctx)
	if err != nil {
		d.fault("transactions", err.Error(), "")
		return
	}
	d.found = append(d.found, OldTransactions(open)...)
}

// transactions names those that have been open for long: making a slot waits for them, and a slot keeps WAL
// as far back as the oldest.
func (d *doctor) transactions(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	open, err := d.session.OpenTransactions(ctx, oldTransaction)
	if err != nil {
		d.fault("transactions", err.Error(), "")
		return
	}
	d.found = append(d.found, OldTransactions(open)...)
	if len(open) == 0 {
		d.fine("transactions", "none has been open for longer than "+oldTransaction.String())
	}
	if d.server.Hidden > 0 {
		d.warn("transactions", fmt.Sprintf("%d sessions of others can not be looked into", d.server.Hidden),
			"`logline doctor --database …` with a superuser's login, or one with pg_read_all_stats, sees them")
	}
}

// OldTransactions are the findings on transactions that have been open for too long.
func OldTransactions(open []ledger.OpenTransaction) []Finding {
	var found []Finding
	for _, t := range open {
		what := fmt.Sprintf("%q in the database %q has been open for %s", t.Who, t.Database, t.Age.Round(1e9))
		if t.IsHidden {
			what = fmt.Sprintf("%q in the database %q is open, this login may not see since when", t.Who, t.Database)
		}
		effect := "; it holds back vacuum"
		if t.IsWriting {
			effect = "; it has written: no slot can be made before it ends, and ours keeps all WAL since"
		}
		cause := fmt.Sprintf("pid %d%s of %s%s", t.PID, inBrackets(t.Name), what, effect)
		f := Finding{"transactions", Warning, cause,
			fmt.Sprintf("end it where it was begun, or select pg_terminate_backend(%d)", t.PID)}
		if t.PID == 0 {
			f.Cause = fmt.Sprintf("the prepared transaction %q of %s%s", t.Name, what, effect)
			f.Mend = fmt.Sprintf("commit prepared '%s', or rollback prepared '%[1]s', in that database", t.Name)
		}
		found = append(found, f)
	}
	return found
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func (d *doctor) publication(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	columns, err := d.session.Publication(ctx, d.publicationName())
	const mend = "run `logline migrate` as the owner, or set LOGLINE_PUBLICATION to the publication that does"
	switch {
	case err != nil:
		d.fault("publication", err.Error(), mend)
	case len(columns) == 0:
		d.fault("publication", fmt.Sprintf("%q does not publish ledger.universal_registry", d.publicationName()),
			mend)
	default:
		for _, name := range span.PublishedColumns {
			if !slices.Contains(columns, name) {
				d.fault("publication", fmt.Sprintf("%q lacks the column %s", d.publicationName(), name), mend)
				return
			}
		}
		d.fine("publication", fmt.Sprintf("%q has the %d columns", d.publicationName(), len(span.PublishedColumns)))
	}
}

// size is a number of bytes for people.
func size(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.0f MB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%d kB", bytes>>10)
}
