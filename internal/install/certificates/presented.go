package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/pki"
)

const (
	// takesEffect is how long a server may go on with the certificate before.
	takesEffect = 3 * time.Second
	askAgain    = 200 * time.Millisecond
	dialWithin  = 2 * time.Second
)

// Presented is the certificate that a server of this host presents to one that shows
// what is in a place and trusts its authority. name is in the certificate.
func Presented(ctx context.Context, addr, name string, p pki.Place) (*x509.Certificate, error) {
	_, conf, err := pki.Load(p.Authority, p.Cert[0], p.Key[0])
	if err != nil {
		return nil, err
	}
	conf.ServerName = name
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its certificate: %w", addr, err)
	}
	defer conn.Close()
	t, ok := conn.(*tls.Conn)
	if !ok {
		return nil, fmt.Errorf("ask %s for its certificate: %T is no TLS connection", addr, conn)
	}
	return t.ConnectionState().PeerCertificates[0], nil
}

// Await waits until a server presents a certificate.
func Await(ctx context.Context, addr string, p pki.Place, want *x509.Certificate) error {
	deadline := time.Now().Add(takesEffect)
	for {
		have, err := Presented(ctx, addr, want.Subject.CommonName, p)
		if err == nil && have.SerialNumber.Cmp(want.SerialNumber) != 0 {
			err = fmt.Errorf("%s presents the certificate with serial %x", addr, have.SerialNumber)
		}
		if err == nil || time.Now().After(deadline) || !clock.Sleep(ctx, askAgain) {
			return err
		}
	}
}

// Listens reports whether anybody takes connections at an address.
func Listens(ctx context.Context, addr string) bool {
	d := net.Dialer{Timeout: dialWithin}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
