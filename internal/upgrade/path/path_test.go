package path

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// small is a catalogue in which everything occurs.
func small() Spec {
	no := false
	return Spec{
		Format: Format, Name: "small", Scheme: "cas", Reboot: true, Components: []string{"net", "disk"},
		Versions: []Known{
			{Version: "E0500", Kernel: "4.1"}, {Version: "E0300"}, {Version: "E0400", Kernel: "4.1", Reboot: &no},
			{Version: "E0600", Kernel: "4.14", Reboot: &no, Excludes: []string{"disk"}},
		},
		Families: []Family{{Name: "3.0", As: "E0300", Text: "The oldest."}},
		Rules: []Rule{
			{Name: "minimum", Kind: Block, From: "<E0300", Modes: []Mode{Rolling}, Text: "Too old.", Remedy: "stop the guests."},
			{Name: "prepared", Kind: Block, To: ">=E0600", Components: []string{"net"}, Confirm: true,
				Text: "The net breaks.", Remedy: "prepare it."},
			{Name: "pass", Kind: Through, From: "3.0", To: ">=E0600", Through: "E0400, E0500", Text: "By way of them.", Remedy: "go there."},
			{Name: "cold", Kind: Note, From: "3.0", Modes: []Mode{Rolling}, Text: "Move cold."},
			{Name: "again", Kind: Reboot, To: "E0400", Text: "Reboot it."},
		},
	}
}

func made(t *testing.T, s Spec) *Catalogue {
	t.Helper()
	c, faults := New(s)
	if len(faults) > 0 || c == nil {
		t.Fatal(faults)
	}
	return c
}

func TestPlan(t *testing.T) {
	c := made(t, small())
	for _, x := range []struct {
		from, to string
		env      Environment
		want     string
	}{
		{"E0400", "E0500", Environment{}, `{"hops":[{"to":"E0500","reboot":true,"notes":[]}],"blocked":null}`},
		{"E0500", "E0500", Environment{}, `{"hops":[],"blocked":null}`},
		{"E0300", "E0400", Environment{Mode: Offline}, `{"hops":[{"to":"E0400","reboot":true,"notes":["again: Reboot it."]}],"blocked":null}`},
		{"3.0", "E0600", Environment{}, `{"hops":[` +
			`{"to":"E0500","reboot":true,"notes":["family: 3.0 is planned as E0300. The oldest.","pass: By way of them.","cold: Move cold."]},` +
			`{"to":"E0600","reboot":true,"notes":["kernel: changes from 4.1 to 4.14"]}],"blocked":null}`},
		{"E0310", "E0510", Environment{Mode: Offline}, `{"hops":[{"to":"E0510","reboot":true,"notes":[` +
			`"unlisted: catalogue small does not list E0310; the rules go by its order",` +
			`"unlisted: catalogue small does not list E0510; the rules go by its order"]}],"blocked":null}`},
		{"V500R001B01D006 V5.0 E0500 Enterprise 1", "E0600", Environment{Components: []string{"net"}, Confirmed: []string{"prepared"}},
			`{"hops":[{"to":"E0600","reboot":true,"notes":["kernel: changes from 4.1 to 4.14",` +
				`"prepared: confirmed by the operator. The net breaks."]}],"blocked":null}`},
		{"E0500", "E0600", Environment{Components: []string{"net"}},
			`{"hops":[],"blocked":{"rule":"prepared","reason":"The net breaks. What to do: prepare it. Then confirm it: --confirmed prepared"}}`},
		{"E0200", "E0500", Environment{}, `{"hops":[],"blocked":{"rule":"minimum","reason":"Too old. What to do: stop the guests."}}`},
		{"E0500", "E0300", Environment{}, `{"hops":[],"blocked":{"rule":"downgrade","reason":"E0300 is before E0500, and upgrades only go up; ` +
			`an upgrade that is not committed yet can be rolled back"}}`},
		{"E0500", "E0600", Environment{Components: []string{"disk"}}, `{"hops":[],"blocked":{"rule":"excludes","reason":` +
			`"from E0500 to E0600 there are only versions that do not run with what is installed (disk). ` +
			`What to do: remove the component, or choose another version"}}`},
		{"E0200", "E0600", Environment{Components: []string{"net"}}, `{"hops":[],"blocked":{"rule":"minimum","reason":` +
			`"Too old. What to do: stop the guests. Also in the way: prepared"}}`},
	} {
		res, err := Plan(c, x.from, x.to, x.env)
		if err != nil {
			t.Errorf("%s to %s: %v", x.from, x.to, err)
			continue
		}
		got, err := json.Marshal(res)
		if err != nil {
			t.Fatal(err)
		}
		// The marshaller escapes <, > and & only; none is in these texts.
		if string(got) != x.want {
			t.Errorf("%s to %s, %+v: got\n%s\nwant\n%s", x.from, x.to, x.env, got, x.want)
		}
	}
}

func TestListedHops(t *testing.T) {
	s := Spec{Format: Format, Name: "listed", Scheme: "dotted", Unlisted: UnlistedRefuse,
		Versions: []Known{{Version: "2.0.0.B086"}, {Version: "3.0.0.B010"}, {Version: "3.0.0.B038"},
			{Version: "24.0.0.3"}, {Version: "24.06.SP1"}},
		Hops: []Edge{{"2.0.0.*", "3.0.0.B010-B038"}, {"3.0.0.B030..3.0.0.B999", "24.0.0.3"}},
	}
	c := made(t, s)
	res, err := Plan(c, "2.0.0.B086", "24.0.0.3", Environment{})
	if err != nil || len(res.Hops) != 2 || res.Hops[0].To != "3.0.0.B038" || res.Hops[0].Reboot {
		t.Errorf("got %+v, %v, want it by way of 3.0.0.B038", res, err)
	}
	res, err = Plan(c, "2.0.0.B086", "24.06.SP1", Environment{})
	if err != nil || res.Blocked == nil || res.Blocked.Rule != RuleHops {
		t.Errorf("got %+v, %v, want it blocked by the hops", res, err)
	}
	for _, ends := range [][2]string{{"2.0.0.B087", "24.0.0.3"}, {"2.0.0.B086", "24.0.0.4"}} {
		if _, err := Plan(c, ends[0], ends[1], Environment{}); err == nil || !strings.Contains(err.Error(), "takes listed ones only") {
			t.Errorf("%v: got %v, want a refusal", ends, err)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	c := made(t, small())
	for _, x := range []struct {
		c        *Catalogue
		from, to string
		env      Environment
		want     string
	}{
		{nil, "E0300", "E0400", Environment{}, "the catalogue is empty"},
		{&Catalogue{}, "E0300", "E0400", Environment{}, "the catalogue is empty"},
		{c, "4.1", "E0400", Environment{}, `from: read cas version "4.1"`},
		{c, "2.0", "E0400", Environment{}, "from: family 2.0: catalogue small knows the families 3.0"},
		{c, "E0300", "E05031", Environment{}, `to: read cas version "E05031"`},
		{c, "E0300", "5.0", Environment{}, "to: 5.0 is a family: want one version, such as E0600"},
		{c, "1.2.3", "E0300", Environment{}, "from: read cas version"},
		{c, "E0300", "E0400", Environment{Components: []string{"nett"}}, `component "nett": catalogue small knows net, disk`},
		{c, "E0300", "E0400", Environment{Mode: "fast"}, `mode "fast": want rolling or offline`},
		{c, "E0300", "E0400", Environment{Confirmed: []string{"pass"}}, "that can be confirmed are prepared"},
	} {
		res, err := Plan(x.c, x.from, x.to, x.env)
		if err == nil || !strings.Contains(err.Error(), x.want) || len(res.Hops) > 0 {
			t.Errorf("%s to %s: got %+v, %v, want %q", x.from, x.to, res, err, x.want)
		}
	}
}

// TestTooManyKinds has a kernel of its own for each version.
func TestTooManyKinds(t *testing.T) {
	s := Spec{Format: Format, Name: "many", Scheme: "dotted"}
	for i := range MaxKinds + 1 {
		s.Versions = append(s.Versions, Known{Version: fmt.Sprintf("1.%d", i), Kernel: fmt.Sprint(i)})
	}
	c := made(t, s)
	if _, err := Plan(c, "1.0", fmt.Sprintf("1.%d", MaxKinds), Environment{}); err == nil ||
		!strings.Contains(err.Error(), "kinds of versions apart") {
		t.Errorf("got %v", err)
	}
	if res, err := Plan(c, "1.0", fmt.Sprintf("1.%d", MaxKinds-1), Environment{}); err != nil || len(res.Hops) != 1 || !res.Hops[0].Reboot {
		t.Errorf("got %+v, %v, want one hop", res, err)
	}
}

func TestFaults(t *testing.T) {
	for want, change := range map[string]func(*Spec){
		"format: value \"2\"":                             func(s *Spec) { s.Format = 2 },
		"name: value \"A\"":                               func(s *Spec) { s.Name = "A" },
		"scheme: value \"rpm\": want vrb, cas":            func(s *Spec) { s.Scheme = "rpm" },
		"unlisted: value \"maybe\": want allow or refuse": func(s *Spec) { s.Unlisted = "maybe" },
		"components[1]: value \"net\": is given twice":    func(s *Spec) { s.Components = []string{"net", "net"} },
		"components[0]: value \"\": want 1 to 64":         func(s *Spec) { s.Components[0] = "" },
		"versions: value \"0\": want 1 to 20000":          func(s *Spec) { s.Versions = nil },
		"rules: value \"65\": want 0 to 64":               func(s *Spec) { s.Rules = make([]Rule, 65) },
		"hops: value \"65\": want 0 to 64":                func(s *Spec) { s.Hops = make([]Edge, 65) },
		"versions[1].version: value \"E030\": read cas":   func(s *Spec) { s.Versions[1].Version = "E030" },
		"versions[1].version: value \"3.0\": want a vers": func(s *Spec) { s.Versions[1].Version = "3.0" },
		"versions[2].version: value \"E0500\": is given":  func(s *Spec) { s.Versions[2].Version = "E0500" },
		"versions[3].excludes[0]: value \"disc\": want o": func(s *Spec) { s.Versions[3].Excludes = []string{"disc"} },
		"families[0].name: value \"E0300\": want a famil": func(s *Spec) { s.Families[0].Name = "E0300" },
		"families[0].as: value \"E0400\": want a version": func(s *Spec) { s.Families[0].As = "E0400" },
		"families[0].as: value \"3.0\": want a version, ": func(s *Spec) { s.Families[0].As = "3.0" },
		"families[1].name: value \"3.0\": is given twice": func(s *Spec) { s.Families = append(s.Families, s.Families[0]) },
		"hops[0].from: value \"\": read pattern":          func(s *Spec) { s.Hops = []Edge{{"", "*"}} },
		"hops[0].to: value \"x\": read pattern":           func(s *Spec) { s.Hops = []Edge{{"*", "x"}} },
		"rules[1].name: value \"minimum\": is given twic": func(s *Spec) { s.Rules[1].Name = "minimum" },
		"rules[0].name: value \"hops\": this name stands": func(s *Spec) { s.Rules[0].Name = "hops" },
		"rules[0].name: value \"a b\": want 1 to 64":      func(s *Spec) { s.Rules[0].Name = "a b" },
		"rules[0].kind: value \"stop\": want block":       func(s *Spec) { s.Rules[0].Kind = "stop" },
		"rules[0].from: value \"<3\": read pattern":       func(s *Spec) { s.Rules[0].From = "<3" },
		"rules[0].to: value \">=E0500 <E0400\": read pat": func(s *Spec) { s.Rules[0].To = ">=E0500 <E0400" },
		"rules[0].modes[0]: value \"rollup\": want rolli": func(s *Spec) { s.Rules[0].Modes = []Mode{"rollup"} },
		"rules[1].components[0]: value \"x\": want one o": func(s *Spec) { s.Rules[1].Components = []string{"x"} },
		"rules[0].text: value \" \": want what the rule":  func(s *Spec) { s.Rules[0].Text = " " },
		"rules[0].remedy: value \"\": want what the oper": func(s *Spec) { s.Rules[0].Remedy = "" },
		"rules[2].through: value \"\": read pattern":      func(s *Spec) { s.Rules[2].Through = "" },
		"rules[0].through: value \"*\": only rules of ki": func(s *Spec) { s.Rules[0].Through = "*" },
		"rules[2].confirm: value \"true\": only rules of": func(s *Spec) { s.Rules[2].Confirm = true },
		"rules[3].remedy: value \"x\": only rules of kin": func(s *Spec) { s.Rules[3].Remedy = "x" },
		"rules: value \"5\": want at most 4 rules of kin": func(s *Spec) {
			for i := range 4 {
				r := s.Rules[2]
				r.Name = fmt.Sprint("more-", i)
				s.Rules = append(s.Rules, r)
			}
		},
	} {
		s := small()
		change(&s)
		c, faults := New(s)
		if c != nil || !slices.ContainsFunc(faults, func(f Fault) bool { return strings.HasPrefix(f.Error(), want) }) {
			t.Errorf("got %v, want a fault %q", faults, want)
		}
	}
	long := small()
	long.Name = strings.Repeat("ä", 100)
	if _, faults := New(long); len(faults) != 1 || len(faults[0].Value) > 90 || !strings.HasSuffix(faults[0].Value, "ä...") {
		t.Errorf("got %v, want one short fault", faults)
	}
}
