package demo

import (
	"errors"
	"strings"
	"testing"
)

// TestInterrupted: who breaks a run off is told what was removed and what was left.
func TestInterrupted(t *testing.T) {
	for want, err := range map[string]error{
		"nothing is left":            interrupted("", nil),
		"its files are left in /d/x": interrupted("/d/x", nil),
		"could be removed: busy":     interrupted("/d/x", errors.New("busy")),
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %s", err, want)
		}
	}
}
