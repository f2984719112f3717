package api

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"holdfast/internal/lib/fail"
)

// ClientTLS returns the TLS settings of a client: pool holds the cluster's CA.
func ClientTLS(cert tls.Certificate, pool *x509.CertPool) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, MinVersion: tls.VersionTLS13}
}

// LoadTLS reads the settings of a client from PEM files: the CA's certificate, and the certificate and key of the client.
func LoadTLS(ca, cert, key string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "read the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fail.Errorf(fail.Invalid, "read the CA: %s holds no PEM certificate", ca)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "read the client certificate: %w", err)
	}
	return ClientTLS(pair, pool), nil
}
