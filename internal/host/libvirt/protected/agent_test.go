package protected

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"holdfast/internal/cluster"
)

// twoCards is what the agent in a guest answers: one card with an address of the host that
// the guest came from, one that an operator's address is on.
const twoCards = `[
  {"name": "lo", "hardware-address": "00:00:00:00:00:00", "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
  {"name": "eth0", "hardware-address": "52:54:00:00:00:0A", "ip-addresses": [
    {"ip-address": "192.0.2.21", "ip-address-type": "ipv4", "prefix": 24}, {"ip-address": "fe80::1%eth0", "ip-address-type": "ipv6", "prefix": 64}]},
  {"name": "eth1", "hardware-address": "52:54:00:00:00:0b", "ip-addresses": [{"ip-address": "198.51.100.9", "ip-address-type": "ipv4", "prefix": 24}]},
  {"name": "eth2", "hardware-address": "52:54:00:00:00:0c"}]`

func TestAddressScript(t *testing.T) {
	first := cluster.Card{MAC: "52:54:00:00:00:0a", Addr: netip.MustParsePrefix("192.0.2.22/24"),
		Gateway: netip.MustParseAddr("192.0.2.1"), Elsewhere: []netip.Addr{netip.MustParseAddr("192.0.2.21")}}
	for name, c := range map[string]struct {
		answer       string
		cards        []cluster.Card
		script, want string // the error, or what changes
	}{
		"another host's address goes": {twoCards, []cluster.Card{first},
			"ip addr del 192.0.2.21/24 dev eth0\nip link set eth0 up\nip addr add 192.0.2.22/24 dev eth0\nip route " +
				"replace default via 192.0.2.1 dev eth0\n", "52:54:00:00:00:0a has 192.0.2.22/24"},
		"an operator's address stays": {twoCards, []cluster.Card{{MAC: "52:54:00:00:00:0b", Addr: netip.MustParsePrefix("198.51.100.2/24")}},
			"ip link set eth1 up\nip addr add 198.51.100.2/24 dev eth1\n", "52:54:00:00:00:0b has 198.51.100.2/24"},
		"another netmask": {twoCards, []cluster.Card{{MAC: "52:54:00:00:00:0b", Addr: netip.MustParsePrefix("198.51.100.9/25")}},
			"ip addr del 198.51.100.9/24 dev eth1\nip link set eth1 up\nip addr add 198.51.100.9/25 dev eth1\n",
			"52:54:00:00:00:0b has 198.51.100.9/25"},
		"a card without one": {twoCards, []cluster.Card{{MAC: "52:54:00:00:00:0c",
			Addr: netip.MustParsePrefix("2001:db8::2/64"), Gateway: netip.MustParseAddr("2001:db8::1")}},
			"ip link set eth2 up\nip addr add 2001:db8::2/64 dev eth2\nip -6 route replace default via " +
				"2001:db8::1 dev eth2\n", "52:54:00:00:00:0c has 2001:db8::2/64"},
		"it has it": {twoCards, []cluster.Card{{MAC: "52:54:00:00:00:0b",
			Addr: netip.MustParsePrefix("198.51.100.9/24"), Gateway: netip.MustParseAddr("198.51.100.1")}}, "", ""},
		"no such card": {twoCards, []cluster.Card{{MAC: "52:54:00:00:00:0d", Addr: first.Addr}}, "",
			"names no card with the MAC address 52:54:00:00:00:0d"},
		"a wild name": {`[{"name": "e; reboot", "hardware-address": "52:54:00:00:00:0a"}]`, []cluster.Card{first}, "",
			`is called "e; reboot": want the name of an interface`},
		"no answer":     {"", []cluster.Card{first}, "", "does not answer"},
		"another shape": {`{"a": 1}`, []cluster.Card{first}, "", "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			ask := func(command string, _, into any) error {
				if command != "guest-network-get-interfaces" {
					return errors.New("asked for " + command)
				}
				if c.answer == "" {
					return cluster.ErrNoAgent
				}
				return json.Unmarshal([]byte(c.answer), into)
			}
			script, changes, err := addressScript(ask, c.cards)
			said := strings.Join(changes, ", ")
			if err != nil {
				said = err.Error()
			}
			if script != c.script || (said == "") != (c.want == "") || !strings.Contains(said, c.want) {
				t.Errorf("script %q, said %q; want %q, %q", script, said, c.script, c.want)
			}
		})
	}
}

func TestInGuest(t *testing.T) {
	for name, c := range map[string]struct {
		answers []string // one for each question
		want    string
	}{
		"done at the second look": {[]string{`{"pid": 7}`, `{"exited": false}`, `{"exited": true, "exitcode": 0}`}, ""},
		"it failed":               {[]string{`{"pid": 7}`, `{"exited": true, "exitcode": 2, "err-data": "bm8gaXA="}`}, "ended with 2: no ip"},
		"it was killed":           {[]string{`{"pid": 7}`, `{"exited": true, "signal": 9}`}, "ended by signal 9"},
		"it may not":              {nil, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			ask := func(_ string, _, into any) error {
				if len(c.answers) == 0 {
					return cluster.ErrNoAgent
				}
				next := c.answers[0]
				c.answers = c.answers[1:]
				return json.Unmarshal([]byte(next), into)
			}
			if err := inGuest(t.Context(), ask, "true"); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
