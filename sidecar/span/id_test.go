package span

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestParseIDRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{" + functionID + "}", strings.ReplaceAll(functionID, "-", ""),
		"00000000-0000-0000-0000-0000000000-0", // once a panic
		"0-000000-0000-0000-0000-000000000000", "--000000-0000-0000-0000-000000000000",
		"0000000g-0000-0000-0000-000000000000", "00000000_0000-0000-0000-000000000000",
		"00000000-0000-0000-0000-0000000000é", " " + functionID[1:]} {
		if id, err := ParseID(text); err == nil {
			t.Errorf("%q: taken as %s", text, id)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(functionID)
	f.Add(strings.ToUpper(functionID))
	f.Add("00000000-0000-0000-0000-0000000000-0")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseID(text)
		if err != nil {
			return
		}
		plain := hex.EncodeToString(id[:])
		if id.String() != strings.ToLower(text) || strings.ReplaceAll(id.String(), "-", "") != plain {
			t.Fatalf("%q is read as %s", text, id)
		}
	})
}
