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
{"Action":"output","Package":"holdfast/a","Test":"TestLong","Output":"    a_test.go:9: a drill: not wanted here (HOLDFAST_TESTS)\n"}
{"Action":"skip","Package":"holdfast/a","Test":"TestLong"}
{"Action":"attr","Package":"holdfast/a","Test":"TestThree","Key":"seed","Value":"4711"}
{"Action":"attr","Package":"holdfast/a","Test":"TestThree","Key":"colour","Value":"red"}
{"Action":"pass","Package":"holdfast/a","Test":"TestThree","Elapsed":0.5}
{"Action":"attr","Package":"holdfast/a","Test":"TestFive","Key":"verdict","Value":"damaged: vm1 on h2: soft lockup"}
{"Action":"output","Package":"holdfast/a","Test":"TestFive","Output":"    a_test.go:12: an emulator was damaged\n"}
{"Action":"skip","Package":"holdfast/a","Test":"TestFive"}
{"Action":"pass","Package":"holdfast/a","Elapsed":8}
`

const failing = `not an event
{"Action":"build-output","ImportPath":"holdfast/b","Output":"# holdfast/b\n"}
{"Action":"output","Package":"holdfast/b","Test":"TestFour","Output":"    b_test.go:9: want 4\n"}
{"Action":"output","Package":"holdfast/b","Test":"TestFour","Output":"--- FAIL: TestFour (2.00s)\n"}
{"Action":"fail","Package":"holdfast/b","Test":"TestFour","Elapsed":2}
{"Action":"fail","Package":"holdfast/b","Elapsed":2}
`

// counted reads a run, and what is shown of it on the way.
func counted(t *testing.T, run string) (c *counts, shown string) {
	t.Helper()
	var out strings.Builder
	c = new(counts)
	if err := c.read(strings.NewReader(run), &out, func(pkg, how string,
		seconds float64) {
		fmt.Fprintf(&out, "%s %s %.1f\n", how, pkg, seconds)
	}); err != nil {
		t.Fatal(err)
	}
	return c, out.String()
}

func printed(c *counts) string {
	var out strings.Builder
	c.print(&out)
	return out.String()
}

func TestRunsAreSummedUp(t *testing.T) {
	var sum counts
	good, shown := counted(t, passing)
	if shown != "ok holdfast/a 8.0\n" || good.seed != "4711" || good.tests != 2 || good.unwanted != 1 {
		t.Errorf("shown %q; seed %q, %d tests, %d not wanted", shown, good.seed, good.tests, good.unwanted)
	}
	sum.add(good)
	bad, shown := counted(t, failing)
	if want := "not an event\n# holdfast/b\n--- FAIL: TestFour (2.00s)\n    b_test.go:9: want 4\nFAIL holdfast/b 2.0\n"; shown != want {
		t.Errorf("shown: %s\nwant: %s", shown, want)
	}
	sum.add(bad)
	want := `slow: TestOne/sub a 3.0s
slow: TestFour b 2.0s
slow: TestOne a 1.0s
slow: TestThree a 0.5s
skipped: a TestFive: a_test.go:12: an emulator was damaged
left out, as this is not root: 1 tests, most on real components
does not count: a TestFive: damaged: vm1 on h2: soft lockup
FAIL
failed: b TestFour
  --- FAIL: TestFour (2.00s)
      b_test.go:9: want 4
3 passed, 1 failed, 3 skipped
`
	if got := printed(&sum); got != want {
		t.Errorf("the sum: %s\nwant: %s", got, want)
	}
}

// TestWhatIsMissingFails: where make test has installed what its tests need, none is left out for want of it.
func TestWhatIsMissingFails(t *testing.T) {
	c := &counts{Skipped: []string{"e2e TestDemo: demo_test.go:25: missing: ipmi_sim", "b TestTwo: b_test.go:9: it makes a unit of systemd"}}
	c.insist()
	if len(c.Skipped) != 1 || len(c.Failed) != 1 || c.Failed[0] != (failure{"e2e TestDemo", "demo_test.go:25: missing: ipmi_sim\n"}) {
		t.Errorf("skipped %q, failed %+v", c.Skipped, c.Failed)
	}
}

// TestAProcessThatDies: what its tests said is shown, and is in the sum, though none of them has ended.
func TestAProcessThatDies(t *testing.T) {
	c, shown := counted(t, `{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"fatal error: out of stack\n"}
{"Action":"output","Package":"b","Test":"TestTwo","Output":"of another package\n"}
{"Action":"output","Package":"a","Output":"FAIL a\n"}
{"Action":"fail","Package":"a","Elapsed":1}
`)
	if want := "FAIL a\nfatal error: out of stack\nFAIL a 1.0\n"; shown != want {
		t.Errorf("shown: %s\nwant: %s", shown, want)
	}
	if len(c.Failed) != 1 || c.Failed[0].Name != "a" || c.Failed[0].Said != "FAIL a\nfatal error: out of stack\n" {
		t.Errorf("failed: %+v", c.Failed)
	}
}

// TestARunThatIsCutShort: go test was killed, say. No test has failed, and yet the run has.
func TestARunThatIsCutShort(t *testing.T) {
	c, shown := counted(t, `{"Action":"start","Package":"a"}
{"Action":"start","Package":"b"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"begins\n"}
{"Action":"skip","Package":"b"}
`)
	if shown != "begins\nFAIL a 0.0\n" || len(c.Failed) != 1 || c.Failed[0].Name != "a" {
		t.Errorf("shown %q, failed %+v", shown, c.Failed)
	}
}

// TestALineThatIsNoEvent, as the output of a build that fails.
func TestALineThatIsNoEvent(t *testing.T) {
	c, shown := counted(t, "no newline at its end")
	if shown != "no newline at its end" || c.Passed != 0 || len(c.Failed) != 0 {
		t.Errorf("shown %q, %+v", shown, c)
	}
}

func TestTenSlowTestsAreTold(t *testing.T) {
	var sum counts
	for p := range 3 {
		var run strings.Builder
		for i := range 8 {
			fmt.Fprintf(&run, `{"Action":"pass","Package":"p%d","Test":"Test%d","Elapsed":%d}`+"\n", p, i, 10*i+p)
		}
		c, _ := counted(t, run.String())
		sum.add(c)
	}
	lines := strings.Split(strings.TrimSpace(printed(&sum)), "\n")
	if len(lines) != 11 || lines[0] != "slow: Test7 p2 72.0s" || lines[9] != "slow: Test4 p2 42.0s" ||
		lines[10] != "24 passed, 0 failed, 0 skipped" {
		t.Errorf("%q", lines)
	}
}

// TestTheEndsOfALongFailure: a test that said much is told by its verdict and its last words.
func TestTheEndsOfALongFailure(t *testing.T) {
	var said []string
	for i := range first + last + 5 {
		said = append(said, fmt.Sprintf("line %d\n", i))
	}
	lines := strings.Split(strings.TrimSpace(ends(said)), "\n")
	if len(lines) != first+1+last || lines[0] != "line 0" || lines[first] != "..." ||
		lines[first+last] != fmt.Sprintf("line %d", first+last+4) {
		t.Errorf("%q", lines)
	}
}

// TestWhatWasExpected: what tests said first and last, or three lines of a panic.
func TestWhatWasExpected(t *testing.T) {
	for name, c := range map[string]struct {
		in   []failure
		want string
	}{
		"tests": {[]failure{
			{"a TestOne", "--- FAIL: TestOne (0.1s)\n    a_test.go:3: got 1\n        want 2\n    other.go:9: and more\n"},
			{"a TestTwo", "--- FAIL: TestTwo\n    a_test.go:5: got 3, want 4\n    a_test.go:6: a fourth line\n"},
		}, "a_test.go:3: got 1|want 2|a_test.go:5: got 3, want 4|a_test.go:6: a fourth line"},
		"a long message": {[]failure{{"a TestOne", "    a_test.go:3: ended:\n        1\n        2\n        3\n       " +
			" 4\n        5\n        the end\n"}}, "a_test.go:3: ended:|2|3|4|5|the end"},
		"a panic": {[]failure{{"a", "panic: nil map\n\ngoroutine 7 [running]:\nmain.x()\n"}}, "panic: nil map||goroutine 7 [running]:"},
		"nothing": {nil, ""},
	} {
		if got := strings.Join(expected(c.in), "|"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestAFuzzTestIsOutOfTime: what Go says at the end of -fuzztime is no failure, and an input that fails is one.
func TestAFuzzTestIsOutOfTime(t *testing.T) {
	progress := "--- FAIL: FuzzPort (30.02s)\n=== RUN   FuzzPort\nfuzz: elapsed: 27s, execs: 81 (3/sec), new interesting: 1 (total: 4)\n...\n"
	for said, failed := range map[string]int{
		progress + "    context deadline exceeded\n=== NAME  \n":                                                         0,
		progress + "    --- FAIL: FuzzPort (0.00s)\n        port_test.go:7: context deadline exceeded\n":                 1,
		progress + "    fuzzing process hung or terminated unexpectedly: exit status 2\n    context deadline exceeded\n": 1,
		progress:          1,
		"exit status 1\n": 1,
	} {
		c := &counts{Failed: []failure{{"port FuzzPort", said}}}
		if c.outOfTime(); len(c.Failed) != failed || c.Passed != 1-failed {
			t.Errorf("%q: %d failed, %d passed, want %d failed", said, len(c.Failed), c.Passed, failed)
		}
	}
}
