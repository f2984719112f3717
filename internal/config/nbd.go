package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"holdfast/internal/lib/domainxml"
)

// plainText says of a server, HOST:PORT, what an NBD disk without TLS means. That the hosts'
// qemu.conf may ask for TLS is not known here.
func plainText(server string) string {
	return fmt.Sprintf("the disk's data go over the network unencrypted, unless nbd_tls is 1 in each host's "+
		"qemu.conf, and whoever reaches %s may read and write them: use nbds://, in a domain of your own tls='yes'", server)
}

// PlainDisks tells of the management VM's disks that are reached over a network without TLS, a text
// for each server; none when the configuration has no such disk, or can not be read.
func (c Cluster) PlainDisks() (texts []string) {
	var servers []string
	if s := plainServer(c.ImageURL); s != "" {
		servers = append(servers, s)
	}
	if dom, err := domainxml.Parse(string(c.DomainXML)); c.DomainXML != "" && err == nil {
		for _, n := range dom.Needs() {
			if s := plainNeed(n); s != "" {
				servers = append(servers, s)
			}
		}
	}
	for _, s := range servers {
		texts = append(texts, plainText(s))
	}
	return texts
}

// plainNeed is plainServer for what a domain needs.
func plainNeed(n domainxml.Need) string {
	if n.Kind != domainxml.Export {
		return ""
	}
	return plainServer(n.Value)
}

// plainServer is the HOST:PORT of an nbd:// URL, "" when another host is not reached by it.
func plainServer(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "nbd" || u.Hostname() == "" || strings.EqualFold(u.Hostname(), "localhost") {
		return ""
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.Unmap().IsLoopback() {
		return ""
	}
	return u.Host
}

// imageURL checks ImageURL.
func (c *checker) imageURL(cl *Cluster) {
	const p = "ImageURL"
	if cl.ImageURL == "" {
		return
	}
	u, err := url.Parse(cl.ImageURL)
	switch {
	case err != nil || u.Scheme != "nbd" && u.Scheme != "nbds" || u.User != nil || !isHostPort(u.Host, true) ||
		u.RawQuery != "" || u.Fragment != "":
		c.fault(p, cl.ImageURL, "want nbd://HOST:PORT/EXPORT, or by TLS nbds://HOST:PORT/EXPORT, or nothing")
	case cl.Type != FileConf:
		c.fault(p, cl.ImageURL, "allowed only with Type FileConf")
	default:
		if s := plainServer(cl.ImageURL); s != "" {
			c.warn(p, plainText(s))
		}
	}
}

// sameImage reports whether two values of ImageURL name one export, with and without TLS.
func sameImage(a, b string) bool {
	from, x, _ := strings.Cut(a, "://")
	to, y, _ := strings.Cut(b, "://")
	return x == y && (from == "nbd" && to == "nbds" || from == "nbds" && to == "nbd")
}
