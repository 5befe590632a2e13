// Package span is the noun of LogLineOS: one row of ledger.universal_registry.
//
// It owns the column list, the text and JSON forms of a value, the canonical form and its hash,
// derived ids, the manifest document and the error codes. It does no I/O and knows no database.
//
// The truth about columns is sql/src; a test compares Columns with the live table.
package span

import "encoding/json"

// Span is one version of one thing. A nil pointer, nil slice or nil raw message is SQL NULL; in
// JSON an absent key. Field order is the column order of the table. Comments with meaning, unit
// and writer stand on the columns themselves (docs/reference, generated from the database).
type Span struct {
	ID             ID              `json:"id"`
	Seq            int             `json:"seq"`
	EntityType     string          `json:"entity_type"`
	Who            string          `json:"who"`
	Did            *string         `json:"did,omitempty"`
	This           *string         `json:"this,omitempty"`
	At             Time            `json:"at"`
	ConfirmedBy    *string         `json:"confirmed_by,omitempty"`
	IfOk           *string         `json:"if_ok,omitempty"`
	IfDoubt        *string         `json:"if_doubt,omitempty"`
	IfNot          *string         `json:"if_not,omitempty"`
	Xact           *string         `json:"xact,omitempty"` // xid8 as decimal text; set by the database
	AcceptedAt     *Time           `json:"accepted_at,omitempty"`
	ScheduledAt    *Time           `json:"scheduled_at,omitempty"`
	EffectiveAt    *Time           `json:"effective_at,omitempty"`
	ExpiresAt      *Time           `json:"expires_at,omitempty"`
	TTLAt          *Time           `json:"ttl_at,omitempty"`
	ParentID       *ID             `json:"parent_id,omitempty"`
	RelatedTo      []ID            `json:"related_to,omitzero"`
	Links          json.RawMessage `json:"links,omitempty"`
	TraceID        *string         `json:"trace_id,omitempty"`
	SessionID      *string         `json:"session_id,omitempty"`
	IdempotencyKey *string         `json:"idempotency_key,omitempty"`
	PolicyID       *ID             `json:"policy_id,omitempty"`
	OwnerID        string          `json:"owner_id"`
	TenantID       string          `json:"tenant_id"`
	Visibility     string          `json:"visibility"`
	Sensitivity    *string         `json:"sensitivity,omitempty"`
	Scopes         []string        `json:"scopes,omitzero"`
	AppID          *string         `json:"app_id,omitempty"`
	DeviceID       *string         `json:"device_id,omitempty"`
	Status         *string         `json:"status,omitempty"`
	IsDeleted      bool            `json:"is_deleted"`
	Reason         *string         `json:"reason,omitempty"`
	Priority       *int            `json:"priority,omitempty"`
	Severity       *string         `json:"severity,omitempty"`
	Attempt        *int            `json:"attempt,omitempty"`
	Name           *string         `json:"name,omitempty"`
	Description    *string         `json:"description,omitempty"`
	Kind           *string         `json:"kind,omitempty"`
	Version        *string         `json:"version,omitempty"`
	Tags           []string        `json:"tags,omitzero"`
	Layer          *string         `json:"layer,omitempty"`
	SchemaID       *string         `json:"schema_id,omitempty"`
	Content        json.RawMessage `json:"content,omitempty"`
	Code           *string         `json:"code,omitempty"`
	Language       *string         `json:"language,omitempty"`
	Runtime        *string         `json:"runtime,omitempty"`
	TimeoutMs      *int            `json:"timeout_ms,omitempty"`
	Input          json.RawMessage `json:"input,omitempty"`
	Output         json.RawMessage `json:"output,omitempty"`
	Error          json.RawMessage `json:"error,omitempty"`
	DurationMs     *int            `json:"duration_ms,omitempty"`
	Value          *Decimal        `json:"value,omitempty"`
	Unit           *string         `json:"unit,omitempty"`
	Confidence     *Decimal        `json:"confidence,omitempty"`
	ProviderID     *ID             `json:"provider_id,omitempty"`
	Model          *string         `json:"model,omitempty"`
	TokensIn       *int            `json:"tokens_in,omitempty"`
	TokensOut      *int            `json:"tokens_out,omitempty"`
	Cost           *Decimal        `json:"cost,omitempty"`
	ToolUseCount   *int            `json:"tool_use_count,omitempty"`
	CompiledHash   *string         `json:"compiled_hash,omitempty"`
	PrevHash       *string         `json:"prev_hash,omitempty"`
	CurrHash       *string         `json:"curr_hash,omitempty"`
	Signature      *string         `json:"signature,omitempty"`
	PublicKey      *string         `json:"public_key,omitempty"`
	SigAlg         *string         `json:"sig_alg,omitempty"`
	SigKeyID       *string         `json:"sig_key_id,omitempty"`
	Metadata       json.RawMessage `json:"metadata,omitempty"`
}

// Key names one version: the primary key of the ledger.
type Key struct {
	ID  ID
	Seq int
}

// Key returns the primary key of s.
func (s *Span) Key() Key { return Key{s.ID, s.Seq} }

// StatusText returns the status, or "" where it is NULL.
func (s *Span) StatusText() string {
	if s.Status == nil {
		return ""
	}
	return *s.Status
}
