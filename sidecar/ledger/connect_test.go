package ledger

import "testing"

func TestAConnectionThatFailsIsToldInOneLineWithTheAddressOnce(t *testing.T) {
	t.Parallel()
	const failed = "failed to connect to `user=u database=d`:"
	for text, want := range map[string]string{
		failed + "\n\t10.0.0.1:5432 (10.0.0.1): dial error: dial tcp 10.0.0.1:5432: connect: connection refused" +
			"\n\t10.0.0.1:5432 (10.0.0.1): dial error: dial tcp 10.0.0.1:5432: connect: connection refused": failed +
			" 10.0.0.1:5432: connection refused",
		failed + "\n\t[::1]:1 (localhost): dial error: dial tcp [::1]:1: i/o timeout" +
			"\n\t127.0.0.1:1 (localhost): dial error: dial tcp 127.0.0.1:1: connect: connection refused": failed +
			" [::1]:1 (localhost): i/o timeout; 127.0.0.1:1 (localhost): connection refused",
		failed + " hostname resolving error: lookup h: no such host\n\tlookup h: no such host": failed +
			" hostname resolving error: lookup h: no such host",
		"cannot continue; another leads": "cannot continue; another leads",
	} {
		if got := ConnectText(text); got != want {
			t.Errorf("ConnectText(%q) = %q, want %q", text, got, want)
		}
	}
}
