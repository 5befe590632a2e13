package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/sidecar/stage0"
)

// Right is one line of a manifest's grants.
type Right struct{ Holder, Grant string }

// ManifestChange is what ChangeManifest does to the newest manifest.
type ManifestChange struct {
	Document  json.RawMessage // in its place; nil leaves it
	Give      []Right
	Take      []Right
	Signer    *sign.Signer // nil only hashes
	TrustRoot string       // "" where none is pinned
}

// ChangeManifest appends the next version of the manifest. A document with a fault is refused here, before it
// is an incident in the ledger; and so is one whose signature would not count. Without a document the change
// goes out from the newest version, if that counts: what somebody else has slipped in is not taken along.
func ChangeManifest(ctx context.Context, owner *ledger.Owner, change ManifestChange) (
	*ledger.Publication, error) {
	head, err := readHead(ctx, owner, change.TrustRoot, change.Signer)
	switch {
	case err != nil:
		return nil, err
	case head.newest == nil:
		return nil, errors.New("the ledger has no manifest: run `logline bootstrap`")
	case head.fault != nil && change.Document == nil:
		return nil, fmt.Errorf("change the manifest: %w; write the whole document that shall rule into a file "+
			"(`logline manifest` prints one), read it, and give it by --file", head.fault)
	}
	document := change.Document
	if document == nil {
		document = head.base.Metadata
	}
	if document, err = changeGrants(document, change.Give, change.Take); err != nil {
		return nil, err
	}
	wanted, err := span.ParseManifest(document)
	if err != nil {
		return nil, fmt.Errorf("check the manifest: %w", err)
	}
	if err := maySignManifest(head, wanted, change); err != nil {
		return nil, err
	}
	if err := knowsKernels(ctx, owner, head, wanted); err != nil {
		return nil, err
	}
	next := systemSpan(span.ManifestID, "manifest", manifestName)
	next.Who, next.Did = "system:manifest", new("changed")
	if head.base != nil {
		next.Name, next.Description = head.base.Name, head.base.Description
	}
	next.Metadata = document
	published, err := owner.PublishSealed(ctx, []*span.Span{next}, ledger.Rules{
		Seal: change.Signer.Seal, Over: func(span.ID) bool { return true },
		Stands: func(row *span.Span) bool {
			return head.fault == nil && standsSigned(head.trust, row, change.Signer, change.TrustRoot)
		}})
	if err != nil {
		return nil, err
	}
	return &published[0], nil
}

// ManifestForce says what stands after a change.
type ManifestForce struct {
	Now int // the version in force; -1: there is none
	// From is when the newest version takes force; zero: it is in force, or will not be (Never).
	From  time.Time
	Never bool
}

// ReadForce judges the manifest as a sidecar does that pins root ("": the signer's key stands for it).
func ReadForce(ctx context.Context, owner *ledger.Owner, root string, signer *sign.Signer) (
	*ManifestForce, error) {
	head, err := readHead(ctx, owner, root, signer)
	if err != nil {
		return nil, err
	}
	now, err := owner.Now(ctx)
	if err != nil {
		return nil, err
	}
	force := &ManifestForce{Now: -1}
	if row := stage0.ManifestInForce(head.trust, head.versions, now); row != nil {
		force.Now = row.Seq
	}
	if head.newest == nil || force.Now == head.newest.Seq {
		return force, nil
	}
	from, ok := stage0.ManifestFrom(head.trust, head.versions, head.newest.Seq, now)
	force.From, force.Never = from, !ok
	return force, nil
}

// maySignManifest refuses what Stage-0 would refuse for its signature.
func maySignManifest(head *manifestHead, wanted *span.Manifest, change ManifestChange) error {
	if !change.Signer.Signs() {
		if wanted.Features.SignaturesRequired.IsAny() || head.requires("") {
			return errors.New("the manifest requires signatures: give --key FILE with the root key, or one with " +
				"the purpose manifest")
		}
		return nil
	}
	if change.TrustRoot == "" {
		return nil
	}
	if err := head.trust.Vouch(change.Signer.Public(), sign.PurposeManifest); err != nil {
		return fmt.Errorf("sign the manifest: %w; see `logline keys list`", err)
	}
	return nil
}

// knowsKernels refuses an id or a pin that the change brings and the ledger has not: such a kernel could not
// boot. What stands already may stay: an upgrade gives its rights before its kernels are there.
func knowsKernels(ctx context.Context, owner *ledger.Owner, head *manifestHead, wanted *span.Manifest) error {
	before := &span.Manifest{}
	if head.base != nil {
		if parsed, err := span.ParseManifest(head.base.Metadata); err == nil {
			before = parsed
		}
	}
	for name, id := range wanted.Kernels {
		seq, isPinned := wanted.Pins[name]
		isPinned = isPinned && (seq != before.Pins[name] || before.Kernels[name] != id)
		if id == before.Kernels[name] && !isPinned {
			continue
		}
		versions, err := owner.Versions(ctx, id)
		switch {
		case err != nil:
			return fmt.Errorf("look for kernel %s: %w", name, err)
		case len(versions) == 0:
			return fmt.Errorf("check the manifest: kernels.%s: the ledger has no %s: append it first", name, id)
		case isPinned && !slices.ContainsFunc(versions, func(v *span.Span) bool { return v.Seq == seq }):
			return fmt.Errorf("check the manifest: pins.%s: the ledger has no version %d of it: the newest is %d",
				name, seq, versions[0].Seq)
		}
	}
	return nil
}

// changeGrants gives and takes rights, and leaves everything else as it is written.
func changeGrants(document json.RawMessage, give, take []Right) (json.RawMessage, error) {
	if len(give)+len(take) == 0 {
		return document, nil
	}
	var members map[string]json.RawMessage
	grants := map[string][]string{}
	if err := json.Unmarshal(document, &members); err != nil {
		return nil, fmt.Errorf("decode the manifest: %w", err)
	}
	if raw, found := members["grants"]; found {
		if err := json.Unmarshal(raw, &grants); err != nil {
			return nil, fmt.Errorf("decode the manifest's grants: %w", err)
		}
	}
	for _, right := range give {
		if !slices.Contains(grants[right.Holder], right.Grant) {
			grants[right.Holder] = append(grants[right.Holder], right.Grant)
		}
	}
	for _, right := range take {
		place := slices.Index(grants[right.Holder], right.Grant)
		if place < 0 {
			return nil, fmt.Errorf("take %s from %s: it has not got it", right.Grant, right.Holder)
		}
		grants[right.Holder] = slices.Delete(grants[right.Holder], place, place+1)
		if len(grants[right.Holder]) == 0 {
			delete(grants, right.Holder)
		}
	}
	var err error
	if members["grants"], err = encode(grants); err != nil {
		return nil, err
	}
	return encode(members)
}

// encode is json.Marshal that leaves < and > as they are, as in "<engine-written types>".
func encode(value any) (json.RawMessage, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return bytes.TrimSpace(out.Bytes()), nil
}
