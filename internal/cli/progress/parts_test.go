package progress

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/job"
	"holdfast/testbed/try"
)

// TestParts: the first telling is written at once, the last one at the end, and a file that can not be written is told once.
func TestParts(t *testing.T) {
	var b strings.Builder
	k := NewTicker(&b)
	k.Parts("nobody is told", nil)
	k.File = filepath.Join(t.TempDir(), "progress-1.json")
	read := func() (p job.Progress) {
		text, err := os.ReadFile(k.File)
		try.Must(t, err)
		try.Must(t, json.Unmarshal(text, &p))
		return p
	}
	k.Parts("one", []job.Part{{Name: "a", State: "running", Done: 1, Total: 2, Unit: "rows"}})
	if p := read(); p.Line != "one" || len(p.Parts) != 1 || p.Parts[0].Done != 1 || p.Told.IsZero() {
		t.Errorf("%+v", p)
	}
	k.Parts("two", nil)
	k.Parts("three", []job.Part{{Name: "a", State: "done"}})
	try.Must(t, k.End())
	if p := read(); p.Line != "three" || p.Parts[0].State != "done" {
		t.Errorf("%+v", p)
	}
	k.File = filepath.Join(t.TempDir(), "none", "progress-1.json")
	for range 3 {
		k.Parts("lost", nil)
		try.Must(t, k.End())
	}
	if strings.Count(b.String(), "can not be told") != 1 {
		t.Errorf("%q", b.String())
	}
}

// TestManyParts: no more are written than are read.
func TestManyParts(t *testing.T) {
	k := NewTicker(&strings.Builder{})
	k.File = filepath.Join(t.TempDir(), "progress-1.json")
	parts := make([]job.Part, job.MaxParts+5)
	parts[job.MaxParts].State = "running"
	k.Parts("many", parts)
	text, err := os.ReadFile(k.File)
	try.Must(t, err)
	var p job.Progress
	try.Must(t, json.Unmarshal(text, &p))
	if len(p.Parts) != job.MaxParts || p.More != 5 || p.Parts[0].State != "running" {
		t.Errorf("%d parts, %d more, first %+v", len(p.Parts), p.More, p.Parts[0])
	}
}
