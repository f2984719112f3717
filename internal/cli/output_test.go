package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/rebuild"
)

// TestTablesAreCutForTerminals: what goes to a file or a program is whole.
func TestTablesAreCutForTerminals(t *testing.T) {
	long := strings.Repeat("a long name ", 10)
	for _, p := range []painter{{}, {cuts: true}, {cuts: true, colours: true}} {
		var b strings.Builder
		table(&b, p, []column{{"NAME", 1, 12}, {"STATE", 0, 0}}, [][]cell{{{long, plain}, {"running", green}}})
		if whole := strings.Contains(b.String(), long); whole == p.cuts {
			t.Errorf("%+v: %q", p, &b)
		}
		if strings.Contains(b.String(), "\x1b[") != p.colours {
			t.Errorf("%+v: %q", p, &b)
		}
		for l := range strings.Lines(b.String()) {
			if n := len([]rune(strings.TrimRight(l, "\n"))); p == (painter{cuts: true}) && n > width {
				t.Errorf("%d columns: %q", n, l)
			}
		}
	}
}

// TestNothingOfAWordIsLost: a word that is longer than a line, such as a list as JSON, goes on in the next one.
func TestNothingOfAWordIsLost(t *testing.T) {
	for _, s := range []string{strings.Repeat("0123456789", 4) + "end", "see /" + strings.Repeat("a/", 30) + "b now",
		strings.Repeat("\u673a", 9) + ".", "x \u673a\u673a y", "\u0301" + strings.Repeat("e\u0301", 40)} {
		for _, n := range []int{-5, 1, 2, 3, 7, 16, 30} {
			lines := wrapped(s, n)
			if got, want := strings.ReplaceAll(strings.Join(lines, ""), " ", ""), strings.ReplaceAll(s, " ", ""); got != want {
				t.Errorf("%q in %d columns is %q", s, n, lines)
			}
			for _, l := range lines {
				if Columns(l) > max(n, 2) || l == "" {
					t.Errorf("%q in %d columns has the line %q", s, n, l)
				}
			}
		}
	}
}

// TestDifferingAddress: a comparison of networks tells the address that differs, wherever in a list it is.
func TestDifferingAddress(t *testing.T) {
	ip := func(last int) string {
		return fmt.Sprintf(`{"subnet_id":"50000000-0000-4000-8000-%012d","ip_address":"10.0.0.%d"}`, last/10, last)
	}
	old, is := []string{}, []string{}
	for i := range 4 {
		old, is = append(old, ip(101+i)), append(is, ip(101+i))
	}
	is[3] = ip(223)
	d := net.Difference{Kind: "port", ID: "60000000-0000-4000-8000-000000000001", Field: "fixed_ips", Severity: net.Error,
		Old: json.RawMessage("[" + strings.Join(old, ",") + "]"), New: json.RawMessage("[" + strings.Join(is, ",") + "]")}
	for _, text := range []func(net.Difference) string{rebuild.Text, rebuild.HostText} {
		var b strings.Builder
		sayDifferences(&b, painter{}, []net.Difference{d,
			{Kind: "port", ID: "p", Field: "security_groups", Severity: net.Error, New: json.RawMessage(`[]`)}}, text, "equal")
		for _, want := range []string{`"ip_address": "10.0.0.104"`, `"ip_address": "10.0.0.223"`, "the document has nothing,"} {
			if got := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(got, want) || strings.Contains(got, "~") {
				t.Errorf("no %s in\n%s", want, b.String())
			}
		}
		for line := range strings.Lines(b.String()) {
			if Columns(strings.TrimSuffix(line, "\n")) > width {
				t.Errorf("a line is too long: %s", line)
			}
		}
	}
}
