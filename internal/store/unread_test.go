package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestUnreadRecordsDoNotFillTheLog: of each writer and folder one line an hour, and what is remembered is bounded.
func TestUnreadRecordsDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u Unread
		var out bytes.Buffer
		log, bad := slog.New(slog.NewTextHandler(&out, nil)), errors.New("no JSON")
		lines := func() int { return bytes.Count(out.Bytes(), []byte("\n")) }
		for i := range 1000 {
			u.Tell(log, fmt.Sprintf("log/%d-h4-1", i), "h4", bad)
		}
		if lines() != 1 {
			t.Errorf("%d lines, want 1", lines())
		}
		u.Tell(log, "log/1-h5-1", "h5", bad)
		u.Tell(log, "fleet/h4", "h4", bad)
		time.Sleep(unreadAgain)
		u.Tell(log, "log/1-h4-1", "h4", bad)
		if lines() != 4 {
			t.Errorf("%d lines, want 4", lines())
		}
		for i := range 3 * unreadMost {
			u.Tell(log, "fleet/h", fmt.Sprint(i), bad)
		}
		if len(u.told) > unreadMost {
			t.Errorf("%d are remembered", len(u.told))
		}
	})
}
