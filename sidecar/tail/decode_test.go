package tail

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
)

var update = flag.Bool("update", false, "write testdata/stream.hex anew from a real server")

const streamFile = "testdata/stream.hex"

// stream reads pgoutput messages of a real server: begin, relation, inserts, commit; one a line, in hex.
func stream(t testing.TB) [][]byte {
	t.Helper()
	text, err := os.ReadFile(streamFile)
	if err != nil {
		t.Fatal(err)
	}
	var messages [][]byte
	scanner := bufio.NewScanner(bytes.NewReader(text))
	for scanner.Scan() {
		raw, err := hex.DecodeString(scanner.Text())
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, raw)
	}
	return messages
}

// What the server sends now decodes, and is what the seeds are.
func TestDecodesARealStream(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	for _, form := range []string{"false", "true"} {
		execute(t, f.conn, "select pg_create_logical_replication_slot('binary_' || $1, 'pgoutput')", form)
	}
	execute(t, f.conn, "begin")
	id := insert(t, f.conn, "with nulls")
	execute(t, f.conn, `insert into ledger.universal_registry (entity_type, who, owner_id, tenant_id, visibility,
		status, parent_id, scheduled_at, trace_id) values ('note', 'user:a', 'a', 't', 'tenant', 'open',
		$1::text::uuid, '2026-01-02 03:04:05.678901+02', E'\\\\ \' \u2028')`, id)
	execute(t, f.conn, "commit")
	var messages [][]byte
	for _, form := range []string{"false", "true"} {
		rows, err := f.conn.Query(t.Context(), `select data from pg_logical_slot_get_binary_changes(
			'binary_' || $1, null, null, 'proto_version', '1', 'publication_names', 'loglineos', 'binary', $1)`, form)
		if err != nil {
			t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, found...)
	}
	if *update {
		var text strings.Builder
		for _, raw := range messages {
			fmt.Fprintf(&text, "%x\n", raw)
		}
		if err := os.WriteFile(streamFile, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kinds := func(messages [][]byte) (text string, found []*span.Published) {
		d := newDecoder()
		for _, raw := range messages {
			event, err := d.decode(raw)
			if err != nil {
				t.Fatalf("%x: %v", raw, err)
			}
			text += string(raw[:1])
			if event.kind == eventRow {
				found = append(found, event.row)
			}
		}
		return text, found
	}
	now, decoded := kinds(messages)
	seeds, _ := kinds(stream(t))
	if now != seeds {
		t.Errorf("the server sends %s, the seeds are %s: run go test -run RealStream -update", now, seeds)
	}
	if len(decoded) != 4 || decoded[0].ID.String() != id ||
		decoded[1].ScheduledAt.String() != "2026-01-02T01:04:05.678901Z" {
		t.Errorf("got %+v", decoded)
	}
	for i, text := range decoded[:2] {
		if binary := decoded[i+2]; !reflect.DeepEqual(text, binary) {
			t.Errorf("row %d is %+v as text, %+v in binary form", i, text, binary)
		}
	}
}

// One odd row must not stop the stream: infinity is the last time that a span can have.
func TestInfinityIsFarAway(t *testing.T) {
	t.Parallel()
	for raw, want := range map[int64]string{
		math.MaxInt64: "9999-12-31T23:59:59.999999Z", math.MinInt64: "0001-01-01T00:00:00.000000Z",
		0: "2000-01-01T00:00:00.000000Z",
	} {
		var at span.Time
		if err := setTime(&at, "at", binary.BigEndian.AppendUint64(nil, uint64(raw)), false); err != nil ||
			at.String() != want {
			t.Errorf("%d is %s, %v; want %s", raw, at, err, want)
		}
	}
	var at span.Time
	if err := setTime(&at, "at", []byte{1}, false); err == nil {
		t.Error("a time of one byte is one")
	}
}

// relation encodes a Relation message (protocol version 1).
func relation(id uint32, namespace, name string, columns ...string) []byte {
	raw := binary.BigEndian.AppendUint32([]byte{'R'}, id)
	raw = append(raw, namespace+"\x00"+name+"\x00d"...)
	raw = binary.BigEndian.AppendUint16(raw, uint16(len(columns)))
	for _, column := range columns {
		raw = append(raw, 0)
		raw = append(raw, column+"\x00"...)
		raw = append(raw, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff)
	}
	return raw
}

// inserted encodes an Insert message; the value "\x00n" is NULL, "\x00u" an unchanged one.
func inserted(id uint32, values ...string) []byte {
	raw := append(binary.BigEndian.AppendUint32([]byte{'I'}, id), 'N')
	raw = binary.BigEndian.AppendUint16(raw, uint16(len(values)))
	for _, value := range values {
		if strings.HasPrefix(value, "\x00") {
			raw = append(raw, value[1])
			continue
		}
		raw = binary.BigEndian.AppendUint32(append(raw, 't'), uint32(len(value)))
		raw = append(raw, value...)
	}
	return raw
}

func values(change map[string]string) []string {
	values := make([]string, len(span.PublishedColumns))
	for i, name := range span.PublishedColumns {
		values[i] = "\x00n"
		if value, stated := change[name]; stated {
			values[i] = value
		}
	}
	return values
}

func TestColumnsAreKeyedByName(t *testing.T) {
	t.Parallel()
	names := slices.Clone(span.PublishedColumns)
	slices.Reverse(names)
	names = append(names, "new_column")
	row := values(map[string]string{"seq": "7", "is_deleted": "t", "entity_type": "note"})
	slices.Reverse(row)
	d := newDecoder()
	if _, err := d.decode(relation(1, "ledger", "universal_registry", names...)); err != nil {
		t.Fatalf("a column more: %v", err)
	}
	event, err := d.decode(inserted(1, append(row, "its value")...))
	if err != nil || event.row.Seq != 7 || !event.row.IsDeleted || event.row.EntityType != "note" ||
		event.row.Status != nil {
		t.Fatalf("got %+v, %v", event.row, err)
	}
}

func TestMissingColumnStopsTheStreamLoudly(t *testing.T) {
	t.Parallel()
	for i, name := range span.PublishedColumns {
		rest := slices.Delete(slices.Clone(span.PublishedColumns), i, i+1)
		_, err := newDecoder().decode(relation(1, "ledger", "universal_registry", rest...))
		if err == nil || !strings.Contains(err.Error(), "lacks the column "+name) ||
			!strings.Contains(err.Error(), "logline migrate") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestForeignRelationsArePassedOver(t *testing.T) {
	t.Parallel()
	d := newDecoder()
	if _, err := d.decode(relation(2, "public", "universal_registry", "id")); err != nil {
		t.Fatal(err)
	}
	event, err := d.decode(inserted(2, "x"))
	if err != nil || event.kind != eventNone {
		t.Fatalf("got %+v, %v", event, err)
	}
}

func TestRefusesMalformedInserts(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string][]byte{
		"relation 9 was not announced": inserted(9, "x"),
		"want 16 columns":              inserted(1, "x"),
		"column seq":                   inserted(1, values(map[string]string{"seq": "one"})...),
		"column id":                    inserted(1, values(map[string]string{"id": "{}"})...),
		"column parent_id":             inserted(1, values(map[string]string{"parent_id": ""})...),
		"column at":                    inserted(1, values(map[string]string{"at": "infinity"})...),
		"column scheduled_at":          inserted(1, values(map[string]string{"scheduled_at": "now"})...),
		"column xact":                  inserted(1, values(map[string]string{"xact": "-1"})...),
		"column status has":            inserted(1, values(map[string]string{"status": "\x00u"})...),
		"2 bytes without a new row":    {'I', 0},
		"13 bytes are cut off":         {'I', 0, 0, 0, 1, 'N', 0, 16, 't', 0xff, 0xff, 0xff, 0xff},
		"8 bytes are cut off":          {'I', 0, 0, 0, 1, 'N', 0, 16},
		"it has 0 bytes":               {},
		"decode commit":                {'C', 0},
		"decode relation":              {'R', 0},
	} {
		d := newDecoder()
		if _, err := d.decode(relation(1, "ledger", "universal_registry", span.PublishedColumns...)); err != nil {
			t.Fatal(err)
		}
		if _, err := d.decode(raw); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
	}
}

// FuzzDecode feeds one message after the relation of a real stream: an error or an event, never a panic.
func FuzzDecode(f *testing.F) {
	messages := stream(f)
	for _, raw := range messages {
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
	}
	f.Add([]byte{})
	f.Add(relation(1, "ledger", "universal_registry", span.PublishedColumns...))
	f.Add(inserted(1, "\x00n", "\x00u", ""))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := newDecoder()
		for _, known := range messages {
			if known[0] == 'R' {
				if _, err := d.decode(known); err != nil {
					t.Fatal(err)
				}
			}
		}
		event, err := d.decode(raw)
		if (event.kind == eventRow) != (event.row != nil) || err != nil && event.row != nil {
			t.Fatalf("got %+v, %v", event, err)
		}
		// A second message after it must not panic either.
		_, _ = d.decode(messages[len(messages)-2])
	})
}
