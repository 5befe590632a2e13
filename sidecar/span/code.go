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
	CodeReservedID     Code = "LL007" // system prefix, version 8, nil or max UUID, another key's version 5
	CodeReservedWho    Code = "LL008" // who of the system's roles, of another user, or like one
	CodeReservedEngine Code = "LL009" // metadata.engine, policy_id and attempt are the engine's
	CodeVisibility     Code = "LL010" // visibility public without the governing right or a manifest's grant
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
	RunSyntax          RunCode = "syntax"           // the source can not be translated or parsed
	RunException       RunCode = "exception"        // the code threw
	RunTimeout         RunCode = "timeout"          // JavaScript or host calls took longer than they may
	RunMemory          RunCode = "memory"           // the child needed more memory than it may have
	RunStack           RunCode = "stack"            // calls or data nest too deeply
	RunCrash           RunCode = "crash"            // the child or the sidecar died during the run
	RunCancelled       RunCode = "cancelled"        // its owner cancelled it while it ran
	RunPending         RunCode = "pending"          // a promise that the result waits for never settles
	RunDenied          RunCode = "denied"           // a host's call that is not granted, or a refused result
	RunNotSerializable RunCode = "not_serializable" // the output is no JSON
	RunLimitOutput     RunCode = "limit.output"     // output above limits.output_bytes, or arguments of calls
	RunLimitLogs       RunCode = "limit.logs"       // more log than limits.log_bytes
	RunLimitSpans      RunCode = "limit.spans"      // more spans than limits.spans or than a cause may have
	RunLimitSQL        RunCode = "limit.sql"        // more queries than limits.sql_calls
	RunLimitRows       RunCode = "limit.rows"       // more rows of a read than limits.sql_rows, or 8 MiB
	RunLimitNet        RunCode = "limit.net"        // too many calls of ctx.fetch, or too much in or out
	RunLimitSource     RunCode = "limit.source"     // more source than limits.source_bytes

	RunNotAllowed   RunCode = "not_allowed"   // the manifest does not allow it, or it can not be run
	RunNotFound     RunCode = "not_found"     // no such code that the caller may read
	RunHashMismatch RunCode = "hash_mismatch" // its content is not what was hashed, or a needed hash is missing
	RunBadSignature RunCode = "bad_signature" // its signature does not verify
	RunUnsigned     RunCode = "unsigned"      // the manifest requires a signature and there is none
	RunRevoked      RunCode = "revoked"       // its status is revoked, deprecated or archived
	RunNotEffective RunCode = "not_effective" // its effective_at is to come, or it is a draft kernel
)

// RunError is the error of a run as an execution carries it: {code, message, line?, column?, stack?}.
// Line and Column count from 1 in the author's own source; 0 is unknown. Stack holds the author's frames,
// the innermost first, "at name (line:column)" in a line each, where there are several.
type RunError struct {
	Code    RunCode `json:"code"`
	Message string  `json:"message"`
	Line    int     `json:"line,omitempty"`
	Column  int     `json:"column,omitempty"`
	Stack   string  `json:"stack,omitempty"`
}

// Error returns "code: message".
func (e *RunError) Error() string { return string(e.Code) + ": " + e.Message }
