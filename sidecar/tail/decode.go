package tail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

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
	kind   eventKind
	row    *span.Published
	end    pglogrepl.LSN // of a commit: the end of its record, the position to acknowledge
	writer uint32        // of a begin: the transaction, without its upper half
}

// decoder turns pgoutput messages (protocol version 1,
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html) into events. It
// keys columns by name: one that is added to the publication is passed over, one that is missing
// stops the stream loudly. It allocates once for a row, and again for each text that it has not seen lately.
type decoder struct {
	relations map[uint32]*table // nil for a foreign relation
	words     words
}

// table is what the server announced of the table: its columns, and who sets each; nil for none of ours.
type table struct {
	names   []string
	setters []setter
}

func newDecoder() *decoder { return &decoder{relations: map[uint32]*table{}, words: words{}} }

// decode reads one message. Origins, types, truncations and logical messages carry nothing for us; a message
// of a kind that is still to be invented does not, either.
func (d *decoder) decode(raw []byte) (event, error) {
	if len(raw) == 0 {
		return event{}, errors.New("decode pgoutput message: it has 0 bytes")
	}
	switch pglogrepl.MessageType(raw[0]) {
	case pglogrepl.MessageTypeInsert:
		return d.insert(raw)
	case pglogrepl.MessageTypeBegin:
		if len(raw) < 21 { // kind, LSN of the end, time, transaction
			return event{}, fmt.Errorf("decode begin: %d bytes are cut off", len(raw))
		}
		return event{kind: eventBegin, writer: binary.BigEndian.Uint32(raw[17:])}, nil
	case pglogrepl.MessageTypeCommit: // kind, flags, LSN of the commit, LSN of its end, time
		if len(raw) < 26 {
			return event{}, fmt.Errorf("decode commit: %d bytes are cut off", len(raw))
		}
		return event{kind: eventCommit, end: pglogrepl.LSN(binary.BigEndian.Uint64(raw[10:]))}, nil
	case pglogrepl.MessageTypeRelation:
		message, err := parseRelation(raw)
		if err != nil {
			return event{}, fmt.Errorf("decode relation: %w", err)
		}
		return event{}, d.relation(message)
	}
	return event{}, nil
}

// parseRelation is pglogrepl.Parse, which reads past the end of a message that is cut off.
func parseRelation(raw []byte) (message *pglogrepl.RelationMessage, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("message of %d bytes: %v", len(raw), fault)
		}
	}()
	parsed, err := pglogrepl.Parse(raw)
	if err != nil {
		return nil, err
	}
	return parsed.(*pglogrepl.RelationMessage), nil
}

func (d *decoder) relation(m *pglogrepl.RelationMessage) error {
	if m.Namespace != "ledger" || m.RelationName != "universal_registry" {
		d.relations[m.RelationID] = nil
		return nil
	}
	r := &table{}
	for _, column := range m.Columns {
		r.names = append(r.names, column.Name)
		r.setters = append(r.setters, setters[column.Name])
	}
	for _, name := range span.PublishedColumns {
		if !slices.Contains(r.names, name) {
			return &SetupError{fmt.Sprintf("the publication lacks the column %s; the slot is kept", name),
				"run `logline migrate` as the owner", nil}
		}
	}
	d.relations[m.RelationID] = r
	return nil
}

// insert walks the message: kind, relation (4 bytes), 'N', the number of columns (2 bytes), and of each
// column its form and, where it has a value, a length (4 bytes) and the value.
func (d *decoder) insert(raw []byte) (event, error) {
	if len(raw) < 8 || raw[5] != 'N' {
		return event{}, fmt.Errorf("decode insert: %d bytes without a new row", len(raw))
	}
	id := binary.BigEndian.Uint32(raw[1:])
	r, known := d.relations[id]
	if !known {
		return event{}, fmt.Errorf("decode insert: relation %d was not announced", id)
	}
	if r == nil {
		return event{}, nil
	}
	if int(binary.BigEndian.Uint16(raw[6:])) != len(r.setters) {
		return event{}, fmt.Errorf("decode insert: want %d columns", len(r.setters))
	}
	memory := new(rowMemory)
	rest := raw[8:]
	for i, set := range r.setters {
		if len(rest) == 0 {
			return event{}, fmt.Errorf("decode insert: %d bytes are cut off", len(raw))
		}
		form := rest[0]
		rest = rest[1:]
		if form == pglogrepl.TupleDataTypeNull {
			continue
		}
		if form != pglogrepl.TupleDataTypeText && form != pglogrepl.TupleDataTypeBinary {
			return event{}, fmt.Errorf("decode insert: column %s has the unknown form %q", r.names[i], form)
		}
		if len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.BigEndian.Uint32(rest)) {
			return event{}, fmt.Errorf("decode insert: %d bytes are cut off", len(raw))
		}
		value := rest[4 : 4+binary.BigEndian.Uint32(rest)]
		rest = rest[4+len(value):]
		if set == nil {
			continue
		}
		if err := set(memory, value, form == pglogrepl.TupleDataTypeText, d.words); err != nil {
			return event{}, fmt.Errorf("decode insert: %w", err)
		}
	}
	return event{kind: eventRow, row: &memory.row}, nil
}
