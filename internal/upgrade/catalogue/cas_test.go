package catalogue_test

import (
	"slices"
	"strings"
	"testing"

	"holdfast/internal/upgrade/catalogue"
	"holdfast/internal/upgrade/path"
)

// TestCAS is the guide, sentence by sentence.
func TestCAS(t *testing.T) {
	cas, err := catalogue.Load(t.Context(), catalogue.CAS)
	if err != nil {
		t.Fatal(err)
	}
	const s1020v, kernel = "s1020v", "s1020v-kernel-4.14"
	for _, x := range []struct {
		from, to string
		mode     path.Mode
		with     string // component
		confirm  string
		want     string // versions of the path, or ! and the rule in the way
	}{
		// Before E0209H11 there is no upgrade without a break in service.
		{"E0209H10", "E0306", "", "", "", "!minimum-source"},
		{"E0208", "E0710", "", "", "", "!minimum-source"},
		{"E0208", "E0306", path.Offline, "", "", "E0306"},
		{"E0209H11", "E0306", "", "", "", "E0306"},

		// 2.0 and 3.0 to later than E0705: by way of E0535 or E0705.
		{"2.0", "E0710", "", "", "", "E0705 E0710"},
		{"3.0", "E0710", "", "", "", "E0705 E0710"},
		{"E0306", "E0705H01", "", "", "", "E0705 E0705H01"},
		{"E0209H11", "E0710", path.Offline, "", "", "E0705 E0710"},
		{"2.0", "E0705", "", "", "", "E0705"},
		{"2.0", "E0535", "", "", "", "E0535"},
		{"5.0", "E0710", "", "", "", "E0710"},
		{"E0503", "E0710", "", "", "", "E0710"},
		{"E0535", "E0710", "", "", "", "E0710"},
		{"V500R001B01D006 V5.0 E0503 Enterprise 45807.", "E0705", "", "", "", "E0705"},

		// 2.0 with s1020v to before E0531: by way of E0306.
		{"2.0", "E0509H01", "", s1020v, "", "E0306 E0509H01"},
		{"2.0", "E0513H07", "", s1020v, "", "E0306 E0513H07"},
		{"2.0", "E0509H01", "", "", "", "E0509H01"},
		{"2.0", "E0306", "", s1020v, "", "E0306"},
		{"2.0", "E0531", "", s1020v, "", "E0531"},
		{"2.0", "E0530", "", s1020v, "", "E0306 E0530"},
		{"E0303", "E0509H01", "", s1020v, "", "E0509H01"},
		{"2.0", "E0710", "", s1020v, "", "E0705 E0710"},

		// Kernel 4.1 and before with s1020v to E052X: only when prepared.
		{"E0513H01", "E0525", "", s1020v, "", "!" + kernel},
		{"E0513H99", "E0520", "", s1020v, "", "!" + kernel},
		{"E0306", "E0529H02", path.Offline, s1020v, "", "!" + kernel},
		{"E0513H01", "E0525", "", "", "", "E0525"},
		{"E0513H01", "E0525", "", s1020v, kernel, "E0525"},
		{"E0513H01", "E0531", "", s1020v, "", "E0531"},
		{"E0520", "E0525", "", s1020v, "", "E0525"},
		{"2.0", "E0525", "", s1020v, "", "!" + kernel},
		{"2.0", "E0525", "", s1020v, kernel, "E0306 E0525"},

		{"E0535", "E0306", "", "", "", "!downgrade"},
		{"E0306", "E0306", "", "", "", ""},
	} {
		env := path.Environment{Mode: x.mode}
		if x.with != "" {
			env.Components = []string{x.with}
		}
		if x.confirm != "" {
			env.Confirmed = []string{x.confirm}
		}
		res, err := path.Plan(cas, x.from, x.to, env)
		if err != nil {
			t.Errorf("%s to %s: %v", x.from, x.to, err)
			continue
		}
		var got []string
		for _, h := range res.Hops {
			got = append(got, h.To)
			if !h.Reboot {
				t.Errorf("%s to %s: no reboot after %s", x.from, x.to, h.To)
			}
		}
		if res.Blocked != nil {
			got = []string{"!" + res.Blocked.Rule}
		}
		if strings.Join(got, " ") != x.want {
			t.Errorf("%s to %s with %q, mode %q, confirmed %q: got %v, want %s", x.from, x.to, x.with, x.mode, x.confirm, got, x.want)
		}
	}
}

// TestCASNotes checks on which hops the advice of the guide is given.
func TestCASNotes(t *testing.T) {
	cas, err := catalogue.Load(t.Context(), catalogue.CAS)
	if err != nil {
		t.Fatal(err)
	}
	type hop struct{ from, to string }
	for rule, x := range map[string]struct{ yes, no []hop }{
		"centos65-live-migration":     {[]hop{{"E0209H11", "E0306"}, {"E0218H06", "E0306"}}, []hop{{"E0218H07", "E0306"}, {"E0306", "E0705"}}},
		"large-guests":                {[]hop{{"2.0", "E0306"}, {"E0225", "E0306"}}, []hop{{"E0303", "E0306"}}},
		"single-path-pools":           {[]hop{{"E0218H06", "E0306"}}, []hop{{"E0225", "E0306"}}},
		"single-path-pools-inherited": {[]hop{{"E0225", "E0306"}, {"E0303", "E0535"}}, []hop{{"E0218H06", "E0306"}, {"E0306", "E0535"}}},
		"o2cb-threshold":              {[]hop{{"E0218H06", "E0306"}, {"E0306", "E0705"}}, []hop{{"E0218H06", "E0303"}}},
		"o2cb-not-online":             {[]hop{{"E0303", "E0306"}, {"E0218H06", "E0303"}}, []hop{{"E0306", "E0705"}}},
		"procedure-from-e0306":        {[]hop{{"E0306", "E0705"}}, []hop{{"E0305H99", "E0306"}}},
		"procedure-below-e0306":       {[]hop{{"E0305H99", "E0306"}, {"3.0", "E0535"}}, []hop{{"E0306", "E0705"}}},
		"hot-standby":                 {[]hop{{"E0218H06", "E0306"}, {"E0535", "E0705"}}, nil},
		"hot-standby-mysql":           {[]hop{{"E0218H06", "E0303"}}, []hop{{"E0218H06", "E0509H01"}, {"E0306", "E0503"}}},
		"detach-before-reboot":        {[]hop{{"E0218H06", "E0306"}, {"E0535", "E0705"}}, nil},
		"quiet-guests":                {[]hop{{"E0218H06", "E0306"}, {"E0535", "E0705"}}, nil},
		"message-reboot":              {[]hop{{"E0306", "E0503"}}, []hop{{"E0306", "E0509H01"}}},
		"post-check":                  {[]hop{{"E0306", "E0509H01"}}, []hop{{"E0306", "E0503"}}},
	} {
		for want, hops := range map[bool][]hop{true: x.yes, false: x.no} {
			for _, h := range hops {
				res, err := path.Plan(cas, h.from, h.to, path.Environment{})
				if err != nil || len(res.Hops) != 1 {
					t.Errorf("%v: got %+v, %v, want one hop", h, res, err)
					continue
				}
				if got := slices.ContainsFunc(res.Hops[0].Notes, func(n string) bool { return strings.HasPrefix(n, rule+": ") }); got != want {
					t.Errorf("%v: note of %s: got %v, want %v", h, rule, got, want)
				}
			}
		}
	}
	// Advice about live migration is not for guests that are stopped.
	res, err := path.Plan(cas, "2.0", "E0306", path.Environment{Mode: path.Offline})
	if err != nil {
		t.Fatal(err)
	}
	byHand := false
	for _, n := range res.Hops[0].Notes {
		if strings.Contains(n, "live migration") {
			t.Errorf("offline: %s", n)
		}
		byHand = byHand || strings.Contains(n, "only the vendor's own procedure leads there, by hand") // as plan and run say
	}
	if !byHand {
		t.Errorf("offline: %q", res.Hops[0].Notes)
	}
}
