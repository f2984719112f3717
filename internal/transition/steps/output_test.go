package steps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/transition"
	"holdfast/testbed/try"
)

// TestOutputOf: the end of a log is told from the beginning of a line on; a step without a log has said nothing.
func TestOutputOf(t *testing.T) {
	dir := t.TempDir()
	s := job.StepView{ID: "h1/install/app", Attempt: 2}
	got, err := outputOf(dir, "h1", "upgrade-1", s)
	if err != nil || got.Log != "" || got.LogBytes != 0 || got.Host != "h1" {
		t.Errorf("without a log: %+v, %v", got, err)
	}
	file := engine.LogFile(dir, "upgrade-1", s.ID, s.Attempt)
	try.Must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	line := strings.Repeat("x", 99) + "\n"
	whole := strings.Repeat(line, job.MaxOutput/100+50) + "the end \xff"
	try.Must(t, os.WriteFile(file, []byte(whole), 0o600))
	got, err = outputOf(dir, "h1", "upgrade-1", s)
	if err != nil || got.LogBytes != int64(len(whole)) || len(got.Log) > job.MaxOutput+2 || !strings.HasPrefix(got.Log, line) ||
		!strings.HasSuffix(got.Log, "\nthe end \ufffd") {
		t.Errorf("%d of %d bytes, %.120q, %v", len(got.Log), got.LogBytes, got.Log, err)
	}
	s.Attempt = 1
	if got, err := outputOf(dir, "h1", "upgrade-1", s); err != nil || got.Log != "" {
		t.Errorf("of another attempt: %d bytes, %v", len(got.Log), err)
	}
	if _, err := outputOf(filepath.Join(file, "no"), "h1", "upgrade-1", s); err == nil {
		t.Error("of what is no directory: no error")
	}
}

// TestPartsOfAStep: a command of a transition tells its parts by a file of its attempt; one that is damaged is named.
func TestPartsOfAStep(t *testing.T) {
	dir := t.TempDir()
	s := job.StepView{ID: "align/copy", Attempt: 2, Kind: transition.KindCommand}
	file := progressFile(filepath.Join(CommandsDir(dir), "runs", "transition-1", "align_copy"), 2)
	try.Must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	try.Must(t, os.WriteFile(file, []byte(`{"line":"half","told":"2026-12-01T10:00:00Z","parts":[{"name":"nova.instances","done":7}]}`), 0o600))
	got, err := outputOf(dir, "h1", "transition-1", s)
	if err != nil || got.Line != "half" || got.Told.IsZero() || len(got.Parts) != 1 || got.Parts[0].Done != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	s.Attempt = 3
	if got, err = outputOf(dir, "h1", "transition-1", s); err != nil || got.Line != "" || len(got.Parts) != 0 {
		t.Errorf("of the next attempt: %+v, %v", got, err)
	}
	s.Attempt = 2
	try.Must(t, os.WriteFile(file, []byte(`{"line":`), 0o600))
	if _, err = outputOf(dir, "h1", "transition-1", s); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("of a damaged one: %v", err)
	}
}
