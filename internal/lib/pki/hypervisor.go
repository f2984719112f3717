package pki

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/lib/durable"
)

// This file makes the certificates with which libvirtd and QEMU talk to those of other
// hosts. They must not come from the authority of the agents: whoever runs in QEMU can
// read QEMU's key, and with it would pass for a member of the cluster. For the same
// reason libvirtd has another authority than QEMU.

// IssueHypervisor is Issue for libvirtd or QEMU. Both want a certificate without key
// usage, or with one (key encipherment) that a key of this kind must not have (RFC 8813).
// The names that peers check are host and ips, where libvirtd is reached.
func (ca CA) IssueHypervisor(host string, ips []netip.Addr, validity time.Duration) (Pair, error) {
	if ca.key == nil {
		return Pair{}, fmt.Errorf("issue certificate for the hypervisor of %q: the authority has no key", host)
	}
	if host == "" {
		return Pair{}, errors.New("issue certificate for a hypervisor: empty host name")
	}
	template, err := ca.leaf(host, ips, nil, validity)
	if err != nil {
		return Pair{}, fmt.Errorf("issue certificate for the hypervisor of %q: %w", host, err)
	}
	template.KeyUsage = 0
	return ca.pair(template)
}

// WriteQEMU puts the authority's certificate and the pair into dir under the names that
// QEMU looks for (default /etc/pki/qemu), and makes dir. Mode 0640, 0750 for dir: its
// group must be the one that QEMU runs with.
func (ca CA) WriteQEMU(dir string, p Pair) error {
	return ca.writeSet(dir, p, "ca-cert.pem", "%s-cert.pem", "%s-key.pem", 0o640)
}

// WriteLibvirt puts the authority's certificate and the pair into dir under the names
// that libvirt looks for in a folder of its client's (URI parameter pkipath), and makes
// dir. Mode 0600, 0700 for dir: who reads them rules over the guests of all hosts.
func (ca CA) WriteLibvirt(dir string, p Pair) error {
	return ca.writeSet(dir, p, "cacert.pem", "%scert.pem", "%skey.pem", 0o600)
}

// writeSet writes the files of one program; the pair serves as server and as client.
func (ca CA) writeSet(dir string, p Pair, caName, certName, keyName string, mode os.FileMode) error {
	fail := func(err error) error { return fmt.Errorf("write certificates of the hypervisor: %w", err) }
	if err := durable.MakeDirs(dir, mode|(mode&0o440)>>2); err != nil {
		return fail(err)
	}
	content := map[string][]byte{caName: ca.CertPEM()}
	for _, role := range []string{"server", "client"} {
		content[fmt.Sprintf(certName, role)], content[fmt.Sprintf(keyName, role)] = p.CertPEM, p.KeyPEM
	}
	for name, data := range content {
		path := filepath.Join(dir, name)
		if err := durable.WriteFile(path, data, mode); err != nil {
			return fail(err)
		}
	}
	return nil
}
