//go:build !failpoints

package failpoint_test

import (
	"testing"

	"github.com/loglineos/loglineos/sidecar/failpoint"
)

func TestIsNothingWithoutItsTag(t *testing.T) {
	t.Setenv("LOGLINE_FAILPOINTS", failpoint.GapRow+"=error")
	t.Setenv("LOGLINE_DISABLE", failpoint.Fence)
	if failpoint.Err(failpoint.GapRow) != nil || failpoint.Disabled(failpoint.Fence) {
		t.Error("a failpoint acts in the binary that is shipped")
	}
	failpoint.Hit("nowhere")
}

func TestEachPlaceSaysWhereItStands(t *testing.T) {
	t.Parallel()
	for name, where := range failpoint.Names() {
		if where == "" {
			t.Errorf("%s stands nowhere", name)
		}
	}
}
