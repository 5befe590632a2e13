package stage0

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/fetch"
	"github.com/loglineos/loglineos/sidecar/sandbox"
	"github.com/loglineos/loglineos/sidecar/span"
)

// nestedMax is how many spans, or calls, of one nested run have numbers of their own.
const nestedMax = 10_000

// caller is who makes a run's calls of ctx.fetch.
type caller struct {
	name   string     // as the manifest's grants name it
	cause  *span.Span // nil where there are several
	tenant string
	run    *fetch.Run
	nested int // which of its caller's runs of this kernel it is

	isKernel bool
}

// key names the n-th call of a run to the server that is asked: the same in each attempt of the request,
// though each sees another version of it. Whatever else is a cause has a key for each version.
func (c caller) key(n int) string {
	key := c.cause.ID.String()
	if c.cause.EntityType != "request" {
		key += "." + strconv.Itoa(c.cause.Seq)
	}
	if c.isKernel {
		key += ":" + strings.TrimPrefix(c.name, "kernel:")
	}
	return key + ":" + strconv.Itoa(c.nested*nestedMax+n)
}

// addHeader states a header that the code does not.
func addHeader(headers map[string]string, name, value string) {
	for stated := range headers {
		if strings.EqualFold(stated, name) {
			return
		}
	}
	headers[name] = value
}

// fetchInit is the second argument of ctx.fetch.
type fetchInit struct {
	Method    string            `json:"method"`
	Headers   map[string]string `json:"headers"`
	Body      json.RawMessage   `json:"body"`
	TimeoutMs int               `json:"timeout_ms"`
	Retry     int               `json:"retry"`
}

// fetch answers ctx.fetch(url, init); n numbers the calls of the run.
func (s *Stage0) fetch(ctx context.Context, manifest *span.Manifest, by caller, args []json.RawMessage) (
	*fetch.Response, error) {
	request, err := readFetch(args[0], args[1], manifest.Limits.IOTimeoutMs)
	if err != nil {
		return nil, err
	}
	var n int
	if err := json.Unmarshal(args[2], &n); err != nil || n < 0 || n >= nestedMax {
		return nil, denied("fetch: the call has no number")
	}
	if by.cause != nil {
		request.IdempotencyKey = by.key(n)
		addHeader(request.Headers, "Idempotency-Key", request.IdempotencyKey)
		if by.cause.Attempt != nil {
			addHeader(request.Headers, "X-LogLine-Attempt", strconv.Itoa(*by.cause.Attempt))
		}
	}
	holder := fetch.Holder{Name: by.name, Tenant: by.tenant,
		Host:   func(host string) bool { return manifest.Allows(by.name, span.ActionFetch, host) },
		Secret: func(name string) bool { return manifest.Allows(by.name, span.ActionSecret, name) },
	}
	answer, err := s.config.Fetch.Do(ctx, by.run, holder, request)
	var fault *fetch.Error
	if errors.As(err, &fault) {
		return nil, &sandbox.HostError{Code: fault.Code, Message: fault.Message}
	}
	return answer, err
}

// readFetch reads the arguments of ctx.fetch. A body that is no text is sent as JSON.
func readFetch(rawURL, rawInit json.RawMessage, ioTimeoutMs int) (fetch.Request, error) {
	var request fetch.Request
	if json.Unmarshal(rawURL, &request.URL) != nil || request.URL == "" {
		return request, denied("fetch: the first argument must be a URL as text")
	}
	var init fetchInit
	if present(rawInit) != nil {
		decoder := json.NewDecoder(bytes.NewReader(rawInit))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&init); err != nil {
			return request, denied("fetch: the second argument must be {method, headers, body, timeout_ms, retry}, " +
				"headers with texts as values")
		}
	}
	if init.TimeoutMs < 0 || init.TimeoutMs > ioTimeoutMs || init.Retry < 0 || init.Retry > 3 {
		return request, denied("fetch: timeout_ms may be %d at most (limits.io_timeout_ms), retry 3", ioTimeoutMs)
	}
	if init.TimeoutMs == 0 {
		init.TimeoutMs = ioTimeoutMs
	}
	request.Method, request.Retries = init.Method, init.Retry
	request.Timeout = time.Duration(init.TimeoutMs) * time.Millisecond
	request.Headers = map[string]string{}
	maps.Copy(request.Headers, init.Headers)
	body := present(init.Body)
	if body == nil {
		return request, nil
	}
	contentType := "text/plain;charset=UTF-8"
	var text string
	if json.Unmarshal(body, &text) != nil {
		text, contentType = string(body), "application/json"
	}
	request.Body = []byte(text)
	addHeader(request.Headers, "Content-Type", contentType)
	return request, nil
}

// fetch answers ctx.fetch of a kernel. What runs for one cause ends with it.
func (inv *invocation) fetch(ctx context.Context, args []json.RawMessage) (*fetch.Response, error) {
	by := caller{name: inv.kernel.name, isKernel: true, tenant: inv.scope().TenantID, run: inv.calls}
	callCtx := ctx
	if len(inv.order) == 1 {
		by.cause, by.nested = inv.causes[inv.order[0]], inv.nested[inv.order[0]]
		var stop func()
		callCtx, stop = inv.cancellable(ctx, by.cause.Key())
		defer stop()
	}
	answer, err := inv.stage0.fetch(callCtx, inv.manifest.Manifest, by, args)
	if err != nil && ctx.Err() == nil && callCtx.Err() != nil {
		return nil, &sandbox.HostError{Code: string(span.RunException), Message: "fetch: the run was cancelled"}
	}
	return answer, err
}

// fetch answers ctx.fetch of a function. The grant is the function's: whoever may run it has the use of it.
func (c *codeRun) fetch(ctx context.Context, args []json.RawMessage) (*fetch.Response, error) {
	return c.inv.stage0.fetch(ctx, c.inv.manifest.Manifest, caller{name: c.row.ID.String(),
		cause: c.cause, tenant: c.cause.TenantID, run: c.calls}, args)
}
