package clock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun := time.Now()
		if !Sleep(ctx, 2*time.Second) || time.Since(begun) != 2*time.Second {
			t.Errorf("it ended after %s", time.Since(begun))
		}
		if Sleep(ctx, 2*time.Second) || time.Since(begun) != 3*time.Second {
			t.Errorf("it outlasts its context: %s", time.Since(begun))
		}
	})
}
