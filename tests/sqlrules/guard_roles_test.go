package sqlrules

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/tests/pgtest"
)

// Roles are those of the whole server: each of these tests has one of its own.

// ours are the roles that the ledger knows.
var ours = []string{"anon", "authenticated", "service_role", "authenticator", "loglineos_sidecar",
	"loglineos_kernel"}

func TestFindsMembersWhoShouldBeNone(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, nil).New(t)
	conn := connect(t, db.URL)
	// An owner whom others can be a member of; superusers are members of everything.
	run(t, conn, `create role keeper createrole; create role authenticator login noinherit;
		grant anon, authenticated, service_role to authenticator;
		alter table ledger.universal_registry owner to keeper`)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mend(t, tx)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantWallsStand(t, conn)

	expected := map[string]bool{
		"loglineos_kernel to loglineos_sidecar": true, "authenticated to loglineos_sidecar": true,
		"anon to authenticator": true, "authenticated to authenticator": true,
		"service_role to authenticator": true,
	}
	mighty := []string{"keeper", "postgres", "authenticated", "service_role", "authenticator",
		"loglineos_sidecar", "loglineos_kernel", "unbound", "pg_write_all_data",
		"pg_execute_server_program", "pg_read_server_files"}
	attacks := []attack{}
	const others = "create role unbound bypassrls; create role x login; create role middle; "
	for _, held := range mighty {
		a := attack{name: held, do: others}
		for _, member := range ours {
			grant := held + " to " + member
			if held != member && !expected[grant] && !expected[member+" to "+held] { // that would be a circle
				a.do += "grant " + grant + "; "
				a.walls = append(a.walls, "role "+member)
			}
		}
		attacks = append(attacks, a)
	}
	for _, held := range []string{"keeper", "loglineos_sidecar", "loglineos_kernel"} {
		// A plain login that is a member of the sidecar's role, and of nothing else, is a sidecar's own.
		if held != "loglineos_sidecar" {
			attacks = append(attacks,
				attack{name: held + " for a login", do: others + "grant " + held + " to x", walls: []string{"role x"}},
				attack{name: held + " for an odd login", do: others + `create role "a to b" login; grant ` + held +
					` to "a to b"`, walls: []string{`role "a to b"`}},
			)
		}
		attacks = append(attacks,
			attack{name: held + " to pass on", do: others + "grant " + held + " to x, anon with admin option",
				walls: []string{"role x", "role anon"}},
			attack{name: held + " at second hand", do: others + "grant " + held + " to middle; grant middle to x",
				walls: []string{"role middle", "role x"}},
			attack{name: held + " for a client, at second hand", do: others + "grant " + held + " to middle; " +
				"grant middle to anon", walls: []string{"role middle", "role anon"}},
		)
	}
	for _, client := range []string{"anon", "authenticated", "service_role", "authenticator"} {
		attacks = append(attacks,
			attack{name: "a sidecar's login that is " + client, do: others + "grant loglineos_sidecar, " + client +
				" to x", walls: []string{"role x"}},
			attack{name: "a sidecar's login that is " + client + " at second hand", do: others +
				"grant loglineos_sidecar, middle to x; grant " + client + " to middle", walls: []string{"role x"}},
		)
	}
	for problem, do := range map[string]string{
		"is a kernel, too":        "grant loglineos_kernel to x",
		"is the owner, too":       "grant keeper to x",
		"makes roles":             "alter role x createrole",
		"is bound by nothing":     "alter role x bypassrls",
		"is a group, not a login": "alter role x nologin",
	} {
		attacks = append(attacks, attack{name: "a sidecar's login that " + problem,
			do: others + "grant loglineos_sidecar to x; " + do, walls: []string{"role x"}})
	}
	attacks = append(attacks,
		attack{name: "through the sidecar's login", do: others + "create role app login replication; " +
			"grant loglineos_sidecar to app; grant app to x", walls: []string{"role x"},
			byHand: "revoke app from x"},
		attack{name: "a client past the policies", do: "create role x login bypassrls; grant authenticated to x",
			walls: []string{"role x"}},
		attack{name: "a kernel past the policies", do: others + "alter role x bypassrls; " +
			"grant loglineos_kernel to middle; grant middle to x", walls: []string{"role middle", "role x"}},
	)
	attackAll(t, conn, attacks)
}

// What is said beforehand of who somebody is, for a role, for this database, for both.
func TestFindsMightyAttributesAndSettings(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, nil).New(t)
	conn := connect(t, db.URL)
	run(t, conn, "create role authenticator login noinherit")
	var attacks []attack
	for attribute, whoMay := range map[string][]string{
		"superuser": nil, "createrole": nil, "bypassrls": {"service_role"}, "replication": {"loglineos_sidecar"},
		"login": {"loglineos_sidecar", "authenticator"},
	} {
		a := attack{name: attribute}
		for _, role := range ours {
			if !slices.Contains(whoMay, role) {
				a.do += "alter role " + role + " " + attribute + "; "
				a.walls = append(a.walls, "role "+role)
			}
		}
		attacks = append(attacks, a)
	}
	for name, setting := range map[string]string{
		"request.jwt.claims":  `'{"sub": "alice", "app_metadata": {"tenant_id": "t1"}}'`,
		`"Request"."Headers"`: `'{}'`, "app.user_id": "'alice'", "app.tenant_id": "'t1'", "role": "'postgres'",
		"session_replication_role": "'replica'", "row_security": "off", "loglineos.restoring": "on",
	} {
		places := []string{fmt.Sprintf("database %s", db.Name), "role all"}
		for _, role := range ours {
			places = append(places, "role "+role, fmt.Sprintf("role %s in database %s", role, db.Name))
		}
		a := attack{name: name}
		for _, place := range places {
			a.do += fmt.Sprintf("alter %s set %s = %s; ", place, name, setting)
		}
		a.walls = []string{"setting " + strings.ReplaceAll(name, `"`, "")}
		attacks = append(attacks, a)
	}
	attacks = append(attacks,
		attack{name: "what is still to come", do: "alter default privileges grant select on tables to authenticated",
			walls: []string{"default privileges"}},
		attack{name: "what all may call", do: "alter default privileges grant execute on functions to anon",
			walls: []string{"default privileges"}},
		attack{name: "schemas to come", do: "alter default privileges grant usage on schemas to public",
			walls: []string{"default privileges"}})
	attackAll(t, conn, attacks)
}

// The roles as Supabase has them, and those whom an operator makes.
func TestLetsHonestRolesBe(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, nil).New(t)
	conn := connect(t, db.URL)
	for name, do := range map[string]string{
		"Supabase": `create role supabase_admin superuser; create role authenticator login noinherit;
			alter role service_role bypassrls; grant anon, authenticated, service_role to authenticator;
			create role supabase_storage_admin login noinherit createrole;
			grant authenticator to supabase_storage_admin;
			create role supabase_read_only_user login bypassrls; grant pg_read_all_data to supabase_read_only_user;
			alter role anon set statement_timeout = '3s'; alter role authenticator set lock_timeout = '8s';
			create role keeper createdb createrole login replication bypassrls;
			grant anon, authenticated, service_role to keeper with admin option;
			create role cli_login_keeper login noinherit; grant keeper to cli_login_keeper;
			alter table ledger.universal_registry owner to keeper`,
		"made by an administrator": "create role chief createrole; set local role chief; create role keeper; " +
			"set local role none; alter table ledger.universal_registry owner to keeper",
		"backup":                   "create role backup login bypassrls; grant pg_read_all_data to backup",
		"sidecar's own login":      "create role app login replication; grant loglineos_sidecar to app",
		"a login that polls":       "create role app login; grant loglineos_sidecar to app",
		"one without inherit":      `create role "a to b" login noinherit; grant loglineos_sidecar to "a to b"`,
		"one that sees statistics": "create role app login; grant loglineos_sidecar, pg_read_all_stats to app",
		"sidecar's role":           "alter role loglineos_sidecar login replication password 'x'",
		"a login of a client":      "create role app login; grant authenticated to app",
		"a login of a backend":     "create role app login; grant service_role to app",
		"settings": "alter role loglineos_sidecar set work_mem = '8MB'; alter role anon set search_path = ledger; " +
			"create role app login; alter role app set row_security = off",
		"defaults in public": "alter default privileges in schema public grant all on tables to anon, public",
	} {
		t.Run(name, func(t *testing.T) {
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			execute(t, conn, []byte(do))
			mendOwner(t, tx)
			wantWallsStand(t, tx)
		})
	}
}

// What the walls are does not depend on who looks: the owner and a login of the sidecar's hear the same, of
// that login and of others.
func TestSaysTheSameOfRolesToEveryReader(t *testing.T) {
	t.Parallel()
	db := pgtest.NewCluster(t, nil).New(t)
	conn := connect(t, db.URL)
	run(t, conn, `create role app login password 'x'; grant loglineos_sidecar to app;
		create role worse login password 'x' createrole; grant loglineos_sidecar to worse`)
	want := guardCheck(t, conn)
	wantNamed(t, want, "role worse")
	for _, f := range want {
		if f.Wall == "role app" {
			t.Errorf("%s %s", f.Wall, f.Problem)
		}
	}
	for _, user := range []string{"app", "worse"} {
		config, err := pgx.ParseConfig(db.URL)
		if err != nil {
			t.Fatal(err)
		}
		config.User, config.Password = user, "x"
		reader, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = reader.Close(context.Background()) })
		if got := guardCheck(t, reader); !slices.Equal(got, want) {
			t.Errorf("%s is told %v, the owner %v", user, got, want)
		}
	}
}

// mendOwner does what a new owner must do, if there is one.
func mendOwner(t *testing.T, tx pgx.Tx) {
	t.Helper()
	var is bool
	const changed = `select tableowner <> current_user from pg_tables where schemaname = 'ledger'
		and tablename = 'universal_registry'`
	if err := tx.QueryRow(t.Context(), changed).Scan(&is); err != nil {
		t.Fatal(err)
	}
	if !is {
		return
	}
	for _, f := range guardCheck(t, tx) {
		if len(f.Wall) > 5 && f.Wall[:5] == "role " {
			t.Errorf("%s %s", f.Wall, f.Problem)
		}
	}
	mend(t, tx)
}
