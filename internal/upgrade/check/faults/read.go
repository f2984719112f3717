package faults

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/text/encoding/simplifiedchinese"

	"holdfast/internal/lib/text"
)

// MaxHits bounds what is found in what one program has said: the worst comes first.
const MaxHits = 20

// Bounds of what is found.
const (
	maxReport = 16 << 20 // bytes of a report
	maxShown  = 300      // bytes of a line that is shown
)

// IDs of lines that a program itself marks, and of a report that can not be read.
const (
	MarkedFail = "marked-failed"
	MarkedWarn = "marked-warning"
	Unread     = "report-not-read"
)

// own are what is said of lines that are in no catalogue.
var own = map[string]Cause{
	MarkedFail: {"The program itself marks this line as a failure.", "Correct what the line names, with the vendor's support where needed."},
	MarkedWarn: {"The program itself marks this line as a warning.", "Look whether what it names matters here."},
	Unread: {"A report of the program's own check can not be read, so nobody knows what it has found.",
		"Look at the report on this host."},
}

var (
	steering = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]") // colours of a terminal
	markFail = regexp.MustCompile(`(?i)[\[【][\s*_-]*(fail(ed|ure|s)?|error|err|fatal|critical|失败|错误|异常)[\s*_:-]*[\]】]`)
	markWarn = regexp.MustCompile(`(?i)[\[【][\s*_-]*(warn(ing)?|警告|告警)[\s*_:-]*[\]】]`)
	ownCheck = regexp.MustCompile(`(?i)\bpost-?check|验收|升级后检查`) // what a program says of its own check counts as its report
	saysFail = regexp.MustCompile(`(?i)\b(fail(ed|ures?|s)?)\b|失败|不通过|未通过`)
	saysNone = regexp.MustCompile(`(?i)\b(0|no|none|not|without)\s+(\w+\s+)?(items?\s+|checks?\s+)?fail(ed|ures?|s)?\b|\bfail(ed|ures?|s)?\b[\s\w]{0,16}[\s:=：]\s*(0|none)\s*([^\d.]|$)|(无|没有|未|未出现|未发现)(任何|检查)?失败|\b0\s*[个项]?\s*失败|失败[^\d]{0,6}[:：=\s]\s*(0|无)\s*([^\d.]|$)`)
)

// Read returns what a program has said of trouble, failures first: lines that are known, and those
// that it marks itself as failures or warnings. A mark of a failure counts whatever else is
// known of its line. Lines that are the same are one. Other than Match it looks for marks in all
// of a line, and at all lines.
func (c *Catalogue) Read(src Source, said []byte) []Hit { return c.read(src, lenient(said), false) }

// Report reads the report that a program has written about its own check: Read, and each line that
// says that something has failed, marked or not. The error says why it can not be
// read: one from before since is of another run, one without text says nothing.
func (c *Catalogue) Report(file string, since time.Time) ([]Hit, error) {
	data, err := readReport(file, since)
	if err != nil {
		return nil, err
	}
	said, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if strings.TrimSpace(said) == "" {
		return nil, fmt.Errorf("%s is empty", file)
	}
	hits := c.read(Source{Log: file}, said, true)
	for i := range hits {
		hits[i].File = file
	}
	return hits, nil
}

// Reports returns the reports that what was said announces, and whether it announces one
// without a name.
func (c *Catalogue) Reports(src Source, said []byte) (files []string, unnamed bool) {
	for _, e := range c.entries {
		if e.Report == "" || !e.Where.fits(src) {
			continue
		}
		announced := false
		n := len(files)
		for _, line := range linesOf(lenient(said)) {
			announced = announced || e.finds(line)
			for _, word := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t'\"`,;:()[]<>=，。；：（）", r) }) {
				word = strings.TrimRight(word, ".")
				if ok, err := path.Match(path.Base(e.Report), path.Base(word)); err == nil && ok && path.IsAbs(word) && !slices.Contains(files, word) {
					files = append(files, path.Clean(word))
				}
			}
		}
		unnamed = unnamed || announced && len(files) == n
	}
	return files, unnamed
}

// Newest returns the last report of those that programs leave on a host, "" when there is none.
func (c *Catalogue) Newest(src Source) (string, error) {
	var newest string
	var at time.Time
	for _, e := range c.entries {
		if e.Report == "" || !e.Where.fits(src) {
			continue
		}
		list, err := filepath.Glob(e.Report)
		if err != nil {
			return "", fmt.Errorf("look for reports %s: %w", e.Report, err)
		}
		for _, f := range list {
			st, err := os.Stat(f)
			if err != nil {
				return "", fmt.Errorf("look for reports: %w", err)
			}
			if newest == "" || st.ModTime().After(at) {
				newest, at = f, st.ModTime()
			}
		}
	}
	return newest, nil
}

// NotRead is what is found when a report can not be read.
func NotRead(why error) Hit {
	return Hit{ID: Unread, Level: Fail, Causes: []Cause{own[Unread]}, Text: text.Line(why.Error(), maxShown)}
}

// Sort puts failures first, and leaves the order else.
func Sort(hits []Hit) {
	slices.SortStableFunc(hits, func(a, b Hit) int { return a.Level.rank() - b.Level.rank() })
}

// Causes says what is known of a hit by its id; none when the id is not known.
func (c *Catalogue) Causes(id string) []Cause {
	if x, ok := own[id]; ok {
		return []Cause{x}
	}
	if c == nil {
		return nil
	}
	for _, e := range c.entries {
		if e.ID == id {
			return e.hit(0, "").Causes
		}
	}
	return nil
}

func (c *Catalogue) read(src Source, said string, report bool) []Hit {
	var hits []Hit
	seen := map[string]bool{}
	for n, line := range linesOf(said) {
		h, ok := c.line(src, line, report)
		if !ok || seen[h.Text] {
			continue
		}
		seen[h.Text] = true
		h.Line = n + 1
		hits = append(hits, h)
	}
	Sort(hits)
	if more := len(hits) - MaxHits; more > 0 {
		hits = hits[:MaxHits]
		last := &hits[MaxHits-1]
		last.Text = text.Cut(last.Text, maxShown-32) + fmt.Sprintf(" (and %d more lines)", more)
	}
	return hits
}

// linesOf are the lines of a text with their numbers from 0, without blank ones. A carriage return alone
// begins a line, too.
func linesOf(said string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		n := 0
		for whole := range strings.Lines(said) {
			for line := range strings.SplitSeq(strings.TrimRight(whole, "\r\n"), "\r") {
				if strings.TrimSpace(line) != "" && !yield(n, line) {
					return
				}
			}
			n++
		}
	}
}

// line says what a line is.
func (c *Catalogue) line(src Source, line string, report bool) (Hit, bool) {
	line = steering.ReplaceAllString(line, "")
	at := 0 // of what is shown
	mark := func(id string, l Level, re *regexp.Regexp) (Hit, bool) {
		place := re.FindStringIndex(line)
		if place == nil {
			return Hit{}, false
		}
		if at = place[0]; len(line) <= maxShown {
			at = 0
		}
		return Hit{ID: id, Level: l, Causes: []Cause{own[id]},
			Text: text.Line(strings.ToValidUTF8(line[at:min(len(line), at+4*maxShown)], ""), maxShown)}, true
	}
	if h, ok := mark(MarkedFail, Fail, markFail); ok {
		return h, true
	}
	for _, e := range c.entries {
		if e.Where.fits(src) && e.finds(line[:min(len(line), MaxLine)]) {
			return e.hit(0, text.Line(line, maxShown)), true
		}
	}
	if (report || ownCheck.MatchString(line)) && saysFail.MatchString(saysNone.ReplaceAllString(line, "")) {
		return mark(MarkedFail, Fail, saysFail)
	}
	return mark(MarkedWarn, Warn, markWarn)
}

// readReport reads a file whole, if it was written since then.
func readReport(file string, since time.Time) (data []byte, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would wait for a writer
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", file)
	case st.Size() > maxReport:
		return nil, fmt.Errorf("%s has %d bytes, and at most %d are read", file, st.Size(), maxReport)
	case st.ModTime().Before(since.Truncate(time.Second)): // some file systems count seconds
		return nil, fmt.Errorf("%s is from %s, before the program began", file, st.ModTime().Format(time.RFC3339))
	}
	if data, err = io.ReadAll(io.LimitReader(f, maxReport+1)); err == nil && len(data) > maxReport {
		err = fmt.Errorf("%s grows beyond the %d bytes that are read", file, maxReport)
	}
	return data, err
}

// decode makes text of UTF-8, UTF-16 with or without its mark, or GB18030, of which GBK and
// GB2312 are parts.
func decode(data []byte) (string, error) {
	if order := wide(data); order != nil {
		if len(data)%2 != 0 {
			return "", errors.New("is UTF-16 that was cut off")
		}
		var units []uint16
		for i := 0; i < len(data); i += 2 {
			units = append(units, order.Uint16(data[i:]))
		}
		return strings.TrimPrefix(string(utf16.Decode(units)), "\uFEFF"), nil
	}
	data = bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))
	if !utf8.Valid(data) {
		var err error
		if data, err = simplifiedchinese.GB18030.NewDecoder().Bytes(data); err != nil || bytes.ContainsRune(data, utf8.RuneError) {
			return "", errors.New("is no text: want UTF-8, UTF-16 or GB18030")
		}
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return "", errors.New("is no text: it has null bytes")
	}
	return string(data), nil
}

// wide is the order of bytes when they are UTF-16: by the mark, else by where most of its first null
// bytes are, as text has characters below 256.
func wide(data []byte) binary.ByteOrder {
	switch {
	case bytes.HasPrefix(data, []byte{0xFF, 0xFE}):
		return binary.LittleEndian
	case bytes.HasPrefix(data, []byte{0xFE, 0xFF}):
		return binary.BigEndian
	}
	var null [2]int
	head := data[:min(len(data), 1<<10)]
	for i, b := range head {
		if b == 0 {
			null[i%2]++
		}
	}
	switch few := len(head) / 8; {
	case null[1] > few && null[0] == 0:
		return binary.LittleEndian
	case null[0] > few && null[1] == 0:
		return binary.BigEndian
	}
	return nil
}

// lenient makes text of output whatever it is, line by line.
func lenient(said []byte) string {
	if utf8.Valid(said) {
		return string(said)
	}
	var b strings.Builder
	for line := range bytes.Lines(said) {
		if !utf8.Valid(line) {
			if out, err := simplifiedchinese.GB18030.NewDecoder().Bytes(line); err == nil {
				line = out
			}
		}
		b.Write(bytes.ToValidUTF8(line, []byte("\uFFFD")))
	}
	return b.String()
}
