package migration

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// logTail is how much of a domain's log is read: more than libvirtd writes for
// one start.
const logTail = 64 << 10

// Ended reads the end of a domain's log, where libvirtd writes why it
// ends the process, before it does. moved: a migration took the last process away. again: after that
// line comes another one about its end: libvirtd died in between, and when it starts it
// ends what is left of the process, for a reason of its own. The guest has left all the same.
// A log that is not there tells nothing.
func Ended(path string) (moved, again bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	if err != nil {
		return false, false, err
	}
	text := make([]byte, min(info.Size(), logTail))
	if _, err := f.ReadAt(text, info.Size()-int64(len(text))); err != nil && !errors.Is(err, io.EOF) {
		return false, false, err
	}
	for line := range bytes.Lines(text) {
		switch {
		case bytes.Contains(line, []byte(": starting up libvirt version: ")):
			moved, again = false, false
		case bytes.Contains(line, []byte(": shutting down, reason=")):
			migrated := bytes.HasSuffix(bytes.TrimSpace(line), []byte("=migrated"))
			moved, again = moved || migrated, moved && !migrated
		}
	}
	return moved, again, nil
}
