package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/httpapi"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/tail"
)

const (
	leaderLock  = tail.LockClass
	askPatience = 5 * time.Second
	answerMost  = 64 << 10
)

// workers looks whether a sidecar leads, and has beaten of late.
func (v *verifier) workers(context.Context) error {
	const check, look = "workers", "start `logline serve`; where it runs, look at its log and /readyz"
	ago := v.leading.Silent.Round(100 * time.Millisecond)
	switch {
	case v.leadFault != nil && ledger.StateOf(v.leadFault) != "":
		v.add(check, Skipped, "this login may not see who leads: "+unwrapped(v.leadFault), rightsMend)
	case v.leadFault != nil:
		return v.leadFault
	case !v.leading.IsHeld && v.leading.Node == "":
		v.add(check, Fault, "no sidecar has led this ledger yet: nothing runs", "start `logline serve`")
	case !v.leading.IsHeld:
		v.add(check, Fault, fmt.Sprintf("no sidecar leads: nothing runs; %s did last, and beat %s ago",
			v.leading.Node, ago), look)
	case v.leading.Node == "" || v.leading.Silent > lateBeat:
		v.add(check, Fault, fmt.Sprintf("%q holds the lead, and beat %s ago: it is frozen, or cut off",
			v.leading.Node, ago), look)
	default:
		v.add(check, Fine, fmt.Sprintf("%s leads, by %s; it beat %s ago", v.leading.Node, v.leading.Source,
			ago), "")
	}
	return nil
}

// isLed reports whether some sidecar works, as far as is known.
func (v *verifier) isLed() bool {
	return v.leadFault == nil && v.leading.IsHeld && v.leading.Node != ""
}

// loader asks a sidecar what its Stage-0 says. It is red where it contradicts the ledger, or has a reason
// of its own; what another check has told is told again, and no more.
func (v *verifier) loader(ctx context.Context) error {
	const check = "stage-0"
	if v.leadFault == nil && !v.leading.IsHeld {
		v.add(check, Skipped, "no sidecar leads, so there is no Stage-0 to ask", "")
		return nil
	}
	url := strings.TrimRight(v.options.URL, "/")
	status, err := askReady(ctx, url)
	where := url + "/readyz"
	seq := -1
	if v.inForce != nil {
		seq = v.inForce.Seq
	}
	switch {
	case err != nil:
		v.add(check, Skipped, fmt.Sprintf("no sidecar answers at %s: %s", where, unwrapped(err)),
			"give --url, or set LOGLINE_URL, where the leader's HTTP can be reached from here")
	case status.Phase == string(tail.Standby):
		v.add(check, Skipped, where+" is that of a sidecar that stands by", "give --url of the one that leads")
	case status.Manifest != nil && status.Manifest.Seq != seq:
		v.add(check, Fault, fmt.Sprintf("%s goes by manifest version %d, and in force in this ledger is %s", where,
			status.Manifest.Seq, versionText(seq)), "see that both are of the same database, and pin the same root")
	case status.Ready && len(status.Degraded) == 0:
		v.add(check, Fine, fmt.Sprintf("%s answers: ready, manifest version %d, its kernels verify", where,
			seq), "")
	case status.Ready:
		v.add(check, Warning, fmt.Sprintf("%s answers: ready, but %s", where, joined(status.Degraded)),
			"docs/kernels.md")
	case v.hasFailed():
		v.add(check, Warning, fmt.Sprintf("%s answers: not ready, %s", where, status.Reason),
			"mend what is told above")
	default:
		v.add(check, Fault, fmt.Sprintf("%s answers: not ready (%s), %s", where, status.Phase, status.Reason),
			"`logline doctor`; if it was mended just now: a sidecar looks at the walls each LOGLINE_WALLS_MS")
	}
	return nil
}

func versionText(seq int) string {
	if seq < 0 {
		return "none"
	}
	return fmt.Sprintf("version %d", seq)
}

func joined(texts map[string]string) string {
	var lines []string
	for name, text := range texts {
		lines = append(lines, name+": "+text)
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// askReady asks a sidecar's /readyz.
func askReady(ctx context.Context, url string) (*httpapi.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return nil, fmt.Errorf("ask a sidecar: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask a sidecar: %w", err)
	}
	defer response.Body.Close()
	status := &httpapi.Status{}
	if err := json.NewDecoder(io.LimitReader(response.Body, answerMost)).Decode(status); err != nil {
		return nil, fmt.Errorf("read the answer of a sidecar: %w", err)
	}
	if status.Phase == "" {
		return nil, fmt.Errorf("read the answer of a sidecar: it is none (HTTP %d)", response.StatusCode)
	}
	return status, nil
}

// slot looks at the replication slot. That nobody reads it while no sidecar works is told of by workers.
func (v *verifier) slot(ctx context.Context) error {
	const check = "slot"
	if v.isLed() && v.leading.Source == string(tail.Poll) {
		v.add(check, Fine, v.leading.Node+" leads by poll, and needs none", "")
		return nil
	}
	slots, err := v.owner.Examination().Slots(ctx)
	if err != nil {
		return err
	}
	place := slices.IndexFunc(slots, func(s ledger.Slot) bool { return s.Name == v.options.Slot })
	const mend = "see that a sidecar runs: it makes the slot anew, and reads what was missed"
	switch {
	case place < 0 && v.isLed():
		v.add(check, Fault, fmt.Sprintf("%q is not there, and %s leads by wal", v.options.Slot, v.leading.Node),
			"`logline doctor` says what it waits for")
	case place < 0:
		v.add(check, Skipped, fmt.Sprintf("%q is not there: a sidecar makes it", v.options.Slot), "")
	case slots[place].Database != v.database:
		v.add(check, Fault, fmt.Sprintf("%q is that of the database %q of this server", v.options.Slot,
			slots[place].Database), "set LOGLINE_SLOT to another name, for each sidecar of this ledger")
	case slots[place].Status == "lost":
		v.add(check, Fault, fmt.Sprintf("%q is lost: the server has removed WAL that it needed",
			v.options.Slot), mend)
	case slots[place].Plugin != "pgoutput":
		v.add(check, Fault, fmt.Sprintf("%q has the plugin %q: it is of another use", v.options.Slot,
			slots[place].Plugin), "set LOGLINE_SLOT to a name that is free")
	case !slots[place].IsActive && v.isLed():
		v.add(check, Fault, fmt.Sprintf("%q is read by nobody, though %s leads by wal; it keeps %s of WAL",
			v.options.Slot, v.leading.Node, size(slots[place].RetainedBytes)), "`logline doctor`")
	case !slots[place].IsActive:
		v.add(check, Warning, fmt.Sprintf("%q waits for a sidecar, and keeps %s of WAL", v.options.Slot,
			size(slots[place].RetainedBytes)), mend)
	default:
		v.add(check, Fine, fmt.Sprintf("%q is in use, and keeps %s of WAL", v.options.Slot,
			size(slots[place].RetainedBytes)), "")
	}
	return nil
}
