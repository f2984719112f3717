package lab

import (
	"errors"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
)

// TestInterrupted: who breaks a start off is told what was removed and what was left.
func TestInterrupted(t *testing.T) {
	for want, err := range map[string]error{
		"is removed, and nothing is left": interrupted("/l", true, nil),
		"not all could be removed: busy":  interrupted("/l", true, errors.New("busy")),
		"was there before and is left":    interrupted("/l", false, nil),
	} {
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != fail.Canceled ||
			!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/l") {
			t.Errorf("%v: want %s", err, want)
		}
	}
}
