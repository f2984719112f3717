package engine

import (
	"errors"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
)

func TestErrorsOfJobsSayWhoIsToBlame(t *testing.T) {
	for err, want := range map[error]fail.Kind{ErrNoJob: fail.Invalid, ErrBusy: fail.Refused, ErrRefused: fail.Refused} {
		var e *fail.Error
		if got := Explain(err); !errors.As(got, &e) || e.Kind != want || !strings.Contains(got.Error(), err.Error()) {
			t.Errorf("%v: %v", err, got)
		}
	}
	if other := errors.New("other"); Explain(other) != other {
		t.Error("another error is changed")
	}
}
