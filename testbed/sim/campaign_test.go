package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// scale makes campaigns smaller under the race detector, which is ten times
// slower.
func scale(runs int) int {
	if try.Race {
		return max(1, runs/10)
	}
	return runs
}

// TestCampaign runs scenarios of a seed of its own, which it tells: `simulate --seed` repeats them.
func TestCampaign(t *testing.T) {
	runs := 350
	if testing.Short() {
		runs = 30
	}
	campaign(t, scale(runs))
}

// TestCampaignTriesFenceDevices: among scenarios of a known seed are hosts that were switched off, healthy ones, too.
func TestCampaignTriesFenceDevices(t *testing.T) {
	r, err := Campaign(26001, 20)
	if err != nil {
		t.Fatal(err)
	}
	if r.Fenced == 0 || r.False == 0 {
		t.Errorf("%d hosts fenced, %d of them healthy: choose a seed with some, or Random makes none any more", r.Fenced, r.False)
	}
}

// TestCampaignAtLength is for seeds that nobody has seen yet.
func TestCampaignAtLength(t *testing.T) {
	need.Drill(t, "P1, P2: thousands of random scenarios of a new seed break no rule of the safety model")
	campaign(t, scale(20_000))
}

func campaign(t *testing.T, runs int) {
	seed := rand.Uint64N(1 << 40)
	t.Attr("seed", strconv.FormatUint(seed, 10))
	r, err := Campaign(seed, runs)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failed {
		t.Error(f)
	}
	t.Logf("%d runs, %d steps, longest outage %s (seed %d), %d fenced, %d false", r.Runs, r.Steps, r.Outage, r.Longest, r.Fenced, r.False)
	if runs >= 20_000 && (r.Fenced == 0 || r.False == 0) { // of some hundred seeds, none may have one
		t.Errorf("%d hosts fenced, %d of them healthy: the campaign does not try fence devices", r.Fenced, r.False)
	}
	if r.Outage == 0 {
		t.Error("no run had an outage: the campaign does not disturb the guest")
	}
}

// TestCampaignRepeats checks that a seed always gives the same events.
func TestCampaignRepeats(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		s, err := Parse(Random(seed))
		if err != nil {
			t.Fatal(err)
		}
		a, err := Run(s, false)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Run(s, false)
		if err != nil {
			t.Fatal(err)
		}
		if a.Steps != b.Steps || Golden(a.Lines) != Golden(b.Lines) {
			t.Fatalf("seed %d: two runs differ: %d and %d steps", seed, a.Steps, b.Steps)
		}
	}
}

// TestFocus checks that the scenarios in which mutants are looked for break
// no rule by themselves.
func TestFocus(t *testing.T) {
	need.Seconds(t)
	focused(t, scale(10))
}

func TestFocusAtLength(t *testing.T) {
	need.Drill(t, "P1, P2: scenarios that lead to rare states break no rule of the safety model; mutants are looked for in them")
	focused(t, scale(500))
}

func focused(t *testing.T, runs int) {
	for _, focus := range focuses() {
		for seed := uint64(1); seed <= uint64(runs); seed++ {
			s, err := Parse(random(seed, focus.add))
			if err != nil {
				t.Fatal(err)
			}
			r, err := Run(s, false)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Violations) > 0 {
				t.Errorf("focus %s, seed %d: %v", focus.name, seed, r.Violations)
			}
		}
	}
}

func simulate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := Command()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestCommand(t *testing.T) {
	out, err := simulate(t, "--runs", "2", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Runs       int       `json:"runs"`
		Steps      int64     `json:"steps"`
		Violations []Failure `json:"violations"`
		Outage     *int64    `json:"longest_outage_ms"`
		False      *int      `json:"false_fences"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Runs != 2 || got.Steps == 0 || got.Violations == nil || got.Outage == nil || got.False == nil {
		t.Errorf("got %s", out)
	}
	out, err = simulate(t, "../../scenarios/first-start")
	if err != nil || !strings.Contains(out, "started host=h1 epoch=1.1") || !strings.Contains(out, "1 runs") {
		t.Errorf("one folder: %v\n%s", err, out)
	}
	for _, args := range [][]string{{"-o", "xml"}, {"--runs", "0"}, {t.TempDir()},
		{"--exhaustive", t.TempDir()}, {"--depth", "3"}} {
		if _, err := simulate(t, args...); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestCommandExhaustive(t *testing.T) {
	out, err := simulate(t, "--exhaustive", "--depth", "3", "-o", "json")
	var got struct {
		Depth      int               `json:"depth"`
		States     int64             `json:"states"`
		Violations []json.RawMessage `json:"violations"`
		Complete   bool              `json:"complete"`
	}
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.Depth != 3 || got.States < 1000 ||
		got.Violations == nil || !got.Complete {
		t.Errorf("%v: %s", err, out)
	}
}

func TestCommandViolation(t *testing.T) {
	dir := t.TempDir()
	text := "hosts h1 h2 h3\nclock h1 0.6\nat 2s want run\nat 10s agent h1 freeze\nend 40s\n"
	writeFile(t, dir+"/"+scenarioFile, text)
	out, err := simulate(t, dir)
	var v ViolationError
	if !errors.As(err, &v) || v.Count != 1 || !strings.Contains(out, "false-proof") || !strings.Contains(out, "--- scenario\nhosts h1 h2 h3") {
		t.Fatalf("got %v\n%s", err, out)
	}
}
