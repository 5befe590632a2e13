package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
	"github.com/loglineos/loglineos/sidecar/sign"
	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/supabase"
)

// Migrate applies the migrations that the database lacks and returns them.
func Migrate(ctx context.Context, owner *ledger.Owner) ([]ledger.Migration, error) {
	migrations, err := ledger.Migrations(supabase.Migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return owner.Migrate(ctx, migrations)
}

// MigrateAgain applies the newest migration once more, also where the history does not know the ledger.
func MigrateAgain(ctx context.Context, owner *ledger.Owner) (ledger.Migration, error) {
	migrations, err := ledger.Migrations(supabase.Migrations, "migrations")
	if err != nil {
		return ledger.Migration{}, err
	}
	return owner.MigrateAgain(ctx, migrations)
}

// manifestName is what the manifest of the system is called.
const manifestName = "kernel_manifest"

// BootstrapOptions says what Bootstrap publishes, and how.
type BootstrapOptions struct {
	// DailyQuota, where it is not 0, is written into a manifest that does not exist yet.
	DailyQuota int
	// Signer signs what is published; nil only hashes. TrustRoot is the pinned fingerprint, "" where none is.
	Signer    *sign.Signer
	TrustRoot string
	// Kernels and Policies say which of the two; neither is everything, with the manifest where there is none.
	Kernels, Policies bool
	// Over names the kernels and policies that are published over a version which somebody else wrote.
	Over []string
	// IsDraft changes nothing, and tells of the manifest, too, how it differs from the one that is shipped.
	IsDraft bool
	// Tell is called before each part of the work, with what it is; nil: nobody.
	Tell func(part string)
}

func (o BootstrapOptions) tell(part string) {
	if o.Tell != nil {
		o.Tell(part)
	}
}

func (o BootstrapOptions) isEverything() bool { return !o.Kernels && !o.Policies }

// Bootstrap publishes the kernels and the policies of the system, each as its next version where it has
// changed, and the default manifest where there is none. A manifest that is there belongs to its governor and
// stays; so does a policy that a governor has archived. With a Signer, what bootstrap has published and no
// trusted key has signed gets a signed next version; but a manifest that is not in force stays as it is.
func Bootstrap(ctx context.Context, owner *ledger.Owner, options BootstrapOptions) (
	[]ledger.Publication, error) {
	want, err := shipped(options)
	if err != nil {
		return nil, err
	}
	over, err := idsOf(want, options.Over)
	if err != nil {
		return nil, err
	}
	options.tell("reading the manifest and the keys")
	head, err := readHead(ctx, owner, options.TrustRoot, options.Signer)
	if err != nil {
		return nil, err
	}
	if err := mayBootstrap(head, options); err != nil {
		return nil, err
	}
	stands := func(row *span.Span) bool {
		return standsSigned(head.trust, row, options.Signer, options.TrustRoot)
	}
	manifest, err := manifestSpan(options)
	if err != nil {
		return nil, err
	}
	isFirst := head.newest == nil || head.base == head.newest && !stands(head.base)
	if options.isEverything() && isFirst {
		first := *manifest
		if head.base != nil { // the same document, signed
			first.Metadata, first.Name, first.Description = head.base.Metadata, head.base.Name, head.base.Description
		}
		want = append(want, &first)
	}
	options.tell(fmt.Sprintf("comparing and publishing %d spans", len(want)))
	published, err := owner.PublishSealed(ctx, want, ledger.Rules{Seal: sealing(head, options), Stands: stands,
		Foreign: func(versions []*span.Span) error { return foreign(head, versions, options) },
		Over:    func(id span.ID) bool { return slices.Contains(over, id) }, IsDraft: options.IsDraft})
	switch {
	case err != nil || !options.isEverything():
	case head.fault != nil:
		published = append(published, ledger.Publication{Span: head.newest, Kept: true, Why: head.fault,
			Before: head.newest, Wanted: manifest})
	case options.IsDraft && !isFirst:
		published = append(published, ledger.Publication{Span: head.base, Before: head.base, Wanted: manifest,
			Kept: !ledger.SameContent(head.base, manifest), Why: errGoverned})
	case !isFirst:
		published = append(published, ledger.Publication{Span: head.base, Before: head.base})
	}
	return published, err
}

// errGoverned is why bootstrap writes no manifest over one that is there.
var errGoverned = errors.New("the manifest is its governor's: to change it, run `logline manifest`")

// shipped returns the kernels and policies of this program, as options choose.
func shipped(options BootstrapOptions) (want []*span.Span, err error) {
	if options.Kernels || options.isEverything() {
		all, err := kernels.All()
		if err != nil {
			return nil, err
		}
		for _, kernel := range all {
			want = append(want, kernelSpan(kernel))
		}
	}
	if options.Policies || options.isEverything() {
		policies, err := kernels.Policies()
		if err != nil {
			return nil, err
		}
		for _, policy := range policies {
			s := kernelSpan(policy)
			s.EntityType, s.This, s.Metadata = "policy", new("policy"), policy.Metadata
			want = append(want, s)
		}
	}
	return want, nil
}

// idsOf finds spans by their names.
func idsOf(all []*span.Span, names []string) ([]span.ID, error) {
	var ids []span.ID
	for _, name := range names {
		place := slices.IndexFunc(all, func(s *span.Span) bool { return *s.Name == name })
		if place < 0 {
			var known []string
			for _, s := range all {
				known = append(known, *s.Name)
			}
			return nil, &NameError{name, known}
		}
		ids = append(ids, all[place].ID)
	}
	return ids, nil
}

// NameError says that nothing has this name.
type NameError struct {
	Name  string
	Known []string
}

// Error lists the names that there are.
func (e *NameError) Error() string {
	return fmt.Sprintf("there is no %q here; there are %s", e.Name, strings.Join(e.Known, ", "))
}

// mayBootstrap refuses a key whose signature would not count. That there is none is no fault before something
// is to be published: a start without the key, as Compose's, must not fail for what stands already.
func mayBootstrap(head *manifestHead, options BootstrapOptions) error {
	if !options.Signer.Signs() {
		return nil
	}
	var purposes []sign.Purpose
	if options.Kernels || options.isEverything() {
		purposes = append(purposes, sign.PurposeFunction)
	}
	if options.Policies || options.isEverything() {
		purposes = append(purposes, sign.PurposePolicy)
	}
	if options.isEverything() {
		purposes = append(purposes, sign.PurposeManifest)
	}
	return maySign(head, options, purposes...)
}

// lacksKey reports whether Stage-0 would refuse what options publish of this type, for want of a signature. A
// draft needs none.
func lacksKey(head *manifestHead, options BootstrapOptions, entityType string) bool {
	return !options.IsDraft && !options.Signer.Signs() &&
		(head.requires("function") || head.requires(entityType))
}

// errNoKey says that nothing may be published unsigned.
var errNoKey = errors.New("the manifest requires signatures: give --key FILE with the root key, or one " +
	"with the purposes function, policy and manifest")

// sealing seals what is to be published; without a key that it needs, it refuses.
func sealing(head *manifestHead, options BootstrapOptions) ledger.Sealer {
	return func(row *span.Span, previous *string) error {
		if lacksKey(head, options, row.EntityType) {
			return fmt.Errorf("%s has changed: %w", *row.Name, errNoKey)
		}
		return options.Signer.Seal(row, previous)
	}
}

// maySign refuses a signature that is missing or would not count.
func maySign(head *manifestHead, options BootstrapOptions, purposes ...sign.Purpose) error {
	if !options.Signer.Signs() && head.requires("function") {
		return errNoKey
	}
	if !options.Signer.Signs() || options.TrustRoot == "" {
		return nil
	}
	for _, purpose := range purposes {
		if err := head.trust.Vouch(options.Signer.Public(), purpose); err != nil {
			return fmt.Errorf("sign what bootstrap publishes: %w; see `logline keys list`", err)
		}
	}
	return nil
}

// standsSigned reports whether a published row needs no signature of signer's: signer signs nothing, or the
// row has one that counts under the pinned root; where none is pinned, signer's own.
func standsSigned(trust *sign.Trust, row *span.Span, signer *sign.Signer, root string) bool {
	switch {
	case !signer.Signs():
		return true
	case root == "":
		return row.PublicKey != nil && *row.PublicKey == signer.Public() && trust.CheckPresent(row) == nil
	}
	return trust.Check(row, sign.PurposeOf(row.EntityType)) == nil
}

// foreign says why the newest version is not bootstrap's, though it says so: what a governor states as who
// proves nothing. Once the root, or the key that bootstrap has now, has signed a version, an unsigned one is
// another's; and without that key bootstrap puts nothing over a signed one: it keeps it, or refuses where
// signatures are required.
func foreign(head *manifestHead, versions []*span.Span, options BootstrapOptions) error {
	signed := slices.IndexFunc(versions, func(row *span.Span) bool {
		if row.Signature == nil || row.PublicKey == nil || row.SigAlg == nil || *row.SigAlg != sign.Algorithm ||
			row.VerifyHash() != nil || head.trust.CheckPresent(row) != nil {
			return false
		}
		public, err := hex.DecodeString(*row.PublicKey)
		return err == nil && (*row.PublicKey == options.Signer.Public() ||
			sign.Fingerprint(public) == options.TrustRoot)
	})
	switch {
	case signed > 0:
		return fmt.Errorf("somebody else wrote it: version %d is signed by bootstrap's key, and this one is not",
			versions[signed].Seq)
	case lacksKey(head, options, versions[0].EntityType):
		return nil // refused when it is sealed
	case signed == 0 && !options.Signer.Signs() && !options.IsDraft: // a draft takes it that a key will be there
		return errors.New("it is signed: to publish another one, run `logline bootstrap --key FILE`")
	}
	return nil
}

func systemSpan(id span.ID, entityType, name string) *span.Span {
	return &span.Span{
		ID: id, EntityType: entityType, Who: "system:bootstrap", Did: new("defined"), This: &entityType,
		At: span.NewTime(time.Now()), OwnerID: "system", TenantID: "system", Visibility: "public",
		Status: new("active"), Name: &name,
	}
}

func kernelSpan(kernel kernels.Kernel) *span.Span {
	s := systemSpan(kernel.ID, "function", kernel.Name)
	s.Description, s.Code, s.Language = &kernel.Description, &kernel.Source, new("javascript")
	return s
}

func manifestSpan(options BootstrapOptions) (*span.Span, error) {
	raw, err := kernels.Manifest()
	if err != nil {
		return nil, err
	}
	if options.DailyQuota > 0 {
		var document map[string]any
		if err := json.Unmarshal(raw, &document); err != nil {
			return nil, fmt.Errorf("decode the manifest: %w", err)
		}
		document["throttle"] = map[string]int{
			"per_tenant_daily_exec_limit": options.DailyQuota, "per_user_daily_exec_limit": options.DailyQuota}
		if raw, err = json.Marshal(document); err != nil {
			return nil, fmt.Errorf("encode the manifest: %w", err)
		}
	}
	if _, err := span.ParseManifest(raw); err != nil {
		return nil, fmt.Errorf("check the manifest: %w", err)
	}
	s := systemSpan(span.ManifestID, "manifest", manifestName)
	s.Metadata = raw
	return s, nil
}

// LackingGrants returns the rights that the shipped kernels use and the manifest does not give, in
// the form that `logline manifest --give` takes. A governor may have meant it; after an upgrade he has not.
func LackingGrants(ctx context.Context, owner *ledger.Owner, root string) ([]string, error) {
	head, err := readHead(ctx, owner, root, nil)
	if err != nil {
		return nil, err
	}
	raw, err := kernels.Manifest()
	if err != nil {
		return nil, err
	}
	shipped, err := span.ParseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("check the shipped manifest: %w", err)
	}
	if head.base == nil {
		return nil, nil
	}
	manifest, err := span.ParseManifest(head.base.Metadata)
	if err != nil {
		return nil, fmt.Errorf("check manifest version %d: %w", head.base.Seq, err)
	}
	var lacking []string
	for name, id := range shipped.Kernels {
		if manifest.Kernels[name] != id {
			continue // not in use
		}
		for _, grant := range shipped.Grants[name] {
			for _, right := range single(grant) {
				if !slices.ContainsFunc(manifest.Grants[name], right.isIn) {
					lacking = append(lacking, name+"="+span.Grant(right).String())
				}
			}
		}
	}
	slices.Sort(lacking)
	return lacking, nil
}

// right is a grant with one object at most.
type right span.Grant

// single splits a grant into its rights.
func single(grant span.Grant) []right {
	if grant.Objects == nil {
		return []right{{Action: grant.Action}}
	}
	var rights []right
	for _, object := range grant.Objects {
		rights = append(rights, right{Action: grant.Action, Objects: []string{object}})
	}
	return rights
}

func (r right) isIn(given span.Grant) bool {
	return given.Action == r.Action && (r.Objects == nil || slices.Contains(given.Objects, r.Objects[0]))
}
