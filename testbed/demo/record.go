package demo

import (
	"fmt"
	"os"
	"path/filepath"

	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/film"
)

// checkRecord refuses a file that could not take a recording, before anything is done.
func checkRecord(file string) error {
	if filepath.Ext(file) != ".svg" {
		return fail.Errorf(fail.Invalid, "--record: value %q: want a name that ends in .svg", file)
	}
	if st, err := os.Stat(filepath.Dir(file)); err != nil || !st.IsDir() {
		return fail.Errorf(fail.Invalid, "--record: value %q: want a file in a folder that is there", file)
	}
	if st, err := os.Lstat(file); err == nil && !st.Mode().IsRegular() {
		return fail.Errorf(fail.Invalid, "--record: value %q: want a file, and this is none", file)
	}
	return nil
}

// record writes what was recorded, in place of a file that is there.
func record(f *film.Film, file string) error {
	if err := durable.WriteFile(file, f.SVG(), 0o644); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	return nil
}

// typed is the command line without what is for the recording only.
func (f flags) typed() string {
	line := "holdfast-lab demo --fault " + f.fault
	switch {
	case f.auto:
		return line + " --auto"
	case f.real:
		return line + " --real"
	}
	return line
}
