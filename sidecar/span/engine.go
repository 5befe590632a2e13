package span

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// MaxDepth is how many causes may stand between a derived span and its root.
const MaxDepth = 16

// EngineTypes are the entity types that only the engine writes, and request: the bookkeeping that
// by the word "<engine-written types>" a trigger leaves out (docs/contract.md §1 and §4). It must not
// be changed.
var EngineTypes = []string{
	"boot_event", "checkpoint", "epoch", "execution", "incident", "metric", "policy_cursor",
	"policy_error", "policy_violation", "provider_execution", "request", "status_patch",
}

// HasOneVersion reports whether a span of entityType never gets a second version (ledger.may_follow).
func HasOneVersion(entityType string) bool {
	return IsEngineType(entityType) && entityType != "request" && entityType != "metric"
}

// IsEngineType reports whether entityType is one of EngineTypes.
func IsEngineType(entityType string) bool { return slices.Contains(EngineTypes, entityType) }

// MarshalJSON writes ["<id>",seq].
func (k Key) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `["%s",%d]`, k.ID, k.Seq), nil }

// UnmarshalJSON reads ["<id>",seq].
func (k *Key) UnmarshalJSON(raw []byte) error {
	var parts []json.RawMessage
	err := json.Unmarshal(raw, &parts)
	if err != nil || len(parts) != 2 {
		return fmt.Errorf(`decode key %.80q: want ["<id>",seq]`, raw)
	}
	if err := json.Unmarshal(parts[0], &k.ID); err != nil {
		return fmt.Errorf("decode key: %w", err)
	}
	if err := json.Unmarshal(parts[1], &k.Seq); err != nil {
		return fmt.Errorf("decode key: %w", err)
	}
	return nil
}

// EngineMeta is metadata.engine of a derived span: what made it. The engine alone writes it.
type EngineMeta struct {
	Cause Key    `json:"cause"` // the version that it derives from, as ["<id>",seq]
	Root  ID     `json:"root"`  // the first cause of the chain
	Depth int    `json:"depth"` // steps from the root; at most MaxDepth
	Kind  string `json:"kind"`  // the kind given to Derive
}

// Engine returns metadata.engine, and false where the span is not derived. The key counts in
// exactly this spelling, as in SQL: "Engine" is a client's own affair.
func (s *Span) Engine() (*EngineMeta, bool) {
	if !bytes.Contains(s.Metadata, []byte("engine")) {
		return nil, false // jsonb prints the key without escapes
	}
	raw, isObject := member(s.Metadata, "engine")
	if !isObject {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(s.Metadata, &members); err != nil {
			return nil, false
		}
		raw = members["engine"]
	}
	if raw == nil {
		return nil, false
	}
	meta := &EngineMeta{}
	if !meta.read(raw) {
		if *meta = (EngineMeta{}); json.Unmarshal(raw, meta) != nil {
			return nil, false
		}
	}
	if meta.Cause.ID.IsZero() {
		return nil, false
	}
	return meta, true
}

// SetEngine returns metadata with its key engine set to m. Null metadata becomes an object; a
// metadata that is no object is refused with a *Refusal.
func SetEngine(metadata json.RawMessage, m EngineMeta) (json.RawMessage, error) {
	return SetMember(metadata, "engine", m.appendJSON(make([]byte, 0, 192)))
}

func (m *EngineMeta) appendJSON(out []byte) []byte {
	w := jsonWriter{out: append(out, `{"cause":[`...)}
	w.id(m.Cause.ID)
	w.out = strconv.AppendInt(append(w.out, ','), int64(m.Cause.Seq), 10)
	w.out = append(w.out, `],"root":`...)
	w.id(m.Root)
	w.out = strconv.AppendInt(append(w.out, `,"depth":`...), int64(m.Depth), 10)
	w.out = appendString(append(w.out, `,"kind":`...), m.Kind)
	return append(w.out, '}')
}
