package stage0

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/loglineos/loglineos/sidecar/span"
)

// Kernels of the older style know one span at a time: they find their work by ctx.sql and SPAN_ID, make each
// new span's id by themselves, and name it in later ones. They run unchanged, and by no other rights:
//
//	a stated id      another name of the span within this run; the host derives the id as ever
//	SPAN_ID, ctx.sql once for each cause, as soon as it can be read
//	seq, who, hashes the host's, whatever is stated
//	owner, tenant    the cause's: stated, they must be these (complete)
//
// docs/kernels.md tells it to authors.

// systemIDBytes is how many bytes the ids of the system have in common.
const systemIDBytes = 10

// isOlder reports whether a kernel was written for one span at a time: it never looks at ctx.batch.
func (k *kernel) isOlder() bool { return !strings.Contains(*k.span.Code, "batch") }

// bootEach runs a kernel of the older style once for each cause.
func (s *Stage0) bootEach(ctx context.Context, manifest *governed, job Job) error {
	for _, cause := range job.Batch {
		one := job
		one.Batch = []*span.Span{cause}
		if _, err := s.boot(ctx, manifest, one, nil); err != nil {
			return err
		}
	}
	return nil
}

// awaitReadable waits until other sessions see the causes: the WAL names a row before they do, and a
// kernel that looks for it by ctx.sql would not find it.
func (s *Stage0) awaitReadable(ctx context.Context, causes []*span.Span) error {
	keys := make([]span.Key, 0, len(causes))
	for _, cause := range causes {
		if !isTick(cause) && !isFunctionTick(cause) { // no row
			keys = append(keys, cause.Key())
		}
	}
	if _, err := s.versions.load(ctx, keys, true); err != nil {
		return fmt.Errorf("wait for the spans of a kernel: %w", err)
	}
	return nil
}

// takeAlias takes the stated id out of a kernel's partial span, and replaces the aliases of earlier spans
// that it names. It returns the zero id where none was stated. The caller holds inv.mu.
func (inv *invocation) takeAlias(s *span.Span, raw json.RawMessage) (span.ID, error) {
	if s.ParentID != nil {
		s.ParentID = new(inv.unalias(*s.ParentID))
	}
	for i, id := range s.RelatedTo {
		s.RelatedTo[i] = inv.unalias(id)
	}
	alias := s.ID
	s.ID = span.ID{}
	if alias.IsZero() {
		return alias, nil
	}
	var stated struct {
		Seq int `json:"seq"`
	}
	if err := json.Unmarshal(raw, &stated); err != nil || stated.Seq != 0 {
		return alias, denied("insertSpan: %s is stated with seq %d: a later version is made by ctx.version",
			alias, stated.Seq)
	}
	if _, known := inv.aliases[alias]; known {
		return alias, denied("insertSpan: the id %s stands for an earlier span of this run: make another", alias)
	}
	if alias.Version() == 8 || bytes.Equal(alias[:systemIDBytes], span.ManifestID[:systemIDBytes]) {
		return alias, denied("insertSpan: the host derives the id: leave it out, or make one by crypto.randomUUID")
	}
	for _, key := range inv.order {
		if key.ID == alias {
			return alias, denied("insertSpan: %s is in the batch: its next version is made by ctx.version", alias)
		}
	}
	return alias, nil
}

// keepAlias notes which span an alias stands for. The caller holds inv.mu.
func (inv *invocation) keepAlias(alias, id span.ID) {
	if alias.IsZero() {
		return
	}
	if inv.aliases == nil {
		inv.aliases = map[span.ID]span.ID{}
	}
	inv.aliases[alias] = id
}

func (inv *invocation) unalias(id span.ID) span.ID {
	if known, found := inv.aliases[id]; found {
		return known
	}
	return id
}

// isAnothers reports whether a request is for another function version than the cause. An observer of the
// older style lists all that it can read, and inserts what is there already without effect; the version
// that it found makes its own request.
func (inv *invocation) isAnothers(s, cause *span.Span) bool {
	function := cause.ID
	switch {
	case isFunctionTick(cause):
		function = *cause.ParentID
	case cause.EntityType != "function":
		return false
	}
	return s.EntityType == "request" && inv.kernel.isOlder() && s.ParentID != nil && *s.ParentID != function
}
