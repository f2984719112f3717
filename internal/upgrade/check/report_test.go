package check

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"

	"holdfast/testbed/try"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hostile is what a host may tell to harm who reads the report.
const hostile = "<script>alert(1)</script>\n[ -OK- ] forged\x1b[2J\" onload='x' \u202eevil"

// sampleReport has everything that a report may have.
func sampleReport() Report {
	in := well()
	in.When, in.From, in.HABefore = After, "E0303", new(true)
	for _, f := range in.Facts {
		f.Version = "E0306"
	}
	in.Facts["h1"].Version = "E0303"
	in.Facts["h2"].O2CB = fact.O2CB{Present: true, Configured: 31, Active: 31}
	in.Facts["h3"].FC[0].State = "Linkdown"
	in.Facts["cvm"].Replication[0] = fact.Probe{Name: "slave", Exit: 1, Text: hostile}
	h := host(in, "h2")
	h.Pools = append(h.Pools, inventory.Pool{Name: "iscsi-tt", Kind: "ocfs2", Shared: true, Paths: 1, Active: true})
	host(in, "h3").CPUModel = "Haswell"
	host(in, "h3").Maintenance = true
	zone := time.FixedZone("", 8*3600)
	failures, err := Failed(sampleJournal(), builtinFaults())
	if err != nil {
		panic(err) // it reads strings
	}
	steps := CountSteps(sampleJournal())
	return Report{
		When: After, Cluster: "lab", From: "E0303", To: "E0306", Bundle: "cas-E0306.hfb (sha256 6f0c)", Unsigned: true,
		Began: testNow.Add(-3 * time.Minute), Ended: testNow.In(zone), Hosts: Rows(*in, "cvm"), Findings: append(Run(*in), Finding{
			Check: "capacity", Scope: ScopeGroup, Where: "g", Level: Info, Text: "three hosts"}),
		Losses: []Loss{
			{Guest: "a", Sent: 90000, Lost: 3, LongestMS: 41}, {Guest: "b", Sent: 90000, UnwatchedMS: 12_300},
			{Guest: "never-up", Note: "no address of it is known"},
		},
		State: "rollup", Steps: &steps, Failures: failures,
	}
}

func TestReportsHaveTheirForms(t *testing.T) {
	r := sampleReport()
	quiet := Report{When: Before, Ended: testNow, Findings: Run(*well()), Hosts: Rows(*well(), "")}
	for name, f := range map[string]func(io.Writer) error{
		"report.txt":  func(w io.Writer) error { return WriteText(w, r) },
		"report.json": func(w io.Writer) error { return WriteJSON(w, r) },
		"report.html": func(w io.Writer) error { return WriteHTML(w, r) },
		"quiet.txt":   func(w io.Writer) error { return WriteText(w, quiet) },
	} {
		var b bytes.Buffer
		if err := f(&b); err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s has changed (see -update); it is\n%s", name, b.String())
		}
	}
}

func TestTextLinesCanNotBeForged(t *testing.T) {
	var b bytes.Buffer
	if err := WriteText(&b, sampleReport()); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSuffix(line, "\n")
		ok := slices.ContainsFunc([]string{markOK, markInfo, markWarn, markFail, markNone},
			func(m string) bool { return strings.HasPrefix(line, m) })
		if !ok || strings.ContainsAny(line, "\x1b\r\u202e") || strings.HasPrefix(line, markOK+"forged") {
			t.Errorf("line %q", line)
		}
	}
}

// TestReportsSpeakPlainly: what libraries say is said in plain words, in text and in pages; JSON keeps it.
func TestReportsSpeakPlainly(t *testing.T) {
	r := Report{
		When: Before, Ended: testNow, Findings: []Finding{onHost("h1", Fail, "", "can not tell the kernel: context deadline exceeded")},
		Failures: []Failure{{Step: "h1/x", State: StepFailed, Level: Fail, Why: "read it: unexpected EOF", Tail: "the program's own EOF"}},
	}
	for name, write := range map[string]func(io.Writer, Report) error{"text": WriteText, "HTML": WriteHTML} {
		var b bytes.Buffer
		if err := write(&b, r); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"can not tell the kernel: not done in time", "read it: it ended too early"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: want %q in\n%s", name, want, b.String())
			}
		}
	}
}

func TestJSONIsStable(t *testing.T) {
	var b bytes.Buffer
	if err := WriteJSON(&b, Report{When: Between, Ended: testNow}); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"format": 1.0, "title": "", "when": "between", "began": "0001-01-01T00:00:00Z", "ended": "2026-03-26T10:34:48Z",
		"counts": map[string]any{"ok": 0.0, "info": 0.0, "warn": 0.0, "fail": 0.0}, "hosts": []any{}, "findings": []any{},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// void are elements of HTML that have no end.
func void(tag string) bool {
	return slices.Contains([]string{"meta", "br", "hr", "link", "img", "input"}, tag)
}

func TestHTMLIsWellFormedAndAlone(t *testing.T) {
	var b bytes.Buffer
	if err := WriteHTML(&b, sampleReport()); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	var open []string
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			break
		}
		tok := z.Token()
		switch {
		case kind == html.StartTagToken && !void(tok.Data):
			open = append(open, tok.Data)
		case kind == html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != tok.Data {
				t.Fatalf("</%s> closes %v", tok.Data, open)
			}
			open = open[:len(open)-1]
		}
		if tok.Data == "script" && kind != html.TextToken {
			t.Error("the page has a script")
		}
		for _, a := range tok.Attr {
			if slices.Contains([]string{"src", "href", "srcset", "style", "action"}, a.Key) || strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s %s=%q>", tok.Data, a.Key, a.Val)
			}
		}
	}
	if z.Err() != io.EOF || len(open) > 0 {
		t.Errorf("%v, still open: %v", z.Err(), open)
	}
	if _, err := html.Parse(strings.NewReader(page)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"url(", "@import", "http:", "https:", "<script", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if strings.ContainsAny(page, "\x1b\u202e") {
		t.Error("the page has characters that steer")
	}
	if !strings.Contains(page, "&lt;script&gt;") {
		t.Error("what the host said is not shown")
	}
}

func TestTheWorstComesFirst(t *testing.T) {
	p := newPage(sampleReport())
	if len(p.Urgent) < 3 || p.Urgent[0].Level != Fail || p.Urgent[len(p.Urgent)-1].Level != Warn {
		t.Errorf("%+v", p.Urgent)
	}
	if p.Groups[0].Name != "g" || p.Groups[0].Hosts[0].Name != "h1" || p.Groups[1].Name != "m" {
		t.Errorf("%+v", p.Groups)
	}
}

func TestAFindingAboutAnUnknownHostIsShown(t *testing.T) {
	r := Report{When: After, Ended: testNow, Findings: []Finding{{Check: "mine", Scope: ScopeHost, Where: "lost",
		Host: "lost", Level: Fail, Text: "gone away"}}}
	for _, w := range []func(io.Writer, Report) error{WriteText, WriteHTML, WriteJSON} {
		var b bytes.Buffer
		if err := w(&b, r); err != nil || !strings.Contains(b.String(), "gone away") {
			t.Errorf("%v %s", err, b.String())
		}
	}
}

func TestWriteAll(t *testing.T) {
	if !try.UnderUmask(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "new", "reports")
	files, err := WriteAll(dir, sampleReport())
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, "postcheck-report_20260326183448")
	if files != (Files{want + ".txt", want + ".json", want + ".html"}) {
		t.Errorf("%+v", files)
	}
	if s, err := os.Stat(dir); err != nil || s.Mode().Perm() != 0o750 {
		t.Errorf("%v, %v", s, err)
	}
	if got := list(t, dir); len(got) != 3 {
		t.Errorf("%v", got)
	}
	for _, f := range []string{files.Text, files.JSON, files.HTML} {
		s, err := os.Stat(f)
		if err != nil || s.Size() < 1000 || s.Mode() != 0o640 {
			t.Errorf("%v %v", s, err)
		}
	}
}

func TestWriteAllLeavesAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	r := sampleReport()
	if err := os.MkdirAll(filepath.Join(dir, r.Base()+".txt", "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteAll(dir, r); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if got := list(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A disk that is full is an error in each form.
func TestWritersReportErrors(t *testing.T) {
	for i, w := range []func(io.Writer, Report) error{WriteText, WriteHTML, WriteJSON} {
		if err := w(full{}, sampleReport()); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("%d: %v", i, err)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, fmt.Errorf("no space") }
