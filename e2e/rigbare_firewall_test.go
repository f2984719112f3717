package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/install"
)

// filters gives a host a firewall as operators write them, and returns its rules. What is not
// named in it is dropped.
func (b *bareRig) filters(t *testing.T, h string) string {
	t.Helper()
	return b.sh(t, h, `set -e
nft -f - <<'END'
table inet site {
	chain input {
		type filter hook input priority filter; policy drop;
		iif "lo" accept
		ct state established,related accept
		ip protocol icmp accept
		meta l4proto ipv6-icmp accept
		tcp dport 22 accept
	}
}
END
nft list ruleset`)
}

// says looks for what a check tells of the firewall: which one, what is opened, for whom.
func (b *bareRig) says(t *testing.T, r install.Report) {
	t.Helper()
	for _, h := range b.lab.Hosts()[:3] {
		said := ""
		for _, f := range r.Findings {
			if f.Node == h && f.Check == "firewall" {
				said = f.Finding
			}
		}
		want := []string{"nftables (inet site input)", "TCP 7443, TCP 2379, TCP 2380, UDP 7443, "}
		for _, o := range b.lab.Hosts()[:3] {
			if o != h {
				want = append(want, b.lab.Addr(o).String())
			}
		}
		for _, w := range want {
			if !strings.Contains(said, w) {
				t.Errorf("the check says of the firewall of %s: %q: want %q in it", h, said, w)
			}
		}
	}
}

// letsIn tries the ports of a member from h4, which is a stranger, and has the rules of h2
// loaded anew, as a reload of nftables does: its agent puts ours back.
func (b *bareRig) letsIn(t *testing.T) {
	t.Helper()
	for _, port := range []int{install.APIPort, install.ClientPort, install.PeerPort} {
		for h, want := range map[string]string{"h4": "closed", "h2": "open"} {
			script := fmt.Sprintf("timeout 2 bash -c 'exec 3<>/dev/tcp/%s/%d' 2>/dev/null && echo open || echo closed", b.lab.Addr("h1"), port)
			if got := strings.TrimSpace(b.sh(t, h, script)); got != want {
				t.Errorf("port %d of h1 is %s for %s, want %s", port, got, h, want)
			}
		}
	}
	opened := b.sh(t, "h2", "nft list ruleset")
	if strings.Count(opened, `comment "holdfast"`) < 8 {
		t.Errorf("the rules of h2:\n%s", opened)
	}
	b.sh(t, "h2", "nft flush ruleset")
	b.filters(t, "h2")
	b.until(t, "the agent has put our rules back", func(ctx context.Context) (string, bool) {
		out, err := b.lab.Exec(ctx, "h2", "nft", "list", "ruleset")
		return out, err == nil && len(strings.TrimSpace(out)) == len(strings.TrimSpace(opened))
	})
	b.runs(t, 3)
}
