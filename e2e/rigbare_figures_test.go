//go:build bench

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/install"
)

// installations is how often TestInstallFigures installs.
const installations = 5

// TestInstallFigures takes three hosts that have nothing of Holdfast to a management VM that
// runs, and back, five times, and tells how long the parts of the installation took, as it
// says itself (install.Seconds). The program goes to all hosts each time. What is read for
// the first time comes from the disk: an installation before them is not counted.
func TestInstallFigures(t *testing.T) {
	needLab(t)
	const resultsVar = "HOLDFAST_BENCH_RESULTS"
	path := os.Getenv(resultsVar)
	if path == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	b := newBareRig(t, 3)
	args := b.files(t, "h1", b.lab.BareCluster())
	b.exe = install.Command // for status
	var all []install.Seconds
	for i := range installations + 1 {
		exe := b.exe
		b.exe = b.lab.Exe()
		res, said, err := b.install(t, "h1", args...)
		b.exe = exe
		if err != nil || !res.OK || res.Running == "" || len(res.Changed) != 3 {
			t.Fatalf("install: %v\n%s\n%+v", err, said, res)
		}
		b.runs(t, 3)
		b.uninstall(t, "h1", args...)
		if i > 0 {
			all = append(all, res.Seconds)
		}
	}
	part := func(f func(install.Seconds) float64) string {
		var s []float64
		for _, x := range all {
			s = append(s, f(x))
		}
		slices.Sort(s)
		return fmt.Sprintf("%.2f (%.2f-%.2f)", s[len(s)/2], s[0], s[len(s)-1])
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("installation of three hosts that have nothing of Holdfast, %d runs, seconds, median "+
		"(min-max): whole %s; checks %s, files %s, cluster %s, start %s; load %s", len(all),
		part(func(s install.Seconds) float64 { return s.Checks + s.Copy + s.Cluster + s.Start }),
		part(func(s install.Seconds) float64 { return s.Checks }), part(func(s install.Seconds) float64 { return s.Copy }),
		part(func(s install.Seconds) float64 { return s.Cluster }),
		part(func(s install.Seconds) float64 { return s.Start }), strings.Fields(string(load))[0])
	t.Log(line)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f, line); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
