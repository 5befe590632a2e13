package ledger

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A statement stands in the server's log where log_statement says so, and in pg_stat_statements, with the
// password that it sets. So what is sent is what the server would keep: a verifier (RFC 5802 and 7677), by
// which a password can be checked and which is none.

// ErrLogin is a login that can not be made: its name or password has letters that it may not have.
var ErrLogin = errors.New("a login's name has small letters, digits and _; its password, of 200 letters " +
	"at most, none beyond ASCII")

var (
	loginName     = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
	loginPassword = regexp.MustCompile(`^[ -~]{1,200}$`) // what SASLprep leaves as it is
)

// verifierRounds is how often the hash is taken: what Postgres takes by default.
const verifierRounds = 4096

// Login is a login of the sidecar: a member of loglineos_sidecar and of nothing else.
type Login struct {
	Name       string
	Verifier   string
	Replicates bool // the tail reads the WAL by it; else another login does, or the sidecar polls
}

// NewLogin makes a login with the verifier of a password. The error is ErrLogin, or of the machine.
func NewLogin(name, password string, replicates bool) (Login, error) {
	if !loginName.MatchString(name) || !loginPassword.MatchString(password) {
		return Login{}, ErrLogin
	}
	salt := make([]byte, 16)
	rand.Read(salt) // never fails: crypto/rand
	verifier, err := verifierOf(password, salt)
	return Login{name, verifier, replicates}, err
}

func verifierOf(password string, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, verifierRounds, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("derive the verifier of a password: %w", err)
	}
	sum := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text)) // never fails: hash.Hash
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sum("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", verifierRounds, encode(salt), encode(stored[:]),
		encode(sum("Server Key"))), nil
}

// Statements make the login where it is missing, and change its password where it is there. One that is
// something else besides, or what clients are, is somebody's own: its password stays, and the first statement
// says so.
func (l Login) Statements() []string {
	statements := []string{
		fmt.Sprintf(`do $$ begin
			if to_regrole('"%[1]s"') is null then
				create role "%[1]s";
			elsif '%[1]s' in ('anon', 'authenticated', 'service_role', '%[3]s') or exists (
				select from pg_roles
				where rolname = '%[1]s' and (rolsuper or rolcreaterole or rolcreatedb or rolbypassrls)
			) or exists (
				select from pg_namespace where nspname = 'ledger' and pg_has_role('%[1]s', nspowner, 'member')
			) or exists (
				select from pg_auth_members as m join pg_roles as g on g.oid = m.roleid
				where m.member = to_regrole('"%[1]s"')
					and g.rolname not in ('%[2]s', 'rds_replication')
			) then
				raise exception '%[1]s is not the sidecar''s alone: take another name for its login';
			end if;
		end $$`, l.Name, Role, KernelRole),
		fmt.Sprintf(`alter role "%s" login password '%s'`, l.Name, l.Verifier),
		fmt.Sprintf(`grant %s to "%s"`, Role, l.Name),
	}
	if l.Name == Role {
		statements = statements[1:2]
	}
	if l.Replicates { // RDS has a role in the place of the attribute, and refuses that
		statements = append(statements, fmt.Sprintf(`do $$ begin if to_regrole('rds_replication') is null then
			alter role "%[1]s" replication; else grant rds_replication to "%[1]s"; end if; end $$`, l.Name))
	}
	return statements
}

// MakeLogin makes a login, or changes its password, in one transaction. Who may: a superuser; on RDS the
// master user; on Supabase postgres, where it may let others replicate.
func (o *Owner) MakeLogin(ctx context.Context, login Login) error {
	return pgx.BeginFunc(ctx, o.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, strings.Join(login.Statements(), ";\n")); err != nil {
			return withHint("make the login "+login.Name, err)
		}
		return nil
	})
}
