package transition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/cli/progress"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/server"
)

// TestKindsOfErrors: the exit code tells scripts whether to try again.
func TestKindsOfErrors(t *testing.T) {
	for _, c := range []struct {
		err        error
		plan, work fail.Kind
	}{
		{mysql.ErrInvalidConn, fail.Unavailable, fail.Unavailable},
		{&mysql.MySQLError{Number: 1053, Message: "shutdown"}, fail.Unavailable, fail.Unavailable},
		{context.DeadlineExceeded, fail.Unavailable, fail.Unavailable},
		{server.ErrOther, fail.Refused, fail.Refused},
		{context.Canceled, fail.Canceled, fail.Canceled},
		{&mysql.MySQLError{Number: 1142, Message: "denied"}, fail.Failed, fail.Failed},
		{fs.ErrNotExist, fail.Invalid, fail.Failed},
		{fail.Errorf(fail.Refused, "no"), fail.Refused, fail.Refused},
	} {
		var plan, work *fail.Error
		wrapped := fmt.Errorf("target: %w", c.err)
		if !errors.As(planError(wrapped), &plan) || plan.Kind != c.plan || !errors.As(runError(wrapped), &work) || work.Kind != c.work {
			t.Errorf("%v: %v, %v", c.err, plan, work)
		}
	}
	// A run that goes on has changed something before.
	if got := planError(context.Canceled).Error(); got != "interrupted; this command has changed nothing" {
		t.Error(got)
	}
}

// TestNews: what a log warns of stands above the line of progress; what comes too often
// is counted.
func TestNews(t *testing.T) {
	const shown = 20 // of each kind
	var b strings.Builder
	k := progress.NewTicker(&b)
	k.Terminal = true
	log := slog.New(news{to: k})
	k.Show("50 %")
	log.Info("nobody sees it")
	log.With("table", "a.b").Warn("tried again", "error", errors.New("lost\nit"), "pause", time.Second)
	k.Show("51 %")
	for range 2*shown + 4 {
		log.Warn("tried again", "chunk", 7)
	}
	log.Error("gave way")
	if err := k.End(); err != nil {
		t.Fatal(err)
	}
	want := "\r50 %\r    \rtried again, table a.b, pause 1s: lost it\n\r51 %\r    \r" +
		strings.Repeat("tried again, chunk 7\n", shown-1) +
		"  tried again: more of this is counted, and told at the end\ngave way\ntried again: 25 more times\n"
	if b.String() != want {
		t.Errorf("got\n%q\nwant\n%q", b.String(), want)
	}
}
