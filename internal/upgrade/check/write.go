package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/lib/durable"
)

// Files are the paths of the three forms of a report.
type Files struct {
	Text, JSON, HTML string
}

// Base is the name of a report's files without a suffix: postcheck-report_ and the
// time of its end as YYYYMMDDhhmmss, in the time's location.
func (r Report) Base() string {
	return strings.ReplaceAll(r.verb(), "-", "") + "-report_" + r.Ended.Format("20060102150405")
}

// jsonReport is the JSON form: the report, its counts and its format.
type jsonReport struct {
	Format int            `json:"format"`
	Counts map[string]int `json:"counts"` // all levels
	Report
}

// WriteJSON writes the report as JSON. Fields are added to it, never renamed; a
// change that breaks readers raises "format".
func WriteJSON(w io.Writer, r Report) error {
	out := jsonReport{Format: 1, Counts: map[string]int{}, Report: r}
	n := Count(r.Findings)
	for _, l := range Levels() {
		out.Counts[string(l)] = n[l]
	}
	if out.Hosts == nil {
		out.Hosts = []HostRow{}
	}
	if out.Findings == nil {
		out.Findings = []Finding{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		return fmt.Errorf("write the report as JSON: %w", err)
	}
	return nil
}

// WriteAll writes the report in its three forms into dir, which is made when it is
// not there. Each file is complete or not there, and there are all three of them or
// none.
func WriteAll(dir string, r Report) (Files, error) {
	if err := durable.MakeDirs(dir, 0o750); err != nil {
		return Files{}, fmt.Errorf("make the directory of reports: %w", err)
	}
	base := filepath.Join(dir, r.Base())
	written := Files{Text: base + ".txt", JSON: base + ".json", HTML: base + ".html"}
	forms := []struct {
		path  string
		write func(io.Writer, Report) error
	}{{written.JSON, WriteJSON}, {written.HTML, WriteHTML}, {written.Text, WriteText}}
	var temps, shown []string
	err := func() error {
		for _, f := range forms {
			tmp, err := durable.Temp(f.path, 0o640, func(to *os.File) error { return f.write(to, r) })
			if err != nil {
				return fmt.Errorf("write the report: %w", err)
			}
			temps = append(temps, tmp)
		}
		for i, f := range forms {
			if err := os.Rename(temps[i], f.path); err != nil {
				return fmt.Errorf("show the report: %w", err)
			}
			shown = append(shown, f.path)
		}
		return durable.SyncDir(dir)
	}()
	if err == nil {
		return written, nil
	}
	for _, p := range append(temps, shown...) {
		if e := os.Remove(p); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove what was written of the report: %w", e))
		}
	}
	return Files{}, err
}
