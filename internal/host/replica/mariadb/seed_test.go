package mariadb

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"holdfast/internal/testbed/try"
)

// TestACopyThatIsCutShort: one that does not come whole leaves the data as they were; one
// that came whole, but did not follow yet, follows at the next call, without another copy.
func TestACopyThatIsCutShort(t *testing.T) {
	a, b := pair(t)
	ctx := try.Context(t)
	db := a.app()
	try.Must(t, <-insert(db, 1)) // nobody waits: there is no replica yet
	before := b.id()
	from := a.source("")
	from.Seed = nil
	refused(t, "no copy", b.Resync(ctx, from))
	broken := errors.New("the link is cut")
	from.Seed = func(_ context.Context, w io.Writer) error {
		_, err := w.Write([]byte("no stream"))
		return errors.Join(err, broken)
	}
	if err := b.Resync(ctx, from); !errors.Is(err, broken) {
		t.Fatalf("a copy that is cut: %v", err)
	}
	if _, err := os.Stat(b.datadir + stage); !os.IsNotExist(err) || b.id() != before {
		t.Fatalf("after a copy that was cut: %v, process %v, it was %v", err, b.id(), before)
	}
	password := b.cfg.Replication.PasswordFile
	from.Seed = func(ctx context.Context, w io.Writer) error {
		err := a.Seed(ctx, w)
		return errors.Join(err, os.Chmod(password, 0o644)) // what comes after the copy fails
	}
	if err := b.Resync(ctx, from); err == nil {
		t.Fatal("it follows without a password")
	}
	if b.id() == before {
		t.Fatal("the data were not replaced: this tests nothing")
	}
	try.Must(t, os.Chmod(password, 0o600))
	try.Must(t, <-insert(db, 2))
	from.Seed = nil
	try.Must(t, b.Resync(ctx, from))
	g, err := a.Together(ctx, b.state())
	if err != nil || !g.Safe {
		t.Fatalf("%+v, %v", g, err)
	}
	try.Until(t, "the rows", func() bool { return b.value("SELECT GROUP_CONCAT(id ORDER BY id) FROM app.log") == "1,2" })
	if _, fresh, err := b.copied(); err != nil || fresh {
		t.Errorf("it still counts as a copy: %v, %v", fresh, err)
	}
}
