// Package supabase carries the migrations of the ledger inside the binary.
//
// The files are generated from sql/src by scripts/sqlbuild; `supabase db push` reads the same ones.
package supabase

import "embed"

// Migrations holds migrations/<version>_<name>.sql. A file is one transaction; the version is the
// key in supabase_migrations.schema_migrations.
//
//go:embed migrations/*.sql
var Migrations embed.FS
