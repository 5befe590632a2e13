package tail

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/loglineos/loglineos/sidecar/span"
)

// rowMemory is a row with what it points to, in one piece.
type rowMemory struct {
	row                            span.Published
	parent                         span.ID
	scheduled                      span.Time
	status, trace, current, before string
}

// words keeps the texts that come again and again (types, statuses, tenants), so that a row does not bring
// its own copies.
type words map[string]string

// wordsMax bounds words; a ledger with more names starts over.
const wordsMax = 4096

func (w words) text(raw []byte) string {
	if word, known := w[string(raw)]; known { // no copy: the compiler looks up by the bytes
		return word
	}
	if len(w) >= wordsMax {
		clear(w)
	}
	word := string(raw)
	if len(word) <= 64 {
		w[word] = word
	}
	return word
}

// A setter sets one published column from its binary form, or from the text that Postgres prints.
type setter func(m *rowMemory, raw []byte, isText bool, w words) error

// setters has one for each of span.PublishedColumns. It must not be changed.
var setters = map[string]setter{
	"id": func(m *rowMemory, raw []byte, isText bool, _ words) error {
		return setID(&m.row.ID, "id", raw, isText)
	},
	"seq": func(m *rowMemory, raw []byte, isText bool, _ words) error { return setSeq(m, raw, isText) },
	"entity_type": func(m *rowMemory, raw []byte, _ bool, w words) error {
		m.row.EntityType = w.text(raw)
		return nil
	},
	"status": func(m *rowMemory, raw []byte, _ bool, w words) error {
		m.status = w.text(raw)
		m.row.Status = &m.status
		return nil
	},
	"owner_id": func(m *rowMemory, raw []byte, _ bool, w words) error {
		m.row.OwnerID = w.text(raw)
		return nil
	},
	"tenant_id": func(m *rowMemory, raw []byte, _ bool, w words) error {
		m.row.TenantID = w.text(raw)
		return nil
	},
	"visibility": func(m *rowMemory, raw []byte, _ bool, w words) error {
		m.row.Visibility = w.text(raw)
		return nil
	},
	"is_deleted": func(m *rowMemory, raw []byte, isText bool, _ words) error {
		return setDeleted(m, raw, isText)
	},
	"parent_id": func(m *rowMemory, raw []byte, isText bool, _ words) error {
		m.row.ParentID = &m.parent
		return setID(&m.parent, "parent_id", raw, isText)
	},
	"at": func(m *rowMemory, raw []byte, isText bool, _ words) error {
		return setTime(&m.row.At, "at", raw, isText)
	},
	"accepted_at": func(m *rowMemory, raw []byte, isText bool, _ words) error {
		return setTime(&m.row.AcceptedAt, "accepted_at", raw, isText)
	},
	"scheduled_at": func(m *rowMemory, raw []byte, isText bool, _ words) error {
		m.row.ScheduledAt = &m.scheduled
		return setTime(&m.scheduled, "scheduled_at", raw, isText)
	},
	"trace_id": func(m *rowMemory, raw []byte, _ bool, _ words) error {
		m.trace = string(raw)
		m.row.TraceID = &m.trace
		return nil
	},
	"xact": func(m *rowMemory, raw []byte, isText bool, _ words) error { return setXact(m, raw, isText) },
	"curr_hash": func(m *rowMemory, raw []byte, _ bool, _ words) error {
		m.current = string(raw)
		m.row.CurrHash = &m.current
		return nil
	},
	"prev_hash": func(m *rowMemory, raw []byte, _ bool, _ words) error {
		m.before = string(raw)
		m.row.PrevHash = &m.before
		return nil
	},
}

// columnSetters are setters in the order of span.PublishedColumns. It must not be changed.
var columnSetters = func() []setter {
	list := make([]setter, len(span.PublishedColumns))
	for i, name := range span.PublishedColumns {
		list[i] = setters[name]
	}
	return list
}()

func setID(id *span.ID, column string, raw []byte, isText bool) (err error) {
	switch {
	case isText:
		*id, err = span.ParseID(string(raw))
	case len(raw) == len(id):
		copy(id[:], raw)
	default:
		err = fmt.Errorf("%d bytes are no uuid", len(raw))
	}
	return ofColumn(column, err)
}

func setSeq(m *rowMemory, raw []byte, isText bool) (err error) {
	switch {
	case isText:
		m.row.Seq, err = strconv.Atoi(string(raw))
	case len(raw) == 4:
		m.row.Seq = int(int32(binary.BigEndian.Uint32(raw)))
	default:
		err = fmt.Errorf("%d bytes are no int4", len(raw))
	}
	return ofColumn("seq", err)
}

func setXact(m *rowMemory, raw []byte, isText bool) (err error) {
	switch {
	case isText:
		m.row.Xact, err = strconv.ParseUint(string(raw), 10, 64)
	case len(raw) == 8:
		m.row.Xact = binary.BigEndian.Uint64(raw)
	default:
		err = fmt.Errorf("%d bytes are no xid8", len(raw))
	}
	return ofColumn("xact", err)
}

func setDeleted(m *rowMemory, raw []byte, isText bool) error {
	if len(raw) != 1 {
		return ofColumn("is_deleted", fmt.Errorf("%d bytes are no bool", len(raw)))
	}
	m.row.IsDeleted = isText && raw[0] == 't' || !isText && raw[0] == 1
	return nil
}

// postgresEpoch is 2000-01-01, from which Postgres counts, in Unix microseconds.
const (
	postgresEpoch = 946_684_800_000_000
	timeMin       = -63_082_281_600_000_000 // 0001-01-01, counted as Postgres does
	timeMax       = 252_455_615_999_999_999 // 9999-12-31
)

func setTime(at *span.Time, column string, raw []byte, isText bool) (err error) {
	switch {
	case isText:
		*at, err = span.ParseTime(string(raw))
	case len(raw) == 8:
		// One row must not stop the stream: infinity, and years that no text of a span has, are the nearest
		// time that one has.
		us := max(timeMin, min(timeMax, int64(binary.BigEndian.Uint64(raw))))
		*at = span.Time{Time: time.UnixMicro(us + postgresEpoch).UTC()}
	default:
		err = fmt.Errorf("%d bytes are no timestamptz", len(raw))
	}
	return ofColumn(column, err)
}

func ofColumn(column string, err error) error {
	if err != nil {
		return fmt.Errorf("column %s: %w", column, err)
	}
	return nil
}
