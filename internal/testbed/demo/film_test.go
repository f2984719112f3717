package demo

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/fail"
)

// TestFilm: what stays is written once, a table replaces the one before, and the last frame
// is what is seen without motion.
func TestFilm(t *testing.T) {
	start := time.Now()
	f := newFilm("holdfast demo", start)
	f.print(start, "a < b & c")
	f.draw(start.Add(time.Second), []string{"HOST  POWER", "h1    on"})
	f.draw(start.Add(time.Second+filmEvery/2), []string{"HOST  POWER", "not taken"})
	f.draw(start.Add(time.Minute), []string{"HOST  POWER", "h1    off", "client    NO ANSWER for 1.0 s"})
	f.draw(start.Add(2*time.Minute), []string{"HOST  POWER", "h1    on"})
	f.print(start.Add(2*time.Minute), "", "recovered: yes")
	text := string(f.svg())
	var shown []string // without motion
	d := xml.NewDecoder(strings.NewReader(text))
	hidden := false
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := tok.(type) {
		case xml.StartElement:
			hidden = x.Name.Local != "text"
			for _, a := range x.Attr {
				hidden = hidden || a.Name.Local == "class" && strings.Contains(a.Value, "gone")
			}
		case xml.EndElement:
			hidden = true
		case xml.CharData:
			if !hidden {
				shown = append(shown, string(x))
			}
		}
	}
	if got, want := strings.Join(shown, "|"), "$ holdfast demo|a < b & c|HOST  POWER|h1    on|recovered: yes"; got != want {
		t.Errorf("without motion it shows %q, want %q", got, want)
	}
	for what, n := range map[string]int{">HOST  POWER<": 1, ">h1    on<": 2, "NO ANSWER": 1, "not taken": 0, "recovered": 1} {
		if got := strings.Count(text, what); got != n {
			t.Errorf("%q is there %d times, want %d", what, got, n)
		}
	}
	if begins, whole := f.times(); whole != 3*filmWait+filmEnd || begins[len(begins)-1] != 3*filmWait {
		t.Errorf("frames begin at %v of %v", begins, whole)
	}
	var none *film // records nothing
	none.print(start, "x")
	none.draw(start, nil)
}

// TestRecordIsCheckedFirst, before a host is made.
func TestRecordIsCheckedFirst(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "d.svg"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"", "demo.gif", "demo", filepath.Join(dir, "none", "x.svg"), filepath.Join(dir, "d.svg")} {
		c := Command()
		c.SetArgs([]string{"--record", file})
		c.SilenceErrors, c.SilenceUsage = true, true
		err := c.Execute()
		if err == nil || fail.ExitCode(err) != fail.ExitInvalid || !strings.HasPrefix(err.Error(), "--record: value") || !strings.Contains(err.Error(), ": want ") {
			t.Errorf("%q: %v", file, err)
		}
	}
	if got := (flags{fault: "isolate", auto: true, record: "x.svg"}).typed(); got != "holdfast demo --fault isolate --auto" {
		t.Errorf("the command is shown as %q", got)
	}
}
