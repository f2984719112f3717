package losses

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestReadTargets(t *testing.T) {
	const list = "# guests\n10.0.0.1\n\n  10.0.0.2\tweb 1  # the first\r\n2001:db8::2 six\n::ffff:10.0.0.3\n169.254.1.1#x"
	got, err := ReadTargets("f", strings.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, a := range got {
		words = append(words, a.String())
	}
	if want := []string{"10.0.0.1", "10.0.0.2 (web 1)", "2001:db8::2 (six)", "10.0.0.3", "169.254.1.1"}; !slices.Equal(words, want) {
		t.Errorf("%q, want %q", words, want)
	}
}

func TestRefusedTargets(t *testing.T) {
	var many strings.Builder
	for i := range MaxTargets + 1 {
		fmt.Fprintf(&many, "10.%d.%d.%d\n", i>>16, i>>8&255, i&255)
	}
	const one = ": want the IPv4 or IPv6 address of one machine, and perhaps a name after it"
	for list, want := range map[string]string{
		"":                                       "f: no address is in it: want one a line",
		"# none\n\n":                             "f: no address is in it: want one a line",
		"10.0.0.1\nguest1\n":                     `f:2: "guest1" is no address` + one,
		"10.0.0.1/24":                            `f:1: "10.0.0.1/24" is no address` + one,
		"10.0.0.1,10.0.0.2":                      `f:1: "10.0.0.1,10.0.0.2" is no address` + one,
		"10.0.0.256":                             `f:1: "10.0.0.256" is no address` + one,
		"fe80::1%eth0":                           `f:1: "fe80::1%eth0" has a zone` + one,
		"fe80::1":                                `f:1: "fe80::1" is an address on every link` + one,
		"224.0.0.1":                              `f:1: "224.0.0.1" is the address of many` + one,
		"ff02::1":                                `f:1: "ff02::1" is the address of many` + one,
		"255.255.255.255":                        `f:1: "255.255.255.255" is the address of many` + one,
		"0.0.0.0":                                `f:1: "0.0.0.0" is the address of none` + one,
		"::":                                     `f:1: "::" is the address of none` + one,
		"10.0.0.1\n#\n10.0.0.1 again":            "f:3: 10.0.0.1 is in line 1, too: want each address once",
		"10.0.0.1\n::ffff:10.0.0.1":              "f:2: 10.0.0.1 is in line 1, too: want each address once",
		"2001:db8::1\n2001:0db8:0::1":            "f:2: 2001:db8::1 is in line 1, too: want each address once",
		"10.0.0.1 a\x1b[31m":                     `f:1: the name "a\x1b[31m": want at most 64 bytes that can be printed`,
		"10.0.0.1 " + strings.Repeat("x", 65):    "f:1: the name \"" + strings.Repeat("x", 65) + "\": want at most 64 bytes that can be printed",
		"10.0.0.1\n" + strings.Repeat(" ", 2000): "f:2: the line is too long: want an address and a name, at most 1000 bytes",
		many.String():                            "f:100001: 10.1.134.160 is one address too many: want at most 100000",
	} {
		if _, err := ReadTargets("f", strings.NewReader(list)); err == nil || err.Error() != want {
			t.Errorf("%.60q: %v, want %s", list, err, want)
		}
	}
}

// FuzzReadTargets: what is accepted can be written and read again, and is one machine
// each.
func FuzzReadTargets(f *testing.F) {
	for _, s := range []string{"10.0.0.1 a # b\n2001:db8::1", "fe80::1%1", "::ffff:1.2.3.4\n1.2.3.4", "\x00",
		"1.2.3.4 \xff", strings.Repeat("1", 1001)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		got, err := ReadTargets("f", strings.NewReader(list))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("%v: names no file", err)
			}
			return
		}
		var b strings.Builder
		for _, a := range got {
			if !a.IP.IsValid() || a.IP.IsMulticast() || a.IP.Zone() != "" || a.IP.Is4In6() {
				t.Errorf("accepted: %v", a)
			}
			fmt.Fprintln(&b, a.IP, a.Name)
		}
		again, err := ReadTargets("f", strings.NewReader(b.String()))
		if err != nil || !slices.Equal(got, again) {
			t.Errorf("%q is read as %v, and that as %v, %v", list, got, again, err)
		}
	})
}
