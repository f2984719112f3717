package config

import (
	"os"
	"strings"
	"testing"
)

// fixture reads a file of testdata.
func fixture(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// change replaces old, which must occur exactly once, by with.
func change(t testing.TB, text, old, with string) string {
	t.Helper()
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%q occurs %d times in the fixture, want once", old, n)
	}
	return strings.Replace(text, old, with, 1)
}

// wantFaults compares faults with "PATH: PART OF THE LINE", all and in order.
func wantFaults(t testing.TB, got []Fault, want ...string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := 0; ok && i < len(want); i++ {
		path, part, _ := strings.Cut(want[i], ": ")
		ok = got[i].Where() == path && strings.Contains(got[i].Error(), part)
	}
	if !ok {
		t.Errorf("faults:\n%v\nwant:\n%s", Faults(got), strings.Join(want, "\n"))
	}
}
