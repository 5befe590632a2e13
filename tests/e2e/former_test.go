package e2e_test

import (
	"strings"
	"testing"

	"github.com/loglineos/loglineos/sidecar/app"
)

// Who comes from the reference implementation is told which of its variables nothing reads any more, never
// what is in them.
func TestVariablesOfTheReferenceImplementationAreNamed(t *testing.T) {
	t.Parallel()
	s := setup(t)
	env := []string{"SUPABASE_URL=https://secret-word.example", "SUPABASE_SERVICE_ROLE_KEY=secret-word",
		"BOOT_FUNCTION_ID=secret-word", "APP_USER_ID=system", "APP_TENANT_ID=system"}
	found := s.doctor(env...)
	tells(t, found, "environment", app.Warning, "SUPABASE_SERVICE_ROLE_KEY", "loglineos_sidecar")
	said := s.serve(env...).Err.String()
	for _, name := range []string{"SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "BOOT_FUNCTION_ID"} {
		if !strings.Contains(said, "name="+name) {
			t.Errorf("serve does not say that %s is set:\n%s", name, said)
		}
	}
	if strings.Contains(said, "APP_USER_ID") || strings.Contains(said+listed(found), "secret-word") {
		t.Errorf("serve names what is kept, or tells a value:\n%s", said)
	}
}
