package firewall

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// firewalld keeps rich rules (firewalld.richlanguage(5)), in the zone of the interface that
// has this host's address: those in force, and those it begins with.
type firewalld struct{ f Firewall }

// priority marks our rich rules, which can have no comment.
const priority = "-7443"

func (r Rule) rich() string {
	family := "ipv4"
	if !r.From.Is4() {
		family = "ipv6"
	}
	return fmt.Sprintf(`rule priority="%s" family="%s" source address="%s" port port="%s" protocol="%s" accept`,
		priority, family, r.From, r.ports("-"), r.Proto)
}

func (d firewalld) ask(ctx context.Context, args ...string) (string, error) {
	out, err := d.f.Run(ctx, "", "firewall-cmd", args...)
	return strings.TrimSpace(out), err
}

// zone of this host's interface; the default one where it has none of its own.
func (d firewalld) zone(ctx context.Context) (string, error) {
	name, err := device(d.f.Addr)
	if err != nil {
		return "", err
	}
	if name != "" {
		// It fails, and says "no zone", for an interface of the default zone.
		if zone, err := d.ask(ctx, "--get-zone-of-interface="+name); err == nil && zone != "" {
			return zone, nil
		}
	}
	return d.ask(ctx, "--get-default-zone")
}

// device is the interface that has an address; "" none has.
func device(addr string) (string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("list the network interfaces: %w", err)
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			return "", fmt.Errorf("list the addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().String() == addr {
				return i.Name, nil
			}
		}
	}
	return "", nil
}

func (d firewalld) look(ctx context.Context) ([]string, error) {
	zone, err := d.zone(ctx)
	return []string{"zone " + zone}, err
}

func (d firewalld) apply(ctx context.Context, rules []Rule) (changed int, err error) {
	zone, err := d.zone(ctx)
	if err != nil {
		return 0, err
	}
	for _, which := range [][]string{{"--permanent"}, nil} {
		zones, err := d.ask(ctx, slices.Concat(which, []string{"--get-zones"})...)
		if err != nil {
			return changed, err
		}
		for _, z := range strings.Fields(zones) {
			var want []Rule
			if z == zone {
				want = rules
			}
			n, err := d.applyTo(ctx, slices.Concat(which, []string{"--zone=" + z}), want)
			changed += n
			if err != nil {
				return changed, err
			}
		}
	}
	return changed, nil
}

func (d firewalld) applyTo(ctx context.Context, at []string, rules []Rule) (changed int, err error) {
	listed, err := d.ask(ctx, slices.Concat(at, []string{"--list-rich-rules"})...)
	if err != nil {
		return 0, err
	}
	have := strings.Split(listed, "\n")
	var want []string
	for _, r := range rules {
		want = append(want, r.rich())
		if !slices.Contains(have, r.rich()) {
			if _, err := d.ask(ctx, slices.Concat(at, []string{"--add-rich-rule=" + r.rich()})...); err != nil {
				return changed, err
			}
			changed++
		}
	}
	for _, h := range have {
		if strings.HasPrefix(h, `rule priority="`+priority+`" `) && !slices.Contains(want, h) {
			if _, err := d.ask(ctx, slices.Concat(at, []string{"--remove-rich-rule=" + h})...); err != nil {
				return changed, err
			}
			changed++
		}
	}
	return changed, nil
}

// ufw keeps rules with comments (ufw(8)).
type ufw struct{ f Firewall }

func (r Rule) ufw() string {
	return fmt.Sprintf("allow from %s to any port %s proto %s", r.From, r.ports(":"), r.Proto)
}

func (u ufw) look(context.Context) ([]string, error) { return []string{"ufw"}, nil }

// apply compares with "ufw show added": the rules as they are given to ufw.
func (u ufw) apply(ctx context.Context, rules []Rule) (changed int, err error) {
	out, err := u.f.Run(ctx, "", "ufw", "show", "added")
	if err != nil {
		return 0, fmt.Errorf("ask for the rules: %w", err)
	}
	var have []string
	for l := range strings.Lines(out) {
		if spec, ok := strings.CutSuffix(strings.TrimSpace(l), " comment '"+mark+"'"); ok {
			have = append(have, strings.TrimPrefix(spec, "ufw "))
		}
	}
	var want []string
	for _, r := range rules {
		want = append(want, r.ufw())
		if !slices.Contains(have, r.ufw()) {
			if _, err := u.f.Run(ctx, "", "ufw", append(strings.Fields(r.ufw()), "comment", mark)...); err != nil {
				return changed, err
			}
			changed++
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			if _, err := u.f.Run(ctx, "", "ufw", append([]string{"delete"}, strings.Fields(h)...)...); err != nil {
				return changed, err
			}
			changed++
		}
	}
	return changed, nil
}
