package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"holdfast/internal/host/action/program"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade/check/faults"
)

// Said reads what the programs of an attempt have said of trouble, and in the reports that they
// have announced. What can not be read is found, too. It is kept with the step.
func Said(t engine.Task, known *faults.Catalogue, src faults.Source, r program.Result) ([]faults.Hit, error) {
	if r.OutputFile == "" {
		return nil, nil
	}
	outputs, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(r.OutputFile)), "[0-9]*", filepath.Base(r.OutputFile)))
	if err != nil {
		return nil, fmt.Errorf("look what was said: %w", err)
	}
	var hits []faults.Hit
	for _, file := range outputs {
		said, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read what was said: %w", err)
		}
		hits = append(hits, known.Read(src, said)...)
		reports, unnamed := known.Reports(src, said)
		if unnamed {
			hits = append(hits, faults.NotRead(errors.New("a report is announced, and its file is not named")))
		}
		for _, report := range reports {
			more, err := known.Report(report, r.Began)
			if err != nil {
				more = []faults.Hit{faults.NotRead(err)}
			}
			hits = append(hits, more...)
		}
	}
	if r.Discarded > 0 {
		hits = append(hits, faults.NotRead(fmt.Errorf("%d bytes of what was said were not kept", r.Discarded)))
	}
	faults.Sort(hits)
	Tell(t, hits)
	return hits, nil
}

// SaidBy does the same for programs that are nobody's module. What can not be read is in the log.
func SaidBy(t engine.Task, r program.Result) {
	known, err := faults.Builtin()
	if err == nil {
		_, err = Said(t, known, faults.Source{}, r)
	}
	if err != nil {
		program.Say(t.Log, "%v", err)
	}
}

// Tell keeps with a step what was found, but for what is harmless.
func Tell(t engine.Task, hits []faults.Hit) {
	if t.Found == nil {
		return
	}
	found := []job.Finding{}
	for _, h := range hits {
		if h.Level != faults.Info && len(found) < faults.MaxHits {
			found = append(found, job.Finding{Fault: h.ID, Level: string(h.Level), File: h.File, Text: h.Text})
		}
	}
	t.Found(found)
}
