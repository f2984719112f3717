package firewall

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// ruleset is what "nft -j list ruleset" tells (libnftables-json(5)), as far as it matters.
type ruleset struct {
	chains []chain
	rules  []nftRule
}

type chain struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	Hook   string `json:"hook"`
	Policy string `json:"policy"`
}

func (c chain) String() string { return c.Family + " " + c.Table + " " + c.Name }

type nftRule struct {
	Family  string           `json:"family"`
	Table   string           `json:"table"`
	Chain   string           `json:"chain"`
	Handle  int              `json:"handle"`
	Comment string           `json:"comment"`
	Expr    []map[string]any `json:"expr"`
}

func (r nftRule) in(c chain) bool {
	return r.Family == c.Family && r.Table == c.Table && r.Chain == c.Name
}

// ruleset asks for all rules; nil: there is no nft.
func (f Firewall) ruleset(ctx context.Context) (*ruleset, error) {
	out, err := f.Run(ctx, "", "nft", "-j", "list", "ruleset")
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask nft for the rules: %w", err)
	}
	var all struct {
		Objects []struct {
			Chain *chain   `json:"chain"`
			Rule  *nftRule `json:"rule"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return nil, fmt.Errorf("read the rules that nft lists: %w", err)
	}
	rs := &ruleset{}
	for _, o := range all.Objects {
		if o.Chain != nil {
			rs.chains = append(rs.chains, *o.Chain)
		}
		if o.Rule != nil {
			rs.rules = append(rs.rules, *o.Rule)
		}
	}
	return rs, nil
}

// filters reports whether a chain, or one that it leads to, drops anything.
func (rs *ruleset) filters(c chain, seen map[string]bool) bool {
	if c.Policy == "drop" {
		return true
	}
	if seen[c.String()] {
		return false
	}
	seen[c.String()] = true
	for _, r := range rs.rules {
		if r.in(c) && rs.drops(c, r.Expr, seen) {
			return true
		}
	}
	return false
}

// drops reports whether statements drop a packet, also by a verdict map.
func (rs *ruleset) drops(c chain, v any, seen map[string]bool) bool {
	switch v := v.(type) {
	case []map[string]any:
		for _, x := range v {
			if rs.drops(c, x, seen) {
				return true
			}
		}
	case []any:
		for _, x := range v {
			if rs.drops(c, x, seen) {
				return true
			}
		}
	case map[string]any:
		for key, x := range v {
			switch key {
			case "drop", "reject":
				return true
			case "xt":
				if t, ok := x.(map[string]any); ok && t["name"] == "REJECT" {
					return true
				}
			case "jump", "goto":
				if t, ok := x.(map[string]any); ok {
					name, _ := t["target"].(string)
					if rs.filters(chain{Family: c.Family, Table: c.Table, Name: name}, seen) {
						return true
					}
				}
			default:
				if rs.drops(c, x, seen) {
					return true
				}
			}
		}
	}
	return false
}

// nft are the chains of nftables but those that iptables has made.
type nft struct {
	f     Firewall
	rules *ruleset
	skip  func(chain) bool // chains of iptables; nil: there are none
}

// inputs are the base chains that packets to this host pass.
func (n *nft) inputs() (out []chain) {
	for _, c := range n.rules.chains {
		inet := c.Family == "inet" || c.Family == "ip" || c.Family == "ip6"
		if inet && c.Hook == "input" && c.Type == "filter" && (n.skip == nil || !n.skip(c)) {
			out = append(out, c)
		}
	}
	return out
}

func (n *nft) dropping() (out []chain) {
	for _, c := range n.inputs() {
		if n.rules.filters(c, map[string]bool{}) {
			out = append(out, c)
		}
	}
	return out
}

func (n *nft) look(context.Context) (where []string, err error) {
	for _, c := range n.dropping() {
		where = append(where, c.String())
	}
	return where, nil
}

// fits reports whether packets from an address pass a chain of that family.
func (r Rule) fits(c chain) bool {
	return c.Family == "inet" || (c.Family == "ip") == r.From.Is4()
}

func (r Rule) protocol() string {
	if r.From.Is4() {
		return "ip"
	}
	return "ip6"
}

// expr is a rule as nft lists it.
func (r Rule) expr() []map[string]any {
	match := func(protocol, field string, right any) map[string]any {
		return map[string]any{"match": map[string]any{"op": "==",
			"left": map[string]any{"payload": map[string]any{"protocol": protocol, "field": field}}, "right": right}}
	}
	var ports any = float64(r.First)
	if r.Last > r.First {
		ports = map[string]any{"range": []any{float64(r.First), float64(r.Last)}}
	}
	return []map[string]any{match(r.protocol(), "saddr", r.From.String()), match(r.Proto, "dport", ports), {"accept": nil}}
}

// apply changes all chains in one transaction.
func (n *nft) apply(ctx context.Context, rules []Rule) (changed int, err error) {
	var b strings.Builder
	kept := map[string]bool{} // chain and rule
	key := func(c chain, r Rule) string { return fmt.Sprint(c, r) }
	wanted := n.dropping()
	for _, have := range n.rules.rules {
		if have.Comment != mark {
			continue
		}
		stays := false
		for _, c := range wanted {
			for _, r := range rules {
				if have.in(c) && r.fits(c) && !kept[key(c, r)] && reflect.DeepEqual(have.Expr, r.expr()) {
					kept[key(c, r)], stays = true, true
				}
			}
		}
		if !stays {
			fmt.Fprintf(&b, "delete rule %s %s %s handle %d\n", have.Family, have.Table, have.Chain, have.Handle)
			changed++
		}
	}
	for _, c := range wanted {
		for _, r := range rules {
			if r.fits(c) && !kept[key(c, r)] {
				fmt.Fprintf(&b, "insert rule %s %s %s %s saddr %s %s dport %s accept comment %q\n", c.Family, c.Table,
					c.Name, r.protocol(), r.From, r.Proto, r.ports("-"), mark)
				changed++
			}
		}
	}
	if changed == 0 {
		return 0, nil
	}
	_, err = n.f.Run(ctx, b.String(), "nft", "-f", "-")
	return changed, err
}
