package main

import (
	"fmt"
	"strings"
	"testing"
)

const passing = `{"Action":"start","Package":"holdfast/a"}
{"Action":"run","Package":"holdfast/a","Test":"TestOne"}
{"Action":"output","Package":"holdfast/a","Test":"TestOne/sub","Output":"=== RUN   TestOne/sub\n"}
{"Action":"pass","Package":"holdfast/a","Test":"TestOne/sub","Elapsed":3}
{"Action":"pass","Package":"holdfast/a","Test":"TestOne","Elapsed":4}
{"Action":"output","Package":"holdfast/a","Test":"TestTwo","Output":"    a_test.go:7: missing: this needs root\n"}
{"Action":"skip","Package":"holdfast/a","Test":"TestTwo","Elapsed":9}
{"Action":"output","Package":"holdfast/a","Test":"TestThree","Output":"    a_test.go:9: a drill: not wanted here (HOLDFAST_TESTS)\n"}
{"Action":"skip","Package":"holdfast/a","Test":"TestThree","Elapsed":0}
{"Action":"attr","Package":"holdfast/a","Test":"TestFour","Key":"seed","Value":"77"}
{"Action":"attr","Package":"holdfast/a","Test":"TestFour","Key":"colour","Value":"red"}
{"Action":"pass","Package":"holdfast/a","Test":"TestFour","Elapsed":0.5}
{"Action":"pass","Package":"holdfast/a","Elapsed":8}
`

const failing = `not an event
{"Action":"output","Package":"holdfast/b","Test":"TestFour","Output":"    b_test.go:9: want 4\n"}
{"Action":"output","Package":"holdfast/b","Test":"TestFour","Output":"--- FAIL: TestFour (2.00s)\n"}
{"Action":"fail","Package":"holdfast/b","Test":"TestFour","Elapsed":2}
{"Action":"fail","Package":"holdfast/b","Elapsed":2}
`

// told reads runs, and gives what was shown of them.
func told(t *testing.T, runs ...string) (sum counts, shown string) {
	t.Helper()
	var out strings.Builder
	for _, run := range runs {
		var c counts
		if err := c.read(strings.NewReader(run), &out, func(pkg, how string, seconds float64) { fmt.Fprintf(&out, "%s %s %.1f\n", how, pkg, seconds) }); err != nil {
			t.Fatal(err)
		}
		sum.add(&c)
		sum.seed += c.seed
	}
	return sum, out.String()
}

func TestRunsAreSummedUp(t *testing.T) {
	sum, shown := told(t, passing, failing)
	if want := "ok holdfast/a 8.0\nnot an event\n--- FAIL: TestFour (2.00s)\n    b_test.go:9: want 4\nFAIL holdfast/b 2.0\n"; shown != want {
		t.Errorf("shown: %s\nwant: %s", shown, want)
	}
	var total strings.Builder
	sum.print(&total)
	if want := `slow: TestOne/sub a 3.0s
slow: TestFour b 2.0s
slow: TestOne a 1.0s
slow: TestFour a 0.5s
skipped: a TestTwo: a_test.go:7: missing: this needs root
FAIL
failed: b TestFour
  --- FAIL: TestFour (2.00s)
      b_test.go:9: want 4
3 passed, 1 failed, 2 skipped
`; total.String() != want {
		t.Errorf("the sum: %s\nwant: %s", total.String(), want)
	}
	if sum.seed != "77" || sum.unwanted != 1 || sum.tests != 3 {
		t.Errorf("seed %q, %d not wanted, %d tests", sum.seed, sum.unwanted, sum.tests)
	}
}

// TestAProcessThatDies: what its tests said is shown, though none of them has ended.
func TestAProcessThatDies(t *testing.T) {
	sum, shown := told(t, `{"Action":"run","Package":"holdfast/a","Test":"TestOne"}
{"Action":"output","Package":"holdfast/a","Test":"TestOne","Output":"fatal error: out of stack\n"}
{"Action":"output","Package":"holdfast/b","Test":"TestTwo","Output":"of another package\n"}
{"Action":"output","Package":"holdfast/a","Output":"FAIL a\n"}
{"Action":"fail","Package":"holdfast/a","Elapsed":1}
`)
	if want := "FAIL a\nfatal error: out of stack\nFAIL holdfast/a 1.0\n"; shown != want || len(sum.Failed) != 1 {
		t.Errorf("%s, %v", shown, sum.Failed)
	}
}

// TestARunThatIsCutShort: go test was killed, say. No test has failed, and yet the run has.
func TestARunThatIsCutShort(t *testing.T) {
	sum, shown := told(t, `{"Action":"start","Package":"holdfast/a"}
{"Action":"start","Package":"holdfast/b"}
{"Action":"output","Package":"holdfast/a","Test":"TestOne","Output":"begins\n"}
{"Action":"skip","Package":"holdfast/b"}
`)
	if shown != "begins\nFAIL holdfast/a 0.0\n" || len(sum.Failed) != 1 || sum.Failed[0].Name != "holdfast/a" {
		t.Errorf("%q, %v", shown, sum.Failed)
	}
}

// TestADamagedEmulator: neither passed nor failed.
func TestADamagedEmulator(t *testing.T) {
	sum, _ := told(t, `{"Action":"attr","Package":"holdfast/e2e","Test":"TestX","Key":"verdict","Value":"damaged: vm1 on h2: soft lockup"}
{"Action":"output","Package":"holdfast/e2e","Test":"TestX","Output":"    x_test.go:1: the emulator was damaged: vm1 on h2\n"}
{"Action":"skip","Package":"holdfast/e2e","Test":"TestX","Elapsed":9}
`)
	if len(sum.Damaged) != 1 || sum.Damaged[0] != "holdfast/e2e TestX: damaged: vm1 on h2: soft lockup" || len(sum.Failed) != 0 || sum.Passed != 0 {
		t.Errorf("%+v", sum)
	}
}

// TestTheEndsOfALongFailure: a test that said much is told by its verdict and its last words.
func TestTheEndsOfALongFailure(t *testing.T) {
	var said []string
	for i := range first + last + 5 {
		said = append(said, fmt.Sprintf("line %d\n", i))
	}
	lines := strings.Split(strings.TrimSpace(ends(said)), "\n")
	if len(lines) != first+1+last || lines[0] != "line 0" || lines[first] != "..." || lines[first+last] != fmt.Sprintf("line %d", first+last+4) {
		t.Errorf("%q", lines)
	}
}

func TestWhatWasExpectedIsThreeLines(t *testing.T) {
	got := expected([]failure{{"x", "--- FAIL: TestX (1.00s)\n    a_test.go:1: got 3\n    a_test.go:2: want 4\nnoise\n    b_test.go:7: and\n    b_test.go:8: more\n"}})
	if strings.Join(got, "|") != "a_test.go:1: got 3|a_test.go:2: want 4|b_test.go:7: and" {
		t.Errorf("%q", got)
	}
	if got := expected([]failure{{"x", "panic: nil map\ngoroutine 7\n"}}); strings.Join(got, "|") != "panic: nil map|goroutine 7" {
		t.Errorf("%q", got)
	}
}
