package span

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/sidecar/failpoint"
)

// ID is a UUID (RFC 9562), 16 bytes. Its zero value is the nil UUID, which no span may carry.
// Its text form is the 36 character lower case form.
type ID [16]byte

// ParseID reads the 36 character form of a UUID, in either case. Other forms (braces, no
// hyphens) are refused, because the database would print them differently than they were hashed.
func ParseID(text string) (ID, error) {
	var id ID
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, fmt.Errorf("parse id %.40q: want the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", text)
	}
	for i, place := range [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34} {
		if _, err := hex.Decode(id[i:i+1], []byte(text[place:place+2])); err != nil {
			return ID{}, fmt.Errorf("parse id %.40q: %w", text, err)
		}
	}
	return id, nil
}

// MustID is ParseID for constants; it panics on a malformed one.
func MustID(text string) ID {
	id, err := ParseID(text)
	if err != nil {
		panic(err)
	}
	return id
}

// String returns the 36 character lower case form.
func (id ID) String() string {
	var text [36]byte
	hex.Encode(text[0:8], id[0:4])
	text[8] = '-'
	hex.Encode(text[9:13], id[4:6])
	text[13] = '-'
	hex.Encode(text[14:18], id[6:8])
	text[18] = '-'
	hex.Encode(text[19:23], id[8:10])
	text[23] = '-'
	hex.Encode(text[24:36], id[10:16])
	return string(text[:])
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// IsZero reports whether id is the nil UUID.
func (id ID) IsZero() bool { return id == ID{} }

// Version returns the UUID version, 0 to 15.
func (id ID) Version() int { return int(id[6] >> 4) }

// Time returns the millisecond that an id of version 7 or 8 begins with: of a derived one when its cause was
// accepted.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)).UTC()
}

// Derive returns the UUIDv8 of an effect, so that every sidecar that acts on the same cause
// writes the same row. The first 48 bits are at in Unix milliseconds (the accepted_at of the
// cause); the rest is SHA-256 over kind, a NUL byte, each uuid (16 bytes) and each integer
// (int64, big endian), with the version and variant bits of RFC 9562 §5.8 set over it.
// Vectors: tests/vectors/ids.json.
func Derive(kind string, at time.Time, uuids []ID, integers ...int64) ID {
	hash := sha256.New()
	hash.Write([]byte(kind))
	hash.Write([]byte{0})
	for _, id := range uuids {
		hash.Write(id[:])
	}
	var word [8]byte
	for _, n := range integers {
		binary.BigEndian.PutUint64(word[:], uint64(n))
		hash.Write(word[:])
	}
	if failpoint.Disabled(failpoint.Derived) {
		hash.Write([]byte(rand.Text()))
	}
	var sum [sha256.Size]byte
	hash.Sum(sum[:0])

	var id ID
	binary.BigEndian.PutUint64(word[:], uint64(at.UnixMilli())<<16)
	copy(id[:6], word[:6])
	copy(id[6:], sum[:10])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Emission is the id of what a policy emits for a version of a span, accepted at that time: number 0 is the
// fence of all that it emits for it. Which version of the policy judged it is no part of the id, so that two
// of them never both have an effect.
func Emission(policy ID, cause Key, acceptedAt time.Time, ordinal int) ID {
	return Derive("policy", acceptedAt, []ID{policy, cause.ID}, int64(cause.Seq), int64(ordinal))
}

// The fixed ids of the system's own spans.
var (
	ManifestID      = MustID("00000000-0000-4000-8000-0000000000aa")
	Stage0ID        = MustID("00000000-0000-4000-8000-0000000000ff")
	RunCodeID       = MustID("00000000-0000-4000-8000-000000000001")
	ObserverBotID   = MustID("00000000-0000-4000-8000-000000000002")
	RequestWorkerID = MustID("00000000-0000-4000-8000-000000000003")
	PolicyAgentID   = MustID("00000000-0000-4000-8000-000000000004")
	ProviderExecID  = MustID("00000000-0000-4000-8000-000000000005")
)
