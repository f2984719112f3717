package aid

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/testbed/try"
)

// TestRing: the last lines are kept within the bounds, with numbers that go on.
func TestRing(t *testing.T) {
	r := NewRing()
	for i := range ringLines + 10 {
		fmt.Fprintf(r, "line %d\n", i)
	}
	lines, last := r.all()
	if len(lines) != ringLines || lines[0].text != "line 10" || lines[len(lines)-1].number != last ||
		lines[0].number != last-ringLines+1 {
		t.Errorf("%d lines, %+v", len(lines), lines[0])
	}
	long := strings.Repeat("x", 2*lineBytes)
	for range 2 * ringBytes / lineBytes {
		fmt.Fprintln(r, long)
	}
	if lines, _ := r.all(); len(lines) != ringBytes/lineBytes || len(lines[0].text) != lineBytes || r.bytes > ringBytes {
		t.Errorf("%d lines, %d bytes", len(lines), r.bytes)
	}
}

// TestRingIsFilled by what the agent before has written, without half a line.
func TestRingIsFilled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.log")
	r := NewRing()
	try.Must(t, r.Fill(file))
	if lines, _ := r.all(); len(lines) != 0 {
		t.Errorf("%v", lines)
	}
	try.Must(t, os.WriteFile(file, []byte(strings.Repeat("0123456789abcde\n", ringBytes/16)), 0o600))
	try.Must(t, r.Fill(file))
	lines, _ := r.all()
	if len(lines) == 0 || len(lines) > ringLines || lines[0].text != "0123456789abcde" {
		t.Errorf("%d lines, %+v", len(lines), lines[:1])
	}
	if err := r.Fill(t.TempDir()); err == nil {
		t.Error("a directory is read")
	}
}

// TestRingOfMany: a logger writes while others read.
func TestRingOfMany(t *testing.T) {
	r := NewRing()
	log := slog.New(slog.NewJSONHandler(r, nil))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 500 {
				log.Info("turn", "i", i)
				r.all()
			}
		})
	}
	wg.Wait()
	if lines, _ := r.all(); len(lines) != 2000 || !strings.HasPrefix(lines[0].text, `{"time":`) {
		t.Errorf("%d lines", len(lines))
	}
}
