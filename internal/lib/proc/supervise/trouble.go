package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// shaky is how long after its end a child that was started again still counts
	// as trouble: one that ends at each start lives in between.
	shaky = 10 * time.Second
	// logTail is how much of a child's log is searched for the reason, in bytes.
	logTail = 16 << 10
	// maxReason is how much of the reason is told, in bytes.
	maxReason = 300
)

// Trouble tells how a process that is kept and does not run, or has just ended, ended; "" when it runs.
func Trouble(c Spec, now time.Time) string {
	log := filepath.Join(c.Dir, c.Name+".log")
	s, err := Read(c.Dir, c.Name)
	switch {
	case err != nil:
		return fmt.Sprintf("process %s: %v", c.Name, err)
	case s.LastExitAt.IsZero() || s.PID != 0 && now.Sub(s.LastExitAt) > shaky:
		return ""
	}
	text := fmt.Sprintf("process %s has ended %d times (last: %s) and is started again", c.Name, s.Restarts, s.LastExit)
	reason, err := lastError(log)
	if err != nil {
		return fmt.Sprintf("%s; its log: %v", text, err)
	}
	if reason != "" {
		text += ": " + reason
	}
	return text + "; its log is " + log
}

// lastError is the last line of a log in which this program, or the Go runtime,
// says why it ends; "" when there is none.
func lastError(path string) (line string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	tail, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-logTail), logTail))
	if err != nil {
		return "", err
	}
	for l := range strings.Lines(string(tail)) {
		if r := reason(strings.TrimSpace(l)); r != "" && !strings.Contains(line, r) {
			line = r
		}
	}
	return line[:min(len(line), maxReason)], nil
}

// reason is what a line of a log says of the end of its process; "" when it is
// about something else. The store's library logs what was wrong as JSON, before
// it panics.
func reason(line string) string {
	if strings.HasPrefix(line, "{") {
		var l struct{ Level, Msg, Error string }
		if json.Unmarshal([]byte(line), &l) != nil || l.Level != "panic" && l.Level != "fatal" {
			return ""
		}
		return strings.TrimSuffix(l.Msg+": "+l.Error, ": ")
	}
	if r, ok := strings.CutPrefix(line, "holdfast: "); ok {
		return r
	}
	for _, prefix := range []string{"panic: ", "fatal error: "} {
		if r, ok := strings.CutPrefix(line, prefix); ok {
			return r
		}
	}
	return ""
}
