package version

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		s       Scheme
		pattern string
		yes, no string
	}{
		{CAS, "E0535", "E0535", "E0535H01 E0531 5.0"},
		{CAS, "*", "2.0 E0001 E0705", ""},
		{CAS, "2.0", "2.0 E0200 E0209H11 E0299H99", "3.0 E0300 E0199 1.0"},
		{CAS, "2.0,3.0", "2.0 E0306", "E0503 5.0 1.0"},
		{CAS, "E052X", "E0520 E0529 E0525H03", "E0519 E0530 E0513H07"},
		{CAS, "E0513Hxx", "E0513H01 E0513H99", "E0513 E0514 E0512H01"},
		{CAS, "E0513H*", "E0513H01", "E0513"},
		{CAS, "E0513*", "E0513H01 E0513", "E0514"},
		{CAS, "E02*", "E0209H11", "2.0 E0306"},
		{CAS, ">=E0306", "E0306 E0306H01 E0705 5.0", "E0303 3.0"},
		{CAS, "<E0535", "E0531H99 2.0", "E0535"},
		{CAS, "<=E0535", "E0535 E0306", "E0535H01"},
		{CAS, ">E0705", "E0705H01 E0710", "E0705 7.0"},
		{CAS, "E0306..E0705", "E0306 E0513 E0705", "E0303 E0705H01"},
		{CAS, ">E0306 <E0531, E0705", "E0509 E0705", "E0306 E0531"},
		{CAS, "E0513H01-H07", "E0513H01 E0513H07", "E0513 E0513H08"},
		{VRB, "V500R001*", "V500R001 V500R001B01D006", "V500R002 V200R001"},
		{VRB, "V500R001B01D006-D010", "V500R001B01D007 V500R001B01D006SP01", "V500R001B01D011 V500R001B01D010SP01"},
		{Dotted, "2.0.0.*", "2.0.0.B086 2.0.0.3 2.0.0.B1.2", "2.0.0 2.0.1.B1 3.0.0.B038"},
		{Dotted, "3.0.0.B010-B038", "3.0.0.B010 3.0.0.B38", "3.0.0.B009 3.0.0.B039 3.0.1.B011"},
		{Dotted, "24.06.SP1-SP5", "24.06.SP1 24.06.SP5 24.6.SP3", "24.06 24.06.SP6 24.07.SP2"},
		{Dotted, "1.2.3-7", "1.2.3 1.2.5", "1.2.8"},
		{SemVer, "1.2.*", "1.2.0 1.2.3-rc.1", "1.3.0"},
		{SemVer, "1.*", "1.2.0", "2.0.0"},
		{SemVer, "1.0.0-rc.1", "1.0.0-rc.1 1.0.0-rc.1+7", "1.0.0"},
		{SemVer, ">=1.0.0-rc.1 <2.0.0", "1.0.0 1.9.9", "1.0.0-beta 2.0.0"},
		{Debian, ">=1:1.0~rc1 <1:2", "1:1.0 1:1.5-3", "1.5 1:2-1"},
		{Debian, "1.2-3", "1.2-3 0:1.2-03", "1.2"},
	} {
		p, err := ParsePattern(c.s, c.pattern)
		if err != nil {
			t.Error(err)
			continue
		}
		for want, texts := range map[bool]string{true: c.yes, false: c.no} {
			for _, text := range strings.Fields(texts) {
				if got, err := p.Match(parse(t, c.s, text)); got != want || err != nil {
					t.Errorf("%s: %s matches %s: got %v, %v, want %v", c.s, c.pattern, text, got, err, want)
				}
			}
		}
	}
}

func TestPatternRefuses(t *testing.T) {
	for _, c := range []struct {
		s          Scheme
		text, want string
	}{
		{CAS, "", "want 1 to 8 conditions"},
		{CAS, "E0306,", "want 1 to 8 conditions"},
		{CAS, strings.Repeat("E0306 ", 9), "want 1 to 8 conditions"},
		{CAS, "E05031", "want E and four digits"},
		{CAS, ">= E0306", `read cas version ""`},
		{CAS, "4.1", "a number and .0"},
		{CAS, "E05X", "with X for a digit"},
		{CAS, "E05X11", "with X for a digit"},
		{CAS, "Exxxx*Hxx", "with X for a digit"},
		{CAS, "X0513", "with X for a digit"},
		{CAS, "E0705..E0306", "the end is before the beginning"},
		{CAS, ">=E0535 <E0306", "exclude each other"},
		{CAS, ">E0306 <=E0306", "exclude each other"},
		{CAS, "E0306 <E0306", "exclude each other"},
		{CAS, "E0306 E0535", "exclude each other"},
		{CAS, "E0513H07-H01", "the end is before the beginning"},
		{Dotted, "3.0.0.B010-SP38", "want the same letters"},
		{Dotted, "3.0.0.B010-B", "want the same letters"},
		{Dotted, "3.0.0.-B1", "want the same letters"},
		{Dotted, "2.0*", "want whole parts before *"},
		{Dotted, ".*", "want whole parts before *"},
		{VRB, "X*", "want whole parts before *"},
		{SemVer, "1.2.3.*", "want whole parts before *"},
		{SemVer, "1.2*", "want whole parts before *"},
		{Debian, "1.2*", "versions of Debian have no patterns with *"},
		{"rpm", "*", "want vrb, cas"},
		{CAS, strings.Repeat("E0306,", 256) + "E0306", "at most 256"},
		{CAS, strings.Repeat(" ", maxPattern+1), "at most 8192 bytes"},
	} {
		if _, err := ParsePattern(c.s, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %.40q: got %v, want %q", c.s, c.text, err, c.want)
		}
	}
	p, err := ParsePattern(CAS, "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []Pattern{p, {}} {
		if _, err := q.Match(parse(t, Dotted, "1.2")); err == nil || !strings.Contains(err.Error(), "want one scheme") {
			t.Errorf("pattern %q matched a version of another scheme: %v", q.text, err)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, p := range []string{"E052X", "E0513Hxx,2.0", ">=E0306 <E0535", "2.0.0.*", "3.0.0.B010-B038", "E0306..E0705",
		"1.2.*", "V500R001*", "*"} {
		f.Add(p, "E0306")
		f.Add(p, "3.0.0.B020")
	}
	f.Fuzz(func(t *testing.T, text, of string) {
		for _, s := range Schemes() {
			p, err := ParsePattern(s, text)
			if err != nil {
				if strings.Contains(err.Error(), "\n") {
					t.Fatalf("error of more than one line: %q", err)
				}
				continue
			}
			v, err := Parse(s, of)
			if err != nil {
				continue
			}
			got, err := p.Match(v)
			if err != nil {
				t.Fatal(err)
			}
			// What matches alone matches as one of two.
			two, err := ParsePattern(s, text+","+of)
			if err != nil {
				continue // too long, or the version has a form of its own as a pattern
			}
			if also, err := two.Match(v); err != nil || got && !also {
				t.Fatalf("%s: %q matches %q, %q does not: %v", s, text, of, two.text, err)
			}
		}
	})
}

func FuzzBanner(f *testing.F) {
	f.Add("V500R001B01D006 V5.0 E0503 Enterprise 45807.")
	f.Add("x\nV500R001B01D006-V5.0-E0503-Enterprise-45807.")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ParseBanner(text)
		if err != nil {
			return
		}
		if b.Release.IsFamily() || b.Release.Scheme() != CAS || b.Platform.Scheme() != VRB {
			t.Fatalf("%q gave %+v", text, b)
		}
		if !strings.Contains(text, b.Release.String()) || !strings.Contains(text, b.Platform.String()) {
			t.Fatalf("%q does not hold %+v", text, b)
		}
	})
}
