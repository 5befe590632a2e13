package tail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pglogrepl"

	"github.com/loglineos/loglineos/sidecar/span"
)

type eventKind int

const (
	eventNone eventKind = iota
	eventBegin
	eventRow
	eventCommit
)

type event struct {
	kind eventKind
	row  *span.Published
	end  pglogrepl.LSN // of a commit: the end of its record, the position to acknowledge
}

// decoder turns pgoutput messages (protocol version 1,
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html) into events. It
// keys columns by name: one that is added to the publication is passed over, one that is missing
// stops the stream loudly.
type decoder struct {
	relations map[uint32][]string // column names by relation; nil for a foreign relation
}

func newDecoder() *decoder { return &decoder{relations: map[uint32][]string{}} }

func (d *decoder) decode(raw []byte) (event, error) {
	message, err := parse(raw)
	if err != nil {
		return event{}, fmt.Errorf("decode pgoutput message: %w", err)
	}
	switch m := message.(type) {
	case *pglogrepl.BeginMessage:
		return event{kind: eventBegin}, nil
	case *pglogrepl.CommitMessage:
		return event{kind: eventCommit, end: m.TransactionEndLSN}, nil
	case *pglogrepl.RelationMessage:
		return event{}, d.relation(m)
	case *pglogrepl.InsertMessage:
		return d.insert(m)
	}
	return event{}, nil
}

// parse is pglogrepl.Parse for the messages that matter; nil for the others. Parse itself reads past the
// end of a message that is cut off, and believes every length in it.
func parse(raw []byte) (message pglogrepl.Message, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("message of %d bytes: %v", len(raw), fault)
		}
	}()
	if len(raw) == 0 {
		return nil, errors.New("message of 0 bytes")
	}
	switch pglogrepl.MessageType(raw[0]) {
	case pglogrepl.MessageTypeInsert:
		if !isWholeInsert(raw) {
			return nil, fmt.Errorf("insert of %d bytes is cut off", len(raw))
		}
	case pglogrepl.MessageTypeBegin, pglogrepl.MessageTypeCommit, pglogrepl.MessageTypeRelation:
	default: // origins, types, truncations and messages carry nothing for us
		return nil, nil
	}
	return pglogrepl.Parse(raw)
}

// isWholeInsert walks the tuple: kind and relation (5 bytes), 'N', the number of columns (2 bytes), and of
// each column its form and, where it has a value, a length of 4 bytes and the value.
func isWholeInsert(raw []byte) bool {
	if len(raw) < 8 {
		return false
	}
	rest := raw[8:]
	for range binary.BigEndian.Uint16(raw[6:8]) {
		if len(rest) == 0 {
			return false
		}
		form := rest[0]
		rest = rest[1:]
		if form == pglogrepl.TupleDataTypeText || form == pglogrepl.TupleDataTypeBinary {
			if len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.BigEndian.Uint32(rest)) {
				return false
			}
			rest = rest[4+binary.BigEndian.Uint32(rest):]
		}
	}
	return true
}

func (d *decoder) relation(m *pglogrepl.RelationMessage) error {
	if m.Namespace != "ledger" || m.RelationName != "universal_registry" {
		d.relations[m.RelationID] = nil
		return nil
	}
	names := make([]string, len(m.Columns))
	for i, column := range m.Columns {
		names[i] = column.Name
	}
	for _, name := range span.PublishedColumns {
		if !slices.Contains(names, name) {
			return fmt.Errorf("the publication lacks the column %s: run `logline migrate`; the slot is kept", name)
		}
	}
	d.relations[m.RelationID] = names
	return nil
}

func (d *decoder) insert(m *pglogrepl.InsertMessage) (event, error) {
	names, known := d.relations[m.RelationID]
	if !known {
		return event{}, fmt.Errorf("decode insert: relation %d was not announced", m.RelationID)
	}
	if names == nil {
		return event{}, nil
	}
	if m.Tuple == nil || len(m.Tuple.Columns) != len(names) {
		return event{}, fmt.Errorf("decode insert: want %d columns", len(names))
	}
	row := new(span.Published)
	for i, column := range m.Tuple.Columns {
		switch column.DataType {
		case pglogrepl.TupleDataTypeText:
			if err := setColumn(row, names[i], string(column.Data)); err != nil {
				return event{}, fmt.Errorf("decode insert: %w", err)
			}
		case pglogrepl.TupleDataTypeNull:
		default:
			return event{}, fmt.Errorf("decode insert: column %s has the unknown form %q", names[i], column.DataType)
		}
	}
	return event{kind: eventRow, row: row}, nil
}

// setColumn sets one published column from the text that Postgres prints.
func setColumn(row *span.Published, name, text string) (err error) {
	switch name {
	case "id":
		row.ID, err = span.ParseID(text)
	case "seq":
		row.Seq, err = strconv.Atoi(text)
	case "entity_type":
		row.EntityType = text
	case "status":
		row.Status = &text
	case "owner_id":
		row.OwnerID = text
	case "tenant_id":
		row.TenantID = text
	case "visibility":
		row.Visibility = text
	case "is_deleted":
		row.IsDeleted = text == "t"
	case "parent_id":
		var id span.ID
		id, err = span.ParseID(text)
		row.ParentID = &id
	case "at":
		row.At, err = span.ParseTime(text)
	case "accepted_at":
		row.AcceptedAt, err = span.ParseTime(text)
	case "scheduled_at":
		var at span.Time
		at, err = span.ParseTime(text)
		row.ScheduledAt = &at
	case "trace_id":
		row.TraceID = &text
	case "xact":
		row.Xact, err = strconv.ParseUint(text, 10, 64)
	case "curr_hash":
		row.CurrHash = &text
	case "prev_hash":
		row.PrevHash = &text
	}
	if err != nil {
		return fmt.Errorf("column %s: %w", name, err)
	}
	return nil
}
