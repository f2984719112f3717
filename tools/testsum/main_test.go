package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

const passing = `{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestOne/sub","Output":"=== RUN   TestOne/sub\n"}
{"Action":"pass","Package":"a","Test":"TestOne/sub","Elapsed":3}
{"Action":"pass","Package":"a","Test":"TestOne","Elapsed":4}
{"Action":"output","Package":"a","Test":"TestTwo","Output":"    a_test.go:7: no root\n"}
{"Action":"skip","Package":"a","Test":"TestTwo","Elapsed":9}
{"Action":"attr","Package":"a","Test":"TestThree","Key":"repeated","Value":"vm1 on h2: soft lockup"}
{"Action":"attr","Package":"a","Test":"TestThree","Key":"colour","Value":"red"}
{"Action":"pass","Package":"a","Test":"TestThree","Elapsed":0.5}
{"Action":"pass","Package":"a","Elapsed":8}
`

const failing = `not an event
{"Action":"output","Package":"b","Test":"TestFour","Output":"    b_test.go:9: want 4\n"}
{"Action":"output","Package":"b","Test":"TestFour","Output":"--- FAIL: TestFour (2.00s)\n"}
{"Action":"fail","Package":"b","Test":"TestFour","Elapsed":2}
{"Action":"fail","Package":"b","Elapsed":2}
`

func TestRunsAreSummedUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sum.json")
	var shown, total strings.Builder
	if ok, err := record(strings.NewReader(passing), &shown, file); !ok || err != nil {
		t.Errorf("a run without a failure: %t, %v", ok, err)
	}
	if ok, err := record(strings.NewReader(failing), &shown, file); ok || err != nil {
		t.Errorf("a run with a failure: %t, %v", ok, err)
	}
	want := "repeated: a TestThree: vm1 on h2: soft lockup\nok    a 8.0s\nnot an event\n--- FAIL: TestFour (2.00s)\n    b_test.go:9: want 4\nFAIL  b 2.0s\n"
	if shown.String() != want {
		t.Errorf("shown: %s\nwant: %s", shown.String(), want)
	}
	if ok, err := sum(&total, file); ok || err != nil {
		t.Errorf("the sum: %t, %v", ok, err)
	}
	want = `slow: TestOne/sub a 3.0s
slow: TestFour b 2.0s
slow: TestOne a 1.0s
slow: TestThree a 0.5s
skipped: a TestTwo: a_test.go:7: no root
repeated: a TestThree: vm1 on h2: soft lockup
FAIL
failed: b TestFour
  --- FAIL: TestFour (2.00s)
      b_test.go:9: want 4
3 passed, 1 failed, 1 skipped
`
	if total.String() != want {
		t.Errorf("the sum: %s\nwant: %s", total.String(), want)
	}
}

// TestAProcessThatDies: what its tests said is shown, though none of them has ended.
func TestAProcessThatDies(t *testing.T) {
	run := `{"Action":"run","Package":"a","Test":"TestOne"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"fatal error: out of stack\n"}
{"Action":"output","Package":"b","Test":"TestTwo","Output":"of another package\n"}
{"Action":"output","Package":"a","Output":"FAIL a\n"}
{"Action":"fail","Package":"a","Elapsed":1}
`
	var shown strings.Builder
	if ok, err := record(strings.NewReader(run), &shown, filepath.Join(t.TempDir(), "sum.json")); ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
	if want := "FAIL a\nfatal error: out of stack\nFAIL  a 1.0s\n"; shown.String() != want {
		t.Errorf("shown: %s\nwant: %s", shown.String(), want)
	}
}

// TestARunThatIsCutShort: go test was killed, say. No test has failed, and yet the run has.
func TestARunThatIsCutShort(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sum.json")
	if _, err := record(strings.NewReader(passing), &strings.Builder{}, file); err != nil {
		t.Fatal(err)
	}
	if ok, err := list(&strings.Builder{}, file); ok || err != nil {
		t.Errorf("nothing has failed: %t, %v", ok, err)
	}
	run := `{"Action":"start","Package":"a"}
{"Action":"start","Package":"b"}
{"Action":"output","Package":"a","Test":"TestOne","Output":"begins\n"}
{"Action":"skip","Package":"b"}
`
	var shown, again strings.Builder
	if ok, err := record(strings.NewReader(run), &shown, file); ok || err != nil || shown.String() != "FAIL  a: it has not ended\nbegins\n" {
		t.Errorf("%t, %v, shown: %s", ok, err, shown.String())
	}
	if ok, err := list(&again, file); !ok || err != nil || again.String() != "" {
		t.Errorf("again: %q, %t, %v", again.String(), ok, err)
	}
}

func TestTenSlowTestsAreTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sum.json")
	for p := range 3 {
		var run strings.Builder
		for i := range 8 {
			fmt.Fprintf(&run, `{"Action":"pass","Package":"p%d","Test":"Test%d","Elapsed":%d}`+"\n", p, i, 10*i+p)
		}
		if _, err := record(strings.NewReader(run.String()), &strings.Builder{}, file); err != nil {
			t.Fatal(err)
		}
	}
	var total strings.Builder
	if ok, err := sum(&total, file); !ok || err != nil {
		t.Errorf("the sum: %t, %v", ok, err)
	}
	lines := strings.Split(strings.TrimSpace(total.String()), "\n")
	if len(lines) != 11 || lines[0] != "slow: Test7 p2 72.0s" || lines[9] != "slow: Test4 p2 42.0s" || lines[10] != "24 passed, 0 failed, 0 skipped" {
		t.Errorf("%s", total.String())
	}
}

func TestNothingIsNoSuccess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sum.json")
	if _, err := record(strings.NewReader(""), &strings.Builder{}, file); err != nil {
		t.Fatal(err)
	}
	if ok, err := sum(&strings.Builder{}, file); ok || err != nil {
		t.Errorf("%t, %v", ok, err)
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

// TestWhatFailedBesideOthersRunsAgain: what passes then has not failed, but is told.
func TestWhatFailedBesideOthersRunsAgain(t *testing.T) {
	fails := func(test string, said ...string) (run string) {
		for _, l := range said {
			run += fmt.Sprintf(`{"Action":"output","Package":"b","Test":%q,"Output":%q}`+"\n", test, l+"\n")
		}
		return run + fmt.Sprintf(`{"Action":"fail","Package":"b","Test":%q}`+"\n", test)
	}
	passes := func(test string) string {
		return fmt.Sprintf(`{"Action":"pass","Package":"b","Test":%q}`+"\n", test)
	}
	late := fails("TestLate/sub", "    waited too long") + fails("TestLate") + passes("TestOther")
	final := `{"Action":"attr","Package":"b","Test":"TestLate","Key":"final","Value":"two hosts ran it"}` + "\n"
	many := late
	for i := range mostAgain {
		many += fails(fmt.Sprintf("Test%d", i))
	}
	for name, c := range map[string]struct {
		runs              []string
		again, sum, extra string
	}{
		"it passes":       {[]string{late, passes("TestLate/sub") + passes("TestLate")}, "b TestLate\n", "3 passed, 0 failed, 0 skipped", "repeated: b TestLate: failed beside others, passed alone"},
		"it fails again":  {[]string{late, late}, "b TestLate\n", "2 passed, 4 failed, 0 skipped", "failed: b TestLate/sub\n      waited too long"},
		"a promise":       {[]string{late + final, passes("TestLate")}, "", "2 passed, 2 failed, 0 skipped", "  final: two hosts ran it"},
		"a data race":     {[]string{fails("TestLate/sub", "WARNING: DATA RACE") + fails("TestLate"), passes("TestLate")}, "", "1 passed, 2 failed, 0 skipped", "  final: data race"},
		"a panic":         {[]string{fails("TestLate", "panic: nil map"), passes("TestLate")}, "", "1 passed, 1 failed, 0 skipped", "  final: panic"},
		"no test of it":   {[]string{late + `{"Action":"fail","Package":"c"}`}, "", "1 passed, 3 failed, 0 skipped", "failed: c\n"},
		"more than a few": {[]string{many}, "", fmt.Sprintf("1 passed, %d failed, 0 skipped", 2+mostAgain), ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "sum.json")
			var again, total strings.Builder
			for i, run := range c.runs {
				if _, err := record(strings.NewReader(run), &strings.Builder{}, file); err != nil {
					t.Fatal(err)
				}
				if i > 0 {
					continue
				}
				if ok, err := list(&again, file); !ok || err != nil || again.String() != c.again {
					t.Errorf("again: %q, %t, %v, want %q", again.String(), ok, err, c.again)
				}
			}
			ok, err := sum(&total, file)
			if err != nil || ok != strings.Contains(c.sum, " 0 failed") || !strings.HasSuffix(total.String(), c.sum+"\n") || !strings.Contains(total.String(), c.extra) {
				t.Errorf("%t, %v, %s", ok, err, total.String())
			}
		})
	}
}
