package version

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"holdfast/testbed/need"
)

func parse(t testing.TB, s Scheme, text string) Version {
	t.Helper()
	v, err := Parse(s, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// ascending are versions in their order, per scheme.
func ascending() map[Scheme][]string {
	return map[Scheme][]string{
		CAS: {"1.0", "2.0", "E0200", "E0209H11", "E0218H06", "E0225", "E0299H99", "3.0", "E0300", "E0303", "E0306", "E0306H01", "5.0",
			"E0503", "E0509", "E0509H01", "E0513", "E0513H00", "E0513H01", "E0513H07", "E0520", "E0531", "E0535", "7.0",
			"E0705", "E0705H01", "10.0", "E1001"},
		VRB: {"V200R001", "V500R001", "V500R001B01", "V500R001B01D006", "V500R001B01D006SP02", "V500R001B01D010",
			"V500R001B02D001", "V500R002"},
		Dotted: {"2.0", "2.0.0", "2.0.0.3", "2.0.0.B009", "2.0.0.B86", "2.0.0.B0100", "2.0.0.SP1", "3.0.0.B038",
			"24.0.0.3", "24.06", "24.06.SP1", "24.06.SP10", "24.10"},
		SemVer: {"0.9.0", "1.0.0-1", "1.0.0-11", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
			"1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.10.0"},
		Debian: {"1.0~~", "1.0~~a", "1.0~", "1.0~rc1-1", "1.0", "1.0-0.1", "1.0-1", "1.0-1+b1", "1.0a", "1.0+dfsg",
			"1.9", "1.10", "1:0.1", "1:0.1:2"},
	}
}

func TestOrder(t *testing.T) {
	for s, texts := range ascending() {
		for i, a := range texts {
			for j, b := range texts {
				got, err := Compare(parse(t, s, a), parse(t, s, b))
				want := max(-1, min(1, i-j))
				if err != nil || got != want {
					t.Errorf("%s: compare %s with %s: got %d, %v, want %d", s, a, b, got, err, want)
				}
			}
		}
	}
}

func TestSameVersions(t *testing.T) {
	for _, c := range []struct {
		s    Scheme
		a, b string
	}{
		{Dotted, "24.6", "24.06"}, {Dotted, "2.0.0.B86", "2.0.0.B086"}, {SemVer, "1.0.0+1", "1.0.0+2"},
		{Debian, "0:1.0", "1.0"}, {Debian, "1.0", "1.0-0"}, {Debian, "1.001", "1.1"}, {VRB, "V500R1", "V500R001"},
	} {
		if got, err := Compare(parse(t, c.s, c.a), parse(t, c.s, c.b)); got != 0 || err != nil {
			t.Errorf("%s: compare %s with %s: got %d, %v, want 0", c.s, c.a, c.b, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for s, texts := range map[Scheme][]string{
		CAS: {"", "E", "E05031", "E031", "e0306", "E0306H1", "E0306H111", "E0306h01", "E03O6", "E0306 ", " E0306",
			"4.1", "4.14", "0.0", "02.0", "100.0", "2.00", "2.0.0", "2", "CAS-E0306", "E٠٣٠٦"},
		VRB:    {"", "V500", "V500R", "R001", "V500R001D006", "V500R001B01D006X", "v500R001", "V500R001B01D006SP", "V1234567890123456789R1"},
		Dotted: {"", "2", ".2", "2.", "2..0", "B1.2", "2.B", "2.0-1", "2.0.0.*", "2.1B", "1.1234567890123456789", strings.Repeat("1.", 16) + "1"},
		SemVer: {"", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3-a..b", "1.2.3+", "v1.2.3", "1.2.3-a_b", "1.2.3+a+b"},
		Debian: {"", ":1", "a:1", "2147483648:1", "1:", "a1", "1-", "1-a:b", "1:2-3:4", "1_2", "1 2", "-1"},
	} {
		for _, text := range append(texts, strings.Repeat("1", 200)) {
			_, err := Parse(s, text)
			var pe *ParseError
			if !errors.As(err, &pe) || pe.Scheme != s || pe.Text != text || pe.Want == "" {
				t.Errorf("%s: %q: got %v, want a ParseError of it", s, text, err)
			}
		}
	}
	if _, err := Parse("rpm", "1"); err == nil || !strings.Contains(err.Error(), "want vrb, cas, semver, dotted, debian") {
		t.Errorf("unknown scheme: got %v", err)
	}
}

func TestCompareOfTwoSchemes(t *testing.T) {
	_, err := Compare(parse(t, SemVer, "1.2.3"), parse(t, Dotted, "1.2.3"))
	if err == nil || !strings.Contains(err.Error(), "only versions of one scheme") {
		t.Errorf("got %v", err)
	}
	if _, err := Compare(Version{}, Version{}); err == nil {
		t.Error("the zero Version has an order")
	}
}

func TestFamily(t *testing.T) {
	for text, want := range map[string]string{"E0209H11": "2.0", "3.0": "3.0", "E1001": "10.0"} {
		f, ok := parse(t, CAS, text).Family()
		if !ok || f.String() != want || !f.IsFamily() {
			t.Errorf("family of %s: got %s, %v, want %s", text, f, ok, want)
		}
		if c, err := Compare(f, parse(t, CAS, want)); c != 0 || err != nil {
			t.Errorf("family %s is not %s", f, want)
		}
	}
	for _, v := range []Version{parse(t, CAS, "E0001"), parse(t, Dotted, "2.0"), {}} {
		if f, ok := v.Family(); ok {
			t.Errorf("%s has family %s, want none", v, f)
		}
	}
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		texts string
		want  Scheme
	}{
		{"E0306", CAS}, {"2.0 E0705", CAS}, {"V500R001B01D006", VRB}, {"2.0", Dotted}, {"2.0.0.B086", Dotted}, {"24.06.SP1", Dotted},
		{"1.2.3", SemVer}, {"1.2.3 1.2.3.B4", Dotted}, {"1.2.3-1", SemVer}, {"1:1.2-3", Debian}, {"1.2-3", Debian}, {"1.2.3 1.2-3", Debian},
		{"E0306 1.2.3", ""}, {"x", ""}, {"", ""},
	} {
		got, err := Detect(strings.Fields(c.texts)...)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: got %q, %v, want %q", c.texts, got, err, c.want)
		}
	}
}

func TestBanner(t *testing.T) {
	const line = "V500R001B01D006 V5.0 E0503 Enterprise 45807"
	for _, text := range []string{
		line, line + ".", strings.ReplaceAll(line, " ", "-") + ".",
		"Upgrading finished. The current version is:\r\n" + line + ".\r\nBuild 2017-08-01 10:47:44, RELEASE SOFTWARE.\r\n",
	} {
		b, err := ParseBanner(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		got := fmt.Sprint(b.Platform, b.Release, b.Edition, b.Build)
		if got != fmt.Sprint(parse(t, VRB, "V500R001B01D006"), parse(t, CAS, "E0503"), "Enterprise", "45807") {
			t.Errorf("%q: got %s", text, got)
		}
	}
	if b, err := ParseBanner("V500R001B01D006 E0209H11"); err != nil || b.Release.String() != "E0209H11" || b.Edition != "" {
		t.Errorf("short banner: got %v, %v", b, err)
	}
	for text, want := range map[string]string{
		"":                               "want one such as",
		"V5.0 E0503":                     "want one such as",
		"V500R001B01D006":                `"" in place of an E number`,
		"V500R001B01D006 V5.0 5.0":       `"5.0" in place of an E number`,
		"V500R001B01D006\nE0503":         `"" in place of an E number`,
		"V500R001B01D006 V5.0 E0303 x":   "V5.0 and E0303 contradict each other",
		strings.Repeat(" ", maxBanner+1): "want at most",
	} {
		if _, err := ParseBanner(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", text, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	const line = "V500R001B01D006 V5.0 E0503 Enterprise 45807"
	for _, c := range []struct {
		s          Scheme
		text, want string
	}{
		{CAS, " E0306\n", "E0306"}, {CAS, line, "E0503"}, {VRB, line, "V500R001B01D006"}, {VRB, "V500R001", "V500R001"},
		{Dotted, "2.0.0.B086\n", "2.0.0.B086"}, {CAS, "E05031", ""}, {CAS, "E0306 or so", ""}, {Dotted, line, ""},
	} {
		v, err := Find(c.s, c.text)
		if v.String() != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q: got %q, %v, want %q", c.s, c.text, v, err, c.want)
		}
	}
}

// randomDebian makes versions that are close to each other.
func randomDebian(r *rand.Rand) string {
	const chars = "0011299aAz~~+..-"
	b := []byte{"0123456789"[r.IntN(10)]}
	for range r.IntN(7) {
		b = append(b, chars[r.IntN(len(chars))])
	}
	s := string(b)
	if r.IntN(4) == 0 {
		s = fmt.Sprintf("%d:%s", r.IntN(3), s)
	}
	return s
}

// TestDebianAsDpkg asks the real dpkg about pairs of versions: of the table and
// random ones.
func TestDebianAsDpkg(t *testing.T) {
	need.Seconds(t)
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("dpkg is not installed")
	}
	r := rand.New(rand.NewPCG(1, 2))
	var pairs [][2]string
	table := ascending()[Debian]
	for i := range len(table) - 1 {
		pairs = append(pairs, [2]string{table[i], table[i+1]})
	}
	const enough = 250
	for len(pairs) < enough {
		a, b := randomDebian(r), randomDebian(r)
		_, aerr := Parse(Debian, a)
		_, berr := Parse(Debian, b)
		if aerr == nil && berr == nil {
			pairs = append(pairs, [2]string{a, b})
		}
	}
	var equal int
	for _, p := range pairs {
		got, err := Compare(parse(t, Debian, p[0]), parse(t, Debian, p[1]))
		if err != nil {
			t.Fatal(err)
		}
		rel := []string{"lt", "eq", "gt"}[got+1]
		if got == 0 {
			equal++
		}
		if err := exec.CommandContext(t.Context(), dpkg, "--compare-versions", p[0], rel, p[1]).Run(); err != nil {
			t.Errorf("%s %s %s: dpkg does not say so: %v", p[0], rel, p[1], err)
		}
	}
	if equal == len(pairs) {
		t.Error("all pairs are equal")
	}
}

// TestDebianRefusesWhatDpkgRefuses asks dpkg about the texts that are no versions.
func TestDebianRefusesWhatDpkgRefuses(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		t.Skip("dpkg is not installed")
	}
	for _, text := range []string{"2147483648:1", "a:1", "1:", "a1", "1-", "1_2", "1-a:b", "1", "2147483647:1", "1:2:3", "1~", "1+b"} {
		_, ours := Parse(Debian, text)
		theirs := exec.CommandContext(t.Context(), dpkg, "--validate-version", text).Run()
		if (ours == nil) != (theirs == nil) {
			t.Errorf("%q: we say %v, dpkg %v", text, ours, theirs)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, texts := range ascending() {
		for i, a := range texts {
			f.Add(a, texts[(i+1)%len(texts)], texts[(i+2)%len(texts)])
		}
	}
	f.Fuzz(func(t *testing.T, x, y, z string) {
		for _, s := range Schemes() {
			var vs []Version
			for _, text := range []string{x, y, z} {
				v, err := Parse(s, text)
				if err == nil && (v.String() != text || v.Scheme() != s) {
					t.Fatalf("%s %q came out as %s %q", s, text, v.Scheme(), v)
				}
				if err == nil {
					vs = append(vs, v)
				} else if strings.Contains(err.Error(), "\n") {
					t.Fatalf("error of more than one line: %q", err)
				}
			}
			slices.SortFunc(vs, compare)
			for i, a := range vs {
				for j, b := range vs {
					c, back := compare(a, b), compare(b, a)
					if c != -back || i < j && c > 0 || i == j && c != 0 {
						t.Fatalf("%s: no total order: %s, %s: %d, %d", s, a, b, c, back)
					}
				}
			}
		}
	})
}
