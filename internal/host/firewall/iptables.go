package firewall

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// iptablesWait has the program wait for others of its kind, in seconds.
const iptablesWait = "10"

// iptables are the tables "filter" of IPv4 and IPv6, in either form.
type iptables []table

type table struct {
	f       Firewall
	program string
	v4      bool
}

// iptables finds the tables that exist: to ask for one that does not would make it. In the
// kernel's nftables they have the names that iptables-nft gives them, and n leaves their
// chains alone; those of iptables-legacy are named in /proc.
func (f Firewall) iptables(ctx context.Context, n *nft) (out []table, err error) {
	for _, fam := range []struct {
		program, family, names string
		v4                     bool
	}{{"iptables", "ip", "ip_tables_names", true}, {"ip6tables", "ip6", "ip6_tables_names", false}} {
		legacy, err := f.legacy(fam.names)
		if err != nil {
			return nil, err
		}
		isNFT := n.rules != nil && slices.ContainsFunc(n.rules.chains, func(c chain) bool {
			return c.Family == fam.family && c.Table == "filter" && c.Name == "INPUT" && c.Hook == "input"
		})
		if !legacy && !isNFT {
			continue
		}
		version, err := f.Run(ctx, "", fam.program, "-V")
		if absent(err) && !legacy {
			continue // without the program the chain is one of nftables
		}
		if err != nil {
			return nil, fmt.Errorf("the host has rules of iptables: %w", err)
		}
		ours := strings.Contains(version, "nf_tables")
		if isNFT && ours {
			out = append(out, table{f, fam.program, fam.v4})
			before := n.skip
			n.skip = func(c chain) bool {
				return c.Family == fam.family && c.Table == "filter" || before != nil && before(c)
			}
		}
		if legacy {
			program := fam.program
			if ours {
				program += "-legacy"
			}
			out = append(out, table{f, program, fam.v4})
		}
	}
	return out, nil
}

// legacy reports whether the kernel has a table "filter" of iptables-legacy.
func (f Firewall) legacy(names string) (bool, error) {
	raw, err := os.ReadFile(filepath.Join(f.Proc, "self/net", names))
	if os.IsNotExist(err) {
		return false, nil
	}
	return slices.Contains(strings.Fields(string(raw)), "filter"), err
}

// list is all of the table, a rule a line, as iptables-save has it.
func (t table) list(ctx context.Context) ([]string, error) {
	out, err := t.f.Run(ctx, "", t.program, "-w", iptablesWait, "-S")
	if err != nil {
		return nil, fmt.Errorf("ask for the rules: %w", err)
	}
	return strings.Split(strings.TrimSpace(out), "\n"), nil
}

// drops reports whether INPUT, or a chain that it leads to, drops anything.
func drops(lines []string, in string, seen map[string]bool) bool {
	if seen[in] {
		return false
	}
	seen[in] = true
	if slices.Contains(lines, "-P "+in+" DROP") {
		return true
	}
	for _, l := range lines {
		f := strings.Fields(l)
		if len(f) < 2 || f[0] != "-A" || f[1] != in {
			continue
		}
		for i := 2; i+1 < len(f); i++ {
			if f[i] != "-j" && f[i] != "-g" {
				continue
			}
			if to := f[i+1]; to == "DROP" || to == "REJECT" || drops(lines, to, seen) {
				return true
			}
		}
	}
	return false
}

func (ts iptables) look(ctx context.Context) (where []string, err error) {
	for _, t := range ts {
		lines, err := t.list(ctx)
		if err != nil {
			return nil, err
		}
		if drops(lines, "INPUT", map[string]bool{}) {
			where = append(where, t.program+" INPUT")
		}
	}
	return where, nil
}

// spec is a rule as iptables lists it, behind -A.
func (r Rule) spec() string {
	return fmt.Sprintf("INPUT -s %s/%d -p %s -m %s --dport %s -m comment --comment %s -j ACCEPT", r.From,
		r.From.BitLen(), r.Proto, r.Proto, r.ports(":"), mark)
}

func (ts iptables) apply(ctx context.Context, rules []Rule) (changed int, err error) {
	for _, t := range ts {
		n, err := t.apply(ctx, rules)
		changed += n
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// apply adds before it removes: nobody who stays is shut out between.
func (t table) apply(ctx context.Context, rules []Rule) (changed int, err error) {
	lines, err := t.list(ctx)
	if err != nil {
		return 0, err
	}
	var want, gone []string
	if drops(lines, "INPUT", map[string]bool{}) {
		for _, r := range rules {
			if r.From.Is4() == t.v4 {
				want = append(want, r.spec())
			}
		}
	}
	for _, l := range lines {
		spec, added := strings.CutPrefix(l, "-A ")
		if !added || !strings.Contains(spec+" ", " --comment "+mark+" ") {
			continue
		}
		if i := slices.Index(want, spec); i >= 0 {
			want = slices.Delete(want, i, i+1)
		} else {
			gone = append(gone, spec)
		}
	}
	for _, spec := range want {
		f := strings.Fields(spec)
		args := append([]string{"-w", iptablesWait, "-I", f[0], "1"}, f[1:]...)
		if _, err := t.f.Run(ctx, "", t.program, args...); err != nil {
			return changed, err
		}
		changed++
	}
	for _, spec := range gone {
		if _, err := t.f.Run(ctx, "", t.program, append([]string{"-w", iptablesWait, "-D"}, strings.Fields(spec)...)...); err != nil {
			return changed, err
		}
		changed++
	}
	return changed, nil
}
