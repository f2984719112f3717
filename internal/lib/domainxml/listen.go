package domainxml

import "slices"

// everywhere are addresses that every host has.
var everywhere = []string{"", "0.0.0.0", "::", "127.0.0.1", "::1", "localhost"}

// tied reports whether an address is that of one host.
func tied(addr string) bool { return !slices.Contains(everywhere, addr) }

// Listen returns the domain's text with its VNC consoles at another host's address, and
// whether that is another text: those at an address that every host has stay there.
func (d *Domain) Listen(addr string) (text string, changed bool, err error) {
	e := &editor{text: d.text}
	for _, n := range d.root.first("devices").all("graphics") {
		if n.attr("type") != "vnc" {
			continue
		}
		if tied(n.attr("listen")) {
			e.retag(n, "listen", addr)
		}
		for _, l := range n.all("listen") {
			if tied(l.attr("address")) {
				e.retag(l, "address", addr)
			}
		}
	}
	text, err = e.done()
	return text, text != d.text, err
}
