package install

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"time"

	"holdfast/internal/lib/pki"
)

// Validity of what an installation signs.
const (
	authorityFor = 20 * 365 * 24 * time.Hour
	hostFor      = 5 * 365 * 24 * time.Hour
)

// Authorities sign the certificates of a cluster: those of the agents, those by
// which QEMU encrypts guests' memory, and those of libvirtd (docs/adr/0027 says why
// they are three).
type Authorities struct {
	agents, memory, libvirt pki.CA
}

// AuthorityFiles are the names of their files in KeyDir, on members only.
func AuthorityFiles() []string {
	return []string{"ca.pem", "ca.key", "memory-ca.pem", "memory-ca.key", "libvirt-ca.pem", "libvirt-ca.key"}
}

// NewAuthorities makes those of a new cluster.
func NewAuthorities(cluster string) (a Authorities, err error) {
	for _, c := range []struct {
		ca   *pki.CA
		name string
	}{{&a.agents, "agents"}, {&a.memory, "guests' memory"}, {&a.libvirt, "libvirt"}} {
		if *c.ca, err = pki.NewCA("Holdfast "+cluster+" "+c.name, authorityFor); err != nil {
			return a, err
		}
	}
	return a, nil
}

// ReadAuthorities reads those of an installed cluster, by the names of their files.
func ReadAuthorities(host string, files map[string][]byte) (a Authorities, err error) {
	for _, c := range []struct {
		ca        *pki.CA
		cert, key string
	}{{&a.agents, "ca.pem", "ca.key"}, {&a.memory, "memory-ca.pem", "memory-ca.key"}, {&a.libvirt, "libvirt-ca.pem", "libvirt-ca.key"}} {
		if *c.ca, err = pki.ParseCA(host+": "+KeyDir+"/"+c.cert, files[c.cert], files[c.key]); err != nil {
			return a, err
		}
	}
	return a, nil
}

// qemuGroups are the groups that QEMU runs with: of Debian, of RHEL.
var qemuGroups = []string{"libvirt-qemu", "qemu", "kvm"}

// files are the certificates that a host needs, with their keys. What it has and
// can go on using is left out.
func (a Authorities) files(h Host, f Facts, tls bool) (out []File, err error) {
	addr, err := netip.ParseAddr(h.Addr)
	if err != nil {
		return nil, err
	}
	ips := []netip.Addr{addr, netip.MustParseAddr("127.0.0.1")}
	add := func(mode fs.FileMode, group []string, path string, data []byte) {
		out = append(out, File{Path: path, Mode: mode, Data: data, Group: group})
	}
	add(0o600, nil, CAFile, a.agents.CertPEM())
	if !serves(f.Certificates[KeyDir+"/host.pem"], a.agents, h) {
		pair, err := a.agents.Issue(h.Name, ips, []string{"localhost"}, hostFor)
		if err != nil {
			return nil, err
		}
		add(0o600, nil, KeyDir+"/host.key", pair.KeyPEM)
		add(0o600, nil, KeyDir+"/host.pem", pair.CertPEM)
	}
	if !h.Guests {
		for _, c := range []struct {
			ca   pki.CA
			name string
		}{{a.agents, "ca"}, {a.memory, "memory-ca"}, {a.libvirt, "libvirt-ca"}} {
			key, err := c.ca.KeyPEM()
			if err != nil {
				return nil, err
			}
			add(0o600, nil, KeyDir+"/"+c.name+".key", key)
			if c.name != "ca" {
				add(0o600, nil, KeyDir+"/"+c.name+".pem", c.ca.CertPEM())
			}
		}
	}
	if !tls {
		return out, nil
	}
	for _, s := range hypervisorSets(a) {
		have := f.Certificates[s.cert[0]]
		if s.foreign(f) || serves(have, s.ca, h) {
			continue
		}
		pair, err := s.ca.IssueHypervisor(h.Name, []netip.Addr{addr}, hostFor)
		if err != nil {
			return nil, err
		}
		add(s.mode, s.group, s.authority, s.ca.CertPEM())
		for i := range s.cert {
			add(s.mode, s.group, s.key[i], pair.KeyPEM)
			add(s.mode, s.group, s.cert[i], pair.CertPEM)
		}
	}
	return out, nil
}

// hypervisorSet is where QEMU or libvirt looks for its certificates.
type hypervisorSet struct {
	what      string
	ca        pki.CA
	authority string
	cert, key [2]string // of the server and of the client
	mode      fs.FileMode
	group     []string
}

func hypervisorSets(a Authorities) (out []hypervisorSet) {
	for _, p := range pki.HypervisorPlaces() {
		s := hypervisorSet{what: "libvirt", ca: a.libvirt, authority: p.Authority, cert: [2]string(p.Cert), key: [2]string(p.Key), mode: 0o600}
		if p.Which == pki.Memory {
			s.what, s.ca, s.mode, s.group = "QEMU", a.memory, 0o640, qemuGroups
		}
		out = append(out, s)
	}
	return out
}

// CertificateFiles are the certificates that a host tells of itself.
func CertificateFiles() []string {
	out := []string{KeyDir + "/host.pem"}
	for _, s := range hypervisorSets(Authorities{}) {
		out = append(out, s.authority, s.cert[0])
	}
	return out
}

// foreign: the host has certificates of somebody else's authority there. They
// stay.
func (s hypervisorSet) foreign(f Facts) bool {
	have := f.Certificates[s.authority]
	return have != "" && !bytes.Equal(bytes.TrimSpace([]byte(have)), bytes.TrimSpace(s.ca.CertPEM()))
}

// serves reports whether a certificate is good for a host: of the authority, for
// its address, and for at least a third of its time.
func serves(text string, ca pki.CA, h Host) bool {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || cert.Subject.CommonName != h.Name {
		return false
	}
	authority, _ := pem.Decode(ca.CertPEM())
	parent, err := x509.ParseCertificate(authority.Bytes)
	if err != nil || cert.CheckSignatureFrom(parent) != nil {
		return false
	}
	named := slices.ContainsFunc(cert.IPAddresses, func(ip net.IP) bool { return ip.Equal(net.ParseIP(h.Addr)) })
	return named && time.Until(cert.NotAfter) > hostFor/3
}
