package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/text"
	"holdfast/internal/pair/precheck"
)

// Files of a set-up of a pair, on the node on which it was begun.
const (
	SetupLock = ConfDir + "/pair-setup.lock" // AtWork; locked for as long as its process lives, a recovery's, too
	SetupFile = ConfDir + "/pair-setup.json" // as long as it is not done
)

// AtWork is a set-up or a recovery of a pair that is at work on a host.
type AtWork struct {
	What  string    `json:"what"` // set-up, recovery
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

// ReadAtWork reads who has a lock. Who has just got it has not written it yet: nil.
func ReadAtWork(lock *os.File) (*AtWork, error) {
	b, err := io.ReadAll(io.LimitReader(lock, 4096))
	if err != nil {
		return nil, err
	}
	var w AtWork
	if json.Unmarshal(b, &w) != nil || w.PID <= 0 {
		return nil, nil
	}
	return &w, nil
}

// Begun asks a host which set-up or recovery of a pair is at work there, or was begun; "": none.
func Begun(ctx context.Context, c Conn) (string, error) {
	a, err := c.Ask(ctx, Request{Do: DoPair, Pair: &precheck.Query{}})
	if err == nil && a.Pair == nil {
		err = errors.New("it says nothing")
	}
	if err != nil {
		return "", fmt.Errorf("ask whether a set-up is at work: %w", err)
	}
	return a.Pair.Begun, nil
}

// PairBegun says which set-up or recovery of a pair is at work on this host, or was begun and has not
// come to its end; "": none. A set-up has its own host's lock before it asks the other ones: of
// two that are begun against each other one at least sees the other.
func PairBegun(lock, file string) (string, error) {
	f, err := os.Open(lock)
	if err == nil {
		defer f.Close()
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			w, err := ReadAtWork(f)
			if w == nil || err != nil {
				return "a set-up or a recovery is at work", err
			}
			return fmt.Sprintf("a %s is at work: process %d, since %s", text.Clean(w.What), w.PID, w.Since.Local().Format(time.DateTime)), nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if _, err = os.Stat(file); err == nil {
		return "a set-up was begun, and has not come to its end", nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return "", err
}
