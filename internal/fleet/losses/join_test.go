package losses

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var joinBegan = time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)

func joinAt(d time.Duration) Moment { return Moment{joinBegan.Add(d)} }

// from is a result of a minute from a vantage point, to 10.0.0.1: 10 packets a second. gaps are
// pairs of when one began and how long it was, in ms.
func from(name string, gaps ...float64) *Result {
	t := Target{Address: Address{IP: netip.MustParseAddr("10.0.0.1")}, By: ICMP, Sent: 600, Gaps: []Gap{}}
	for i := 0; i < len(gaps); i += 2 {
		t.Gaps = append(t.Gaps, Gap{At: joinAt(time.Duration(gaps[i]) * time.Millisecond), MS: gaps[i+1]})
		t.Lost += max(1, int64(gaps[i+1]/100))
		t.LongestMS = max(t.LongestMS, gaps[i+1])
	}
	r := &Result{Name: name, Began: joinAt(0), Ended: joinAt(time.Minute), Rate: 10, Targets: []Target{t}}
	r.Sum()
	return r
}

// blind has a result tell when it did not watch: pairs of when and how long, in ms. Its gaps are without these times.
func blind(r *Result, times ...float64) *Result {
	t := &r.Targets[0]
	for i := 0; i < len(times); i += 2 {
		t.Unwatched = append(t.Unwatched, Gap{At: joinAt(time.Duration(times[i]) * time.Millisecond), MS: times[i+1]})
		t.UnwatchedMS += times[i+1]
	}
	r.Sum()
	return r
}

func spansOf(t JoinedTarget) (out []string) {
	for _, s := range t.Spans {
		out = append(out, fmt.Sprint(s.Kind, " ", s.At.Sub(joinBegan).Milliseconds(), " ", s.MS, " ", strings.Join(s.From, "+")))
	}
	return out
}

func TestJoinJudges(t *testing.T) {
	slow := func(r *Result) *Result { r.Rate = 1; return r }
	for name, c := range map[string]struct {
		results []*Result
		want    []string
		other   int64
	}{
		"nothing lost":               {[]*Result{from("a"), from("b")}, nil, 0},
		"the same":                   {[]*Result{from("a", 1000, 300), from("b", 1000, 300)}, []string{"dark 1000 300 a+b"}, 0},
		"edges are no path":          {[]*Result{from("a", 1000, 300), from("b", 1080, 310)}, []string{"dark 1080 220 a+b"}, 0},
		"one lost, at the same time": {[]*Result{from("a", 1000, 100), from("b", 1050, 100)}, []string{"dark 1050 50 a+b"}, 0},
		"one only":                   {[]*Result{from("a", 1000, 300), from("b")}, []string{"path 1000 300 a"}, 0},
		"each, at other times": {[]*Result{from("a", 1000, 300), from("b", 5000, 400)},
			[]string{"path 1000 300 a", "path 5000 400 b"}, 0},
		"one after the other":        {[]*Result{from("a", 1000, 300), from("b", 1300, 300)}, []string{"path 1000 600 a+b"}, 0},
		"short, one after the other": {[]*Result{from("a", 1000, 150), from("b", 1150, 150)}, []string{"unclear 1000 300 a+b"}, 0},
		"too short to tell":          {[]*Result{from("a", 1000, 200), from("b")}, []string{"unclear 1000 200 a"}, 0},
		"the other asks too seldom":  {[]*Result{from("a", 1000, 1900), slow(from("b"))}, []string{"unclear 1000 1900 a"}, 0},
		"seldom, and long":           {[]*Result{from("a", 1000, 2100), slow(from("b"))}, []string{"path 1000 2100 a"}, 0},
		"a path longer than the guest": {[]*Result{from("a", 1000, 5000), from("b", 3000, 500)},
			[]string{"path 1000 2000 a", "dark 3000 500 a+b", "path 3500 2500 a"}, 0},
		"twice in one gap": {[]*Result{from("a", 1000, 1000), from("b", 1000, 450, 1550, 450)},
			[]string{"dark 1000 450 a+b", "dark 1550 450 a+b"}, 0},
		"some of three": {[]*Result{from("a", 1000, 300), from("b", 1000, 300), from("c")},
			[]string{"path 1000 300 a+b"}, 0},
		"all of three, one by one": {[]*Result{from("a", 1000, 250), from("b", 1200, 250),
			from("c", 1400, 250)}, []string{"path 1000 650 a+b+c"}, 0},
		"all of three": {[]*Result{from("a", 1000, 300), from("b", 1050, 300),
			from("c", 1090, 300)}, []string{"dark 1090 210 a+b+c"}, 0},
		"open until after the end": {[]*Result{from("a", 59000, 1100), from("b", 59500, 600)},
			[]string{"path 59000 500 a", "dark 59500 500 a+b"}, 0},
		"when the other had ended": {[]*Result{from("a", 1000, 300, 60001, 300), from("b")}, []string{"path 1000 300 a"}, 1},
		"one did not watch": {[]*Result{from("a", 1000, 900), blind(from("b"), 800, 1200)},
			[]string{"unclear 1000 900 a"}, 0},
		"one did not watch at the end": {[]*Result{from("a", 1000, 5000),
			blind(from("b", 1000, 1000), 2000, 4000)}, []string{"dark 1000 5000 a+b"}, 0},
		"nor at the beginning": {[]*Result{from("a", 1000, 5000),
			blind(from("b", 5000, 1000), 900, 4100)}, []string{"dark 5000 1000 a+b"}, 0},
		"one did not watch in the middle": {[]*Result{from("a", 1000, 5000),
			blind(from("b", 1000, 4000), 3000, 1000)}, []string{"dark 1000 5000 a+b"}, 0},
		"and twice": {[]*Result{from("a", 1000, 5000), blind(from("b", 1000, 3000), 3000, 1000, 4500, 1000)},
			[]string{"dark 1000 5000 a+b"}, 0},
		"neither watched": {[]*Result{blind(from("a"), 1000, 5000), blind(from("b"), 2000, 5000)}, nil, 0},
		"one lost what the other could see later": {[]*Result{from("a", 1000, 5000), blind(from("b"), 900, 2000)},
			[]string{"path 1000 5000 a"}, 0},
		"one of three did not watch":  {[]*Result{from("a", 1000, 900), blind(from("b"), 800, 1200), from("c")}, []string{"path 1000 900 a"}, 0},
		"gaps that touch by rounding": {[]*Result{from("a", 1000, 300.4, 1300, 300), from("b", 1000, 600)}, []string{"dark 1000 600 a+b"}, 0},
	} {
		j, err := Join(c.results)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := spansOf(j.Targets[0]); !slices.Equal(got, c.want) || j.Total.NotJudged != c.other {
			t.Errorf("%s: %q, %d gaps not judged; want %q, %d", name, got, j.Total.NotJudged, c.want, c.other)
		}
		slices.Reverse(c.results)
		for _, s := range c.want {
			kind, rest, _ := strings.Cut(s, " ")
			when := rest[:strings.LastIndex(rest, " ")]
			again, err := Join(c.results)
			if err != nil || !slices.ContainsFunc(spansOf(again.Targets[0]),
				func(x string) bool { return strings.HasPrefix(x, kind+" "+when+" ") }) {
				t.Errorf("%s: in the other order %+v, %v: want %s", name, again, err, s)
			}
		}
	}
}

// TestJoinTargets: those that are silent, or in one list only.
func TestJoinTargets(t *testing.T) {
	ip := netip.MustParseAddr
	a, b := from("a", 1000, 300), from("b", 1000, 400)
	a.Targets = append(a.Targets,
		Target{Address: Address{IP: ip("10.0.0.2")}, By: ICMP, Sent: 600, Lost: 3, LongestMS: 300,
			Gaps: []Gap{{At: joinAt(time.Second), MS: 300}}, GapsLeftOut: 7},
		Target{Address: Address{IP: ip("10.0.0.3")}, By: ICMP, Sent: 600, Lost: 4, LongestMS: 400,
			Gaps: []Gap{{At: joinAt(time.Second), MS: 400}}})
	b.ARPRate = 1
	b.Targets = append(b.Targets, Target{Address: Address{ip("10.0.0.3"), "web"}, By: ARP, Sent: 60, Gaps: []Gap{}})
	b.Silent = []Silent{{Address{IP: ip("10.0.0.2")}, []Means{ICMP}}, {Address{IP: ip("10.0.0.9")}, []Means{ICMP}}}
	a.Sum()
	b.Sum()
	b.Began = joinAt(500 * time.Millisecond)
	j, err := Join([]*Result{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if want := (JoinedTotal{Targets: 3, Dark: 1, Unclear: 2, Alone: 1, LongestDarkMS: 300, LongestDarkIP: "10.0.0.1",
		NotJudged: 7}); j.Total != want {
		t.Errorf("%+v, want %+v", j.Total, want)
	}
	if len(j.Targets) != 4 || j.From != b.Began || j.To != a.Ended || j.Targets[2].Name != "web" ||
		len(j.Targets[1].Spans) != 0 || !j.Targets[1].Views[1].Silent {
		t.Errorf("%+v", j)
	}
	if got, want := spansOf(j.Targets[2]), []string{"unclear 1000 400 a"}; !slices.Equal(got, want) { // by ARP it was asked once a second
		t.Errorf("%q, want %q", got, want)
	}
	if w := j.Worst(); len(w) != 3 || w[0].IP != ip("10.0.0.1") || w[1].IP != ip("10.0.0.3") {
		t.Errorf("the worst: %+v", w)
	}
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"vantage_points":[{"name":"a","began":"2026-01-02T15:00:00.000Z"`,
		`"spans":[{"kind":"dark","at":"2026-01-02T15:00:01.000Z","ms":300,"from":["a","b"]}]`,
		`{"vantage_point":"b","silent":true,"sent":0,"lost":0,"longest_gap_ms":0,"gaps":[]}`, `"by":"arp"`,
	} {
		if !bytes.Contains(text, []byte(part)) {
			t.Errorf("no %s in %s", part, text)
		}
	}
}

func TestJoinRefuses(t *testing.T) {
	later, other := from("b"), from("b")
	later.Began, later.Ended = joinAt(time.Hour), joinAt(2*time.Hour)
	other.Targets[0].IP = netip.MustParseAddr("10.0.0.2")
	for want, results := range map[string][]*Result{
		"1 results: want 2 to 32": {from("a")},
		`two results are from the vantage point "a": want one from each`: {from("a"), from("a")},
		"one measurement began at 2026-01-02T16:00:00Z, when another had ended at 2026-01-02T15:01:00Z: want results " +
			"of the same": {from("a"), later},
		"no target was measured from two vantage points": {from("a"), other},
		"33 results": slices.Repeat([]*Result{from("a")}, 33),
	} {
		if j, err := Join(results); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v: want %s", j, err, want)
		}
	}
}

// TestJoinOfOneDarkness: whatever the moments at which vantage points send, a target that is away
// for longer than they are apart is dark, for as long to two intervals, and never a path that was lost; one that only one
// loses is never dark.
func TestJoinOfOneDarkness(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const every = 100.0
	for range 5000 {
		away, back := 10_000+rnd.Float64()*1000, 0.0
		back = away + 100 + rnd.Float64()*2000
		// seenBy is what is lost of packets that are sent at a moment and every 100 ms.
		seenBy := func() []float64 {
			phase := rnd.Float64() * every
			first, answer := 0.0, 0.0
			for at := phase; answer == 0; at += every {
				switch dark := at >= away && at < back; {
				case dark && first == 0:
					first = at
				case !dark && at >= back:
					answer = at
				}
			}
			return []float64{first, answer - first}
		}
		a, b := seenBy(), seenBy()
		j, err := Join([]*Result{from("a", a...), from("b", b...)})
		if err != nil {
			t.Fatal(err)
		}
		spans := j.Targets[0].Spans
		if len(spans) != 1 || spans[0].Kind != Dark || spans[0].MS < back-away-every-2 || spans[0].MS > back-away+every+2 {
			t.Fatalf("away for %v ms, from %v: seen as %v and %v: %+v", back-away, away, a, b, spans)
		}
		j, err = Join([]*Result{from("a", a...), from("b")})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range j.Targets[0].Spans {
			if s.Kind == Dark || s.Kind == Path && a[1] <= 200 {
				t.Fatalf("lost from one: %v: %+v", a, s)
			}
		}
	}
}

func TestJoinedPage(t *testing.T) {
	a, b := from("<a>", 10_000, 1000, 30_000, 500), from("b", 10_000, 900)
	b.Silent = []Silent{{Address{IP: netip.MustParseAddr("10.0.0.2")}, []Means{ICMP}}}
	lossy := a.Targets[0]
	lossy.IP = b.Silent[0].IP
	a.Targets = append(a.Targets, lossy)
	a.Sum()
	b.Sum()
	j, err := Join([]*Result{a, b})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := j.WriteHTML(&out); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, part := range []string{
		"<td>&lt;a&gt;</td>", "<b>1</b> of 2 targets were dark", "for 900 ms at most (10.0.0.1)",
		"<b>1</b> were lost from some", "Of <b>1</b> more", "1 were measured from one vantage point only",
		`<tr class="first"><td>10.0.0.1</td><td></td><td><b>all</b></td><td></td><td></td><td></td><td><b>900</b></td>`,
		"<td>b</td><td></td><td>silent</td>",
		`<td class="s h4" title="15:00:10.000: 900 ms">`, "td.h5 {",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("no %s in\n%s", part, page)
		}
	}
	if n, want := strings.Count(page, `<td class="s`),
		5*pageSlots; n != want || strings.Contains(page, "http") || strings.Contains(page, "ZgotmplZ") {
		t.Errorf("%d slots, want %d:\n%s", n, want, page)
	}
}
