package certificates

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/lib/pki"
)

// ErrNoKey: no authority's key is on this host for such a certificate.
var ErrNoKey = errors.New("the authority's key is not on this host")

// usual is the life of a certificate when that of the one before says nothing, because
// it was cut at its authority's end: as of those of an installation.
const usual = 5 * 365 * 24 * time.Hour

// Signer signs with the authorities whose keys lie on this host, beside the certificate
// of the agents' authority: ca.key, memory-ca.pem and .key, libvirt-ca.pem and .key.
type Signer struct {
	CA string // file with the certificate of the agents' authority
}

// Authority reads the one that signs certificates of a place. ErrNoKey: it is not here.
func (s Signer) Authority(which string) (pki.CA, error) {
	cert := s.CA
	switch which {
	case pki.Agent:
	case pki.Memory, pki.Libvirt:
		cert = filepath.Join(filepath.Dir(s.CA), which+"-ca.pem")
	default:
		return pki.CA{}, fmt.Errorf("certificate %q: want %s, %s or %s", which, pki.Agent, pki.Memory, pki.Libvirt)
	}
	key := strings.TrimSuffix(cert, filepath.Ext(cert)) + ".key"
	ca, err := pki.LoadCA(cert, key)
	if errors.Is(err, fs.ErrNotExist) {
		return ca, fmt.Errorf("%w (%s)", ErrNoKey, key)
	}
	return ca, err
}

// Sign signs a request whose maker has shown the agents' certificate have: for its name
// and addresses only, and for as long as that was valid.
func (s Signer) Sign(which string, requestPEM []byte, have *x509.Certificate) (certPEM []byte, cert *x509.Certificate, err error) {
	ca, err := s.Authority(which)
	if err != nil {
		return nil, nil, err
	}
	life := pki.Life(have)
	if agents, err := pki.ReadCert(s.CA); err == nil && !have.NotAfter.Before(agents.NotAfter) {
		life = usual
	}
	use := pki.ForHypervisor
	if which == pki.Agent {
		use = pki.ForAgents
	}
	return ca.Sign(requestPEM, have, use, life)
}
