package main

import "testing"

func TestGeneratedFormsAreCurrent(t *testing.T) {
	t.Parallel()
	if err := run("../..", true); err != nil {
		t.Error(err)
	}
}
