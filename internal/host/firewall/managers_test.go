package firewall

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// manager stands in for firewalld or ufw, which are not on the machines that test this: it
// keeps rules as their manuals say, and refuses what they do not name.
type manager struct {
	kind  string
	rules map[string][]string // ufw: "" ; firewalld: "--permanent ZONE" and "ZONE"
	calls int
	fail  int // the call that fails; 0: none
}

func (m *manager) run(_ context.Context, _, name string, args ...string) (string, error) {
	if name != m.kind {
		return "", exec.ErrNotFound
	}
	if m.calls++; m.calls == m.fail {
		return "", errors.New("killed")
	}
	if m.kind == "ufw" {
		return m.ufw(args)
	}
	return m.firewalld(args)
}

func (m *manager) ufw(args []string) (string, error) {
	switch line := strings.Join(args, " "); {
	case line == "status":
		return "Status: active\n", nil
	case line == "show added":
		out := "Added user rules (see 'ufw status' for running firewall):\n"
		for _, r := range m.rules[""] {
			out += "ufw " + r + "\n"
		}
		return out, nil
	case args[0] == "allow":
		spec, comment, _ := strings.Cut(line, " comment ")
		m.rules[""] = append(m.rules[""], spec+" comment '"+comment+"'")
	case args[0] == "delete":
		spec := strings.TrimPrefix(line, "delete ")
		i := slices.IndexFunc(m.rules[""], func(r string) bool { return strings.HasPrefix(r, spec+" comment ") })
		if i < 0 {
			return "Could not delete non-existent rule\n", nil
		}
		m.rules[""] = slices.Delete(m.rules[""], i, i+1)
	default:
		return "", fmt.Errorf("ufw %s: invalid syntax", line)
	}
	return "", nil
}

func (m *manager) firewalld(args []string) (string, error) {
	at := ""
	if args[0] == "--permanent" {
		at, args = "--permanent ", args[1:]
	}
	if zone, ok := strings.CutPrefix(args[0], "--zone="); ok {
		at, args = at+zone, args[1:]
	}
	option, value, _ := strings.Cut(args[0], "=")
	switch option {
	case "--state":
		return "running\n", nil
	case "--get-zone-of-interface":
		return "no zone\n", errors.New("exit status 2")
	case "--get-default-zone":
		return "public\n", nil
	case "--get-zones":
		return "block dmz public\n", nil
	case "--list-rich-rules":
		return strings.Join(m.rules[at], "\n") + "\n", nil
	case "--add-rich-rule":
		m.rules[at] = append(m.rules[at], value)
		return "success\n", nil
	case "--remove-rich-rule":
		i := slices.Index(m.rules[at], value)
		if i < 0 {
			return "Warning: NOT_ENABLED\n", nil
		}
		m.rules[at] = slices.Delete(m.rules[at], i, i+1)
		return "success\n", nil
	}
	return "", fmt.Errorf("unrecognized arguments: %s", args[0])
}

// state is all rules, sorted.
func (m *manager) state() string {
	var out []string
	for at, rules := range m.rules {
		for _, r := range rules {
			out = append(out, at+": "+r)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func newManager(kind string) (*manager, Firewall) {
	m := &manager{kind: kind, rules: map[string][]string{
		"":       {"allow 22/tcp comment 'ours holdfast'"},
		"public": {`rule family="ipv4" source address="10.0.0.1" port port="7443" protocol="tcp" accept`},
	}}
	return m, Firewall{Run: m.run, Addr: "192.0.2.9", Proc: "/nonexistent"}
}

// TestManagers: rules in firewalld, both those in force and those that it begins with, and in
// ufw; killed at any call and run again, they are as they would be.
func TestManagers(t *testing.T) {
	for kind, want := range map[string][]string{
		"ufw": {": allow from 10.0.0.1 to any port 7443 proto udp comment 'holdfast'",
			": allow from fd00::1 to any port 49152:49215 proto tcp comment 'holdfast'"},
		"firewall-cmd": {
			`public: rule priority="-7443" family="ipv4" source address="10.0.0.1" port port="7443" protocol="udp" accept`,
			`--permanent public: rule priority="-7443" family="ipv6" source address="fd00::1" port port="49152-49215" protocol="tcp" accept`,
		},
	} {
		m, f := newManager(kind)
		before := m.state()
		if found, err := f.Look(t.Context()); err != nil || len(found.Kinds) != 1 || m.state() != before {
			t.Errorf("%s: look: %+v, %v", kind, found, err)
		}
		m.calls = 0
		if n, err := f.Apply(t.Context(), rulesFrom("10.0.0.1", "fd00::1")); err != nil || n == 0 {
			t.Fatalf("%s: apply: %d, %v", kind, n, err)
		}
		all := m.calls
		opened := m.state()
		for _, w := range want {
			if !slices.Contains(strings.Split(opened, "\n"), w) {
				t.Errorf("%s: want %s in\n%s", kind, w, opened)
			}
		}
		if n, err := f.Apply(t.Context(), rulesFrom("10.0.0.1", "fd00::1")); err != nil || n != 0 {
			t.Errorf("%s: again: %d, %v", kind, n, err)
		}
		if _, err := f.Apply(t.Context(), rulesFrom("10.0.0.2")); err != nil || strings.Contains(m.state(), "fd00") {
			t.Errorf("%s: another member: %v\n%s", kind, err, m.state())
		}
		if _, err := f.Apply(t.Context(), nil); err != nil || m.state() != before {
			t.Errorf("%s: closed: %v\n%s\nwant\n%s", kind, err, m.state(), before)
		}
		for at := 2; at <= all; at++ { // without an answer to the first there is no manager
			m, f := newManager(kind)
			m.fail = at
			if _, err := f.Apply(t.Context(), rulesFrom("10.0.0.1", "fd00::1")); err == nil && kind == "ufw" {
				t.Errorf("%s: call %d fails, and nobody says so", kind, at)
			}
			m.fail = 0
			if _, err := f.Apply(t.Context(), rulesFrom("10.0.0.1", "fd00::1")); err != nil || m.state() != opened {
				t.Errorf("%s: killed at call %d and run again: %v\n%s\nwant\n%s", kind, at, err, m.state(), opened)
			}
		}
	}
}

// TestWhatDoesNotStay: rules that something else removes at once are an error, not a success.
func TestWhatDoesNotStay(t *testing.T) {
	m, f := newManager("ufw")
	f.Run = func(ctx context.Context, in, name string, args ...string) (string, error) {
		if len(args) > 0 && args[0] == "allow" {
			return "", nil
		}
		return m.run(ctx, in, name, args...)
	}
	if _, err := f.Apply(t.Context(), rulesFrom("10.0.0.1")); err == nil || !strings.Contains(err.Error(), "were not there after") {
		t.Errorf("apply: %v", err)
	}
}
