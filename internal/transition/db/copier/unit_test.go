package copier

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

func TestLines(t *testing.T) {
	for _, c := range []struct {
		values []string // <nil> is NULL
		want   string
	}{
		{[]string{"a", "", "<nil>"}, "a\t\t\\N\n"},
		{[]string{`\N`, `\`, "\\\\"}, `\\N` + "\t" + `\\` + "\t" + `\\\\` + "\n"},
		{[]string{"\t\n\x00", "\r\x1a'\"\b"}, "\\\t\\\n\\0\t\r\x1a'\"\b\n"},
		{[]string{"中😀\xff"}, "中😀\xff\n"},
	} {
		if got := string(appendLine(nil, raw(c.values), make([]mapping.Form, len(c.values)))); got != c.want {
			t.Errorf("%q: %q, want %q", c.values, got, c.want)
		}
	}
}

func TestLinesOfBytes(t *testing.T) {
	forms := []mapping.Form{mapping.AsHex, mapping.AsHex, mapping.AsHex, mapping.AsText}
	if got := string(appendLine(nil, raw([]string{"\x00\t\xff", "", "<nil>", "x"}), forms)); got != "0009ff\t\t\\N\tx\n" {
		t.Errorf("%q", got)
	}
}

func raw(values []string) []sql.RawBytes {
	out := make([]sql.RawBytes, 0, len(values))
	for _, v := range values {
		if v == "<nil>" {
			out = append(out, nil)
		} else {
			out = append(out, sql.RawBytes(v))
		}
	}
	return out
}

// FuzzLines: what LOAD DATA reads is what was written.
func FuzzLines(f *testing.F) {
	f.Add("a\tb", `\N`, true)
	f.Add("\x00\n", "\\", false)
	f.Fuzz(func(t *testing.T, a, b string, null bool) {
		values := []sql.RawBytes{sql.RawBytes(a), nil, sql.RawBytes(b)}
		if !null {
			values[1] = sql.RawBytes{}
		}
		line := appendLine(nil, values, make([]mapping.Form, 3))
		got := readLine(string(line))
		want := []string{a, map[bool]string{true: "<nil>", false: ""}[null], b}
		if !reflect.DeepEqual(got, [][]string{want}) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	})
}

// readLine reads as the servers' manuals say that LOAD DATA does.
func readLine(text string) (lines [][]string) {
	var line []string
	var field strings.Builder
	null := false
	end := func() {
		if null {
			line = append(line, "<nil>")
		} else {
			line = append(line, field.String())
		}
		field.Reset()
		null = false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\\':
			i++
			switch text[i] {
			case 'N':
				null = true
			case '0':
				field.WriteByte(0)
			default:
				field.WriteByte(text[i])
			}
		case '\t':
			end()
		case '\n':
			end()
			lines = append(lines, line)
			line = nil
		default:
			field.WriteByte(c)
		}
	}
	return lines
}

func TestTuples(t *testing.T) {
	forms := []mapping.Form{mapping.AsText, mapping.AsHex, mapping.AsNumber, mapping.AsText}
	got := string(appendTuple(nil, raw([]string{"it's \\ \x00", "\x00\xff", "511", "<nil>"}), forms))
	if want := `('it\'s \\ \0',X'00ff',511,NULL)`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct {
		key  key
		json string
	}{
		{key{[]byte("1"), []byte("a\"<ä")}, `["1","a\"\u003cä"]`},
		{key{[]byte("\x00\xff"), []byte("")}, `[{"hex":"00ff"},""]`},
	} {
		if got := c.key.String(); got != c.json {
			t.Errorf("%s, want %s", got, c.json)
		}
		var back key
		if err := json.Unmarshal([]byte(c.json), &back); err != nil || !reflect.DeepEqual(back, c.key) {
			t.Errorf("%s: %q, %v", c.json, back, err)
		}
	}
	for _, bad := range []string{`{}`, `[1]`, `[{"hex":"0"}]`, `[null`} {
		var k key
		if err := json.Unmarshal([]byte(bad), &k); err == nil {
			t.Errorf("%s: read as %q", bad, k)
		}
	}
}

// TestTry: what passes is tried again, until nothing has worked for too long.
func TestTry(t *testing.T) {
	r, err := newRun(&mapping.Plan{}, &server.Server{}, &server.Server{}, Options{patience: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := r.try(context.Background(), "x", func(context.Context) error {
		if n++; n < 3 {
			return driver.ErrBadConn
		}
		return nil
	}); err != nil || n != 3 {
		t.Errorf("%d, %v", n, err)
	}
	n = 0
	if err := r.try(context.Background(), "x", func(context.Context) error { n++; return errors.New("no") }); err == nil ||
		err.Error() != "x: no" || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	began := time.Now()
	err = r.try(context.Background(), "x", func(context.Context) error { return driver.ErrBadConn })
	if took := time.Since(began); !errors.Is(err, driver.ErrBadConn) || !strings.Contains(err.Error(), "given up") ||
		took < 300*time.Millisecond {
		t.Errorf("%v after %v", err, took)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	if err := r.try(ctx, "x", func(context.Context) error { cancel(io.EOF); return driver.ErrBadConn }); err != io.EOF {
		t.Errorf("%v", err)
	}
}

func TestPace(t *testing.T) {
	p := &pace{}
	p.rows.Store(firstRows)
	for _, c := range []struct {
		took time.Duration
		want int64
	}{
		{time.Second, 10000}, {500 * time.Millisecond, 20000}, {0, 40000}, {0, 80000}, {0, 100000},
		{time.Minute, 50000}, {2 * time.Second, 25000},
		{time.Hour, 12500}, {time.Hour, 6250}, {time.Hour, 3125}, {time.Hour, 1562}, {time.Hour, 1000}, {1250 * time.Millisecond, 1000},
	} {
		if p.took(p.next(), c.took); p.next() != c.want {
			t.Errorf("after %v: %d, want %d", c.took, p.next(), c.want)
		}
	}
	if p.fixed = 7; p.next() != 7 {
		t.Error(p.next())
	}
}

func TestMeter(t *testing.T) {
	m := newMeter(nil)
	m.set("a", 1000)
	m.set("b", 3000)
	m.have(map[string]standing{"a": {done: true, rows: 600, scanned: 10000}, "b": {rows: 100, scanned: 1000}, "other": {rows: 5}})
	m.begin("a", true)
	m.begin("b", true)
	at := time.Now()
	if p := m.look(at); p.Percent != 50 || p.Done != 700 || p.Total != 4000 || p.Rows != 100 || p.TableRows != 3000 || p.ETA != 0 {
		t.Errorf("%+v", p)
	}
	m.add("b", 50, 1000)
	m.have(map[string]standing{"b": {rows: 7}}) // asked before that: it runs
	m.waits("for a replica")
	if p := m.look(at.Add(2 * time.Second)); p.Percent != 75 || p.RowsPerSecond != 25 || p.ETA != 2*time.Second ||
		p.Waiting != "for a replica" || p.Table != "b" {
		t.Errorf("%+v", p)
	} else if a, b := p.Tables[0], p.Tables[1]; a.Table != "a" || a.RowsPerSecond != 0 || b.Rows != 150 || b.Through != 2000 ||
		b.RowsPerSecond != 25 || b.ETA != 2*time.Second || !b.Running || b.Done {
		t.Errorf("%+v", p.Tables)
	}
	m.add("b", 50, 5000) // more than was estimated
	if p := m.look(at.Add(3 * time.Second)); p.Percent != 100 || p.ETA != 0 {
		t.Errorf("%+v", p)
	}
	m.begin("b", false)
	m.have(map[string]standing{"b": {rows: 120, scanned: 1100, done: true}})
	if p := m.look(at.Add(3 * time.Second)); p.Done != 720 || p.RowsPerSecond != 0 || len(m.marks) != 1 {
		t.Errorf("the journal says otherwise: %+v, %d marks", p, len(m.marks))
	}
	for i := range 100 {
		m.look(at.Add(time.Duration(i+4) * time.Second))
	}
	if p := m.look(at.Add(time.Hour)); p.RowsPerSecond != 0 || len(m.marks) != window {
		t.Errorf("%+v, %d marks", p, len(m.marks))
	}
}

func TestNewWords(t *testing.T) {
	for version, want := range map[string]bool{
		"5.6.51-log": false, "8.0.21": false, "8.0.22": true, "8.0.36-28": true, "8.4.0": true, "9.1.0": true,
		"10.11.6-MariaDB": false, "11.4.2-MariaDB-log": false, "x": false,
	} {
		if got := newWords(version); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}
