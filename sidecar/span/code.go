package span

// Code is the stable name of a refusal by the database: an SQLSTATE of class LL. The same list
// stands in sql/src (raised there with a message and a hint); a test holds the two together.
type Code string

// The refusals of the ledger.
const (
	CodeAppendOnly     Code = "LL001" // update, delete, truncate, or a rewrite of a row
	CodeNoPrevious     Code = "LL002" // seq-1 does not exist, or is not yours: the same to a stranger
	CodeTransition     Code = "LL003" // this status may not follow that one, or not by this role
	CodeWriter         Code = "LL004" // the entity_type is written by the engine or a governor only
	CodeNoIdentity     Code = "LL005" // no user or no tenant in the verified claims
	CodeNotOwner       Code = "LL006" // owner_id or tenant_id differ from the claims
	CodeReservedID     Code = "LL007" // system prefix, version 8, nil or max UUID
	CodeReservedWho    Code = "LL008" // who with kernel:, policy:, sidecar:, system:
	CodeReservedEngine Code = "LL009" // metadata.engine, policy_id and attempt are the engine's
	CodeVisibility     Code = "LL010" // visibility public without the governing right
	CodeEventTime      Code = "LL011" // at outside the tolerance
	CodeConflict       Code = "LL012" // the same id and seq with other content (in DETAIL of 23505)
	CodeIdentityChange Code = "LL013" // a version changes tenant, owner or entity_type
	CodePrevHash       Code = "LL014" // prev_hash is not the curr_hash of the version before
	CodeNotCallable    Code = "LL015" // a request's parent is no function that the caller may read
	CodeUnstated       Code = "LL016" // curr_hash is stated but a hashed column would be defaulted
	CodeBadSpan        Code = "LL017" // the span is malformed: unknown column, wrong JSON, wrong shape
	CodeImport         Code = "LL018" // the import door is in the wrong state
)

// RunCode says why a run of ledger code did not complete (docs/contract.md §5).
type RunCode string

// The outcomes of a run other than success, and of Stage-0 before it.
const (
	RunSyntax          RunCode = "syntax"
	RunException       RunCode = "exception"
	RunTimeout         RunCode = "timeout"
	RunMemory          RunCode = "memory"
	RunStack           RunCode = "stack"
	RunCrash           RunCode = "crash"
	RunPending         RunCode = "pending"
	RunDenied          RunCode = "denied"
	RunNotSerializable RunCode = "not_serializable"
	RunLimitOutput     RunCode = "limit.output"
	RunLimitLogs       RunCode = "limit.logs"
	RunLimitSpans      RunCode = "limit.spans"
	RunLimitSQL        RunCode = "limit.sql"
	RunLimitRows       RunCode = "limit.rows"
	RunLimitNet        RunCode = "limit.net"
	RunLimitSource     RunCode = "limit.source"

	RunNotAllowed   RunCode = "not_allowed"
	RunNotFound     RunCode = "not_found"
	RunHashMismatch RunCode = "hash_mismatch"
	RunBadSignature RunCode = "bad_signature"
	RunUnsigned     RunCode = "unsigned"
	RunRevoked      RunCode = "revoked"
	RunNotEffective RunCode = "not_effective"
)

// RunError is the error of a run as an execution carries it: {code, message, line?, column?}.
// Line and Column count from 1 in the author's own source; 0 is unknown.
type RunError struct {
	Code    RunCode `json:"code"`
	Message string  `json:"message"`
	Line    int     `json:"line,omitempty"`
	Column  int     `json:"column,omitempty"`
}

// Error returns "code: message".
func (e *RunError) Error() string { return string(e.Code) + ": " + e.Message }
