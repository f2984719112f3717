package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/sim/explore"
)

// scenarioFile and goldenFile are the files of a scenario folder.
const (
	scenarioFile = "scenario.txt"
	goldenFile   = "want.events"
)

// ViolationError says that a simulation broke a rule. What it was has been
// printed; callers exit with status 1.
type ViolationError struct{ Count int }

func (e ViolationError) Error() string {
	return fmt.Sprintf("%d simulated runs broke a rule of the safety model", e.Count)
}

// Load reads the scenario of a folder. One that can not be read is
// fail.Invalid.
func Load(dir string) (Scenario, error) {
	file := filepath.Join(dir, scenarioFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return Scenario{}, fail.Errorf(fail.Invalid, "read scenario: %w", err)
	}
	s, err := Parse(string(text))
	if err != nil {
		return Scenario{}, fail.Errorf(fail.Invalid, "%s: %w", file, err)
	}
	return s, nil
}

// Folders lists the scenario folders in dir, or dir itself when it is one. A dir
// without any is fail.Invalid.
func Folders(dir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(dir, scenarioFile)); err == nil {
		return []string{dir}, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fail.Errorf(fail.Invalid, "look for a scenario in %s: %w", dir, err)
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fail.Errorf(fail.Invalid, "look for scenarios: %w; want a folder with %s, or with folders that have one", err, scenarioFile)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*", scenarioFile))
	if err != nil {
		return nil, fmt.Errorf("look for scenarios in %s: %w", dir, err)
	}
	if len(found) == 0 {
		return nil, fail.Errorf(fail.Invalid, "look for scenarios in %s: there is neither %s nor a folder with one", dir, scenarioFile)
	}
	for i, f := range found {
		found[i] = filepath.Dir(f)
	}
	slices.Sort(found)
	return found, nil
}

// Command is `holdfast-lab simulate`.
func Command() *cobra.Command {
	var seed uint64
	var runs int
	var output string
	var exhaustive bool
	var small explore.Options
	cmd := &cobra.Command{
		Use:   "simulate [DIR]",
		Short: "Simulate a cluster with faults in virtual time and check the safety model",
		Long: "Runs the scenario in DIR, or all scenario folders below it; without DIR, random scenarios.\n" +
			"Every rule of the safety model is checked after each step against the simulated hosts.\n" +
			"A run that breaks one is printed with the scenario that repeats it.\n" +
			"With --exhaustive, every course of a small cluster is followed up to --depth steps.",
		Example:       "  holdfast-lab simulate --runs 3000\n  holdfast-lab simulate scenarios/one-way-cut",
		Args:          cobra.MaximumNArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fail.Errorf(fail.Invalid, "--output %q: want text or json", output)
			}
			if runs < 1 || seed < 1 {
				return fail.Errorf(fail.Invalid, "--runs %d --seed %d: want at least 1", runs, seed)
			}
			if exhaustive {
				if len(args) > 0 {
					return fail.Errorf(fail.Invalid, "--exhaustive takes no folder")
				}
				if small.Depth < 1 || small.Limit <= 0 {
					return fail.Errorf(fail.Invalid, "--depth %d --limit %s: want at least 1, and more than 0s", small.Depth, small.Limit)
				}
				return explore.Main(cmd.Context(), cmd.OutOrStdout(), small, output)
			}
			if cmd.Flags().Changed("depth") || cmd.Flags().Changed("limit") {
				return fail.Errorf(fail.Invalid, "--depth %d --limit %s: only with --exhaustive", small.Depth, small.Limit)
			}
			var r Report
			var err error
			if len(args) == 1 {
				r, err = simulateDir(cmd.OutOrStdout(), args[0], output == "text")
			} else {
				r, err = Campaign(seed, runs)
			}
			if err == nil {
				err = r.print(cmd.OutOrStdout(), output)
			}
			if err == nil && len(r.Failed) > 0 {
				err = ViolationError{len(r.Failed)}
			}
			return err
		},
	}
	cmd.Flags().Uint64Var(&seed, "seed", 1, "seed of the first random scenario")
	cmd.Flags().IntVar(&runs, "runs", 300, "number of random scenarios")
	cmd.Flags().BoolVar(&exhaustive, "exhaustive", false, "follow every course of a small cluster")
	cmd.Flags().IntVar(&small.Depth, "depth", explore.DefaultDepth, "with --exhaustive: steps of a course, at most")
	cmd.Flags().DurationVar(&small.Limit, "limit", explore.DefaultLimit, "with --exhaustive: time after which the search ends")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "output format: text or json")
	return cmd
}

// simulateDir runs the scenarios of a folder. The events of a single one are
// printed when show is set.
func simulateDir(out io.Writer, dir string, show bool) (Report, error) {
	var r Report
	dirs, err := Folders(dir)
	if err != nil {
		return r, err
	}
	var all []Scenario // all are read before one runs
	for _, d := range dirs {
		s, err := Load(d)
		if err != nil {
			return r, err
		}
		all = append(all, s)
	}
	for i, d := range dirs {
		lines, err := r.add(all[i], filepath.Base(d))
		if err != nil { // a command that can not be understood
			return r, fail.Errorf(fail.Invalid, "%s: %w", filepath.Join(d, scenarioFile), err)
		}
		if show && len(dirs) == 1 {
			if _, err := io.WriteString(out, Golden(lines)); err != nil {
				return r, fmt.Errorf("print events: %w", err)
			}
		}
	}
	return r, nil
}

// Golden is the text form of a run's events.
func Golden(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// print writes the report in the format text or json.
func (r Report) print(out io.Writer, format string) error {
	if format == "json" {
		failed := r.Failed
		if failed == nil {
			failed = []Failure{}
		}
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err := e.Encode(struct {
			Runs       int       `json:"runs"`
			Steps      int64     `json:"steps"`
			Violations []Failure `json:"violations"`
			Outage     int64     `json:"longest_outage_ms"`
			Fenced     int       `json:"fenced"`
			False      int       `json:"false_fences"`
		}{r.Runs, r.Steps, failed, r.Outage.Milliseconds(), r.Fenced, r.False})
		if err != nil {
			return fmt.Errorf("print report: %w", err)
		}
		return nil
	}
	for _, f := range r.Failed {
		if _, err := fmt.Fprintln(out, f); err != nil {
			return fmt.Errorf("print violation: %w", err)
		}
	}
	_, err := fmt.Fprintf(out, "%d runs, %d steps, %d violations, longest outage %s (seed %d), %d hosts fenced, false_fences %d\n",
		r.Runs, r.Steps, len(r.Failed), r.Outage.Round(time.Millisecond), r.Longest, r.Fenced, r.False)
	if err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return nil
}
