package transition

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/cli/output"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/rebuild"
)

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
		sayDifferences(&b, output.Painter{}, []net.Difference{d,
			{Kind: "port", ID: "p", Field: "security_groups", Severity: net.Error, New: json.RawMessage(`[]`)}}, text, "equal")
		for _, want := range []string{`"ip_address": "10.0.0.104"`, `"ip_address": "10.0.0.223"`, "the document has nothing,"} {
			if got := strings.Join(strings.Fields(b.String()), " "); !strings.Contains(got, want) || strings.Contains(got, "~") {
				t.Errorf("no %s in\n%s", want, b.String())
			}
		}
		for line := range strings.Lines(b.String()) {
			if output.Columns(strings.TrimSuffix(line, "\n")) > output.Width {
				t.Errorf("a line is too long: %s", line)
			}
		}
	}
}
