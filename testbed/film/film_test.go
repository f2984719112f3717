package film

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// TestFilm: what stays is written once, a table replaces the one before, and the last frame
// is what is seen without motion.
func TestFilm(t *testing.T) {
	start := time.Now()
	f := New("holdfast-lab demo", start)
	f.Print(start, "a < b & c")
	f.Draw(start.Add(time.Second), []string{"HOST  POWER", "h1    on"})
	f.Draw(start.Add(time.Second+every/2), []string{"HOST  POWER", "not taken"})
	f.Draw(start.Add(time.Minute), []string{"HOST  POWER", "h1    off", "client    NO ANSWER for 1.0 s"})
	f.Draw(start.Add(2*time.Minute), []string{"HOST  POWER", "h1    on"})
	f.Print(start.Add(2*time.Minute), "", "recovered: yes")
	text := strings.ReplaceAll(string(f.SVG()), kept, " ")
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
	if got, want := strings.Join(shown, "|"), "$ holdfast-lab demo|a < b & c|HOST  POWER|h1    on|recovered: yes"; got != want {
		t.Errorf("without motion it shows %q, want %q", got, want)
	}
	for what, n := range map[string]int{">HOST  POWER<": 1, ">h1    on<": 2, "NO ANSWER": 1, "not taken": 0, "recovered": 1} {
		if got := strings.Count(text, what); got != n {
			t.Errorf("%q is there %d times, want %d", what, got, n)
		}
	}
	if begins, whole := f.times(); whole != 3*longest+ending || begins[len(begins)-1] != 3*longest {
		t.Errorf("frames begin at %v of %v", begins, whole)
	}
	var none *Film // records nothing
	none.Print(start, "x")
	none.Draw(start, nil)
}
