package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Counts returns a function that says whether a chain (leaf first) that was verified when a connection began still
// counts: an error that wraps ErrExpired or ErrRevoked, or nil. A listener asks it of its open connections every
// few seconds. conf is that of Load, with the list of Deny if there is one. A list that can not be read says
// nothing of open connections, while it keeps new ones out: a fault in a file must not end all that runs.
func Counts(conf *tls.Config) func(chain []*x509.Certificate) error {
	return func(chain []*x509.Certificate) error {
		now := time.Now()
		for _, c := range chain {
			if now.After(c.NotAfter) {
				return fmt.Errorf("%q, serial %x: %w on %s", c.Subject.CommonName, c.SerialNumber, ErrExpired, day(c.NotAfter))
			}
		}
		if conf.VerifyConnection == nil || len(chain) == 0 {
			return nil
		}
		err := conf.VerifyConnection(tls.ConnectionState{PeerCertificates: chain, VerifiedChains: [][]*x509.Certificate{chain}})
		if errors.Is(err, ErrRevoked) {
			return err
		}
		return nil
	}
}
