package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/loglineos/loglineos/kernels"
	"github.com/loglineos/loglineos/sidecar/ledger"
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

// BootstrapOptions says what Bootstrap publishes beyond the kernels.
type BootstrapOptions struct {
	// DailyQuota, where it is not 0, is written into a manifest that does not exist yet.
	DailyQuota int
}

// Bootstrap publishes the kernels, each as its next version where its code has changed, and the
// default manifest where there is none. A manifest that is there belongs to its governor and stays.
func Bootstrap(ctx context.Context, owner *ledger.Owner, options BootstrapOptions) (
	[]ledger.Publication, error) {
	all, err := kernels.All()
	if err != nil {
		return nil, err
	}
	var want []*span.Span
	for _, kernel := range all {
		want = append(want, kernelSpan(kernel))
	}
	found, err := owner.Latest(ctx, []span.ID{span.ManifestID})
	if err != nil {
		return nil, fmt.Errorf("look for the manifest (is the database migrated? run `logline migrate`): %w", err)
	}
	if found[span.ManifestID] == nil {
		manifest, err := manifestSpan(options)
		if err != nil {
			return nil, err
		}
		want = append(want, manifest)
	}
	return owner.Publish(ctx, want)
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
	s := systemSpan(span.ManifestID, "manifest", "kernel_manifest")
	s.Metadata = raw
	return s, nil
}
