package need

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// fake records what became of a test.
type fake struct {
	testing.TB
	said string
}

func (f *fake) Helper()                          {}
func (f *fake) Skip(args ...any)                 { f.said = strings.TrimSpace(fmt.Sprintln(args...)); panic(f) }
func (f *fake) Skipf(format string, args ...any) { f.said = fmt.Sprintf(format, args...); panic(f) }
func (f *fake) Fatal(args ...any)                { f.said = "fatal: " + args[0].(error).Error(); panic(f) }

func said(call func(testing.TB)) (out string) {
	f := &fake{}
	defer func() {
		switch r := recover(); r {
		case nil:
		case any(f):
			out = f.said
		default:
			panic(r)
		}
	}()
	call(f)
	return "runs"
}

func TestWhatRunsWhen(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: neither runs, whatever the variable says")
	}
	lack := func() error { return errors.New("no such thing") }
	for _, c := range []struct {
		value       string
		real, drill string
	}{
		{"", "on real components: not wanted here (HOLDFAST_TESTS)", "a drill: not wanted here (HOLDFAST_TESTS)"},
		{"real", "runs", "a drill: not wanted here (HOLDFAST_TESTS)"},
		{"drills", "runs", "runs"},
		{"all", `fatal: HOLDFAST_TESTS="all": want real, drills, or nothing`, `fatal: HOLDFAST_TESTS="all": want real, drills, or nothing`},
	} {
		t.Setenv(Variable, c.value)
		if got := said(func(tb testing.TB) { Real(tb) }); got != c.real {
			t.Errorf("%s=%q: Real: %s", Variable, c.value, got)
		}
		if got := said(func(tb testing.TB) { Drill(tb, "P1") }); got != c.drill {
			t.Errorf("%s=%q: Drill: %s", Variable, c.value, got)
		}
		if got := said(func(tb testing.TB) { Drill(tb, "P1", lack) }); c.drill == "runs" && got != "missing: no such thing" {
			t.Errorf("%s=%q: a need that is not met: %s", Variable, c.value, got)
		}
	}
}

func TestProgramsNamesThePackage(t *testing.T) {
	if err := Programs("base-files", "sh")(); err != nil {
		t.Error(err)
	}
	if err := Programs("some-package", "no-such-program")(); err == nil || !strings.Contains(err.Error(), "some-package") {
		t.Errorf("%v", err)
	}
}
