package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// BadURL finds a URL of the store that is not https with certificates, or not http
// without: with the other it could never be reached. http is for loopback only,
// unless the network is insecure by the operator's word.
func (n Node) BadURL(insecure bool) (field, value string, err error) {
	want, why := "http", "no tls files are given"
	if n.TLS.CA != "" {
		want, why = "https", "tls files are given"
	}
	type at struct{ field, url string }
	var all []at
	for i, u := range n.Store.Endpoints {
		all = append(all, at{fmt.Sprintf("store.endpoints[%d]", i), u})
	}
	if m := n.Store.Member; m != nil {
		all = append(all, at{"store.member.listen_peer", m.ListenPeer}, at{"store.member.listen_client", m.ListenClient},
			at{"store.member.peer_url", m.PeerURL}, at{"store.member.client_url", m.ClientURL})
		for h, u := range m.Initial {
			all = append(all, at{"store.member.initial." + h, u})
		}
	}
	slices.SortFunc(all, func(x, y at) int { return strings.Compare(x.field, y.field) })
	for _, a := range all {
		u, err := url.Parse(a.url)
		if err != nil || u.Scheme != want {
			return a.field, a.url, fmt.Errorf("want %s://HOST:PORT, because %s", want, why)
		}
		if want == "http" && !insecure && !loopback(u.Hostname()) {
			return a.field, a.url, errPlain
		}
	}
	return "", "", nil
}

// errPlain: without TLS the store asks nobody who he is.
var errPlain = errors.New("without TLS whoever reaches this address can write the owner record, and so have the " +
	"management VM run twice: want https://HOST:PORT with tls.ca, tls.cert and tls.key, a loopback address " +
	"(127.0.0.0/8, ::1, localhost), or --insecure where the network is a laboratory's own")

// loopback reports whether a host of a URL is this host to everybody. Names other
// than localhost are not looked up: what they mean may change.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
