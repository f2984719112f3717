package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"holdfast/internal/lib/pki"
)

// memoryDir is where QEMU on a host looks for the certificates with which guests'
// memory travels, below /etc/libvirt.
const memoryDir = "pki/qemu"

// prepareMemory makes those certificates, of an authority of their own, once.
func (p plan) prepareMemory() error {
	caCert, caKey := p.path("pki", "memory.pem"), p.path("pki", "memory.key")
	ca, err := pki.LoadCA(caCert, caKey)
	if errors.Is(err, os.ErrNotExist) {
		if ca, err = pki.NewCA("guests' memory of holdfast laboratory "+p.id(), validity); err == nil {
			err = ca.Write(caCert, caKey)
		}
	}
	for _, h := range p.hosts() {
		dir := p.disk(h, "etc-libvirt", memoryDir)
		if err != nil || exists(dir) {
			continue
		}
		var pair pki.Pair
		if pair, err = ca.IssueHypervisor(h, []netip.Addr{p.hostAddr(h)}, validity); err == nil {
			err = ca.WriteQEMU(dir, pair)
		}
	}
	if err != nil {
		return fmt.Errorf("prepare certificates of guests' memory: %w", err)
	}
	return nil
}
