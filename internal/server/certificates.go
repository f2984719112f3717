package server

import (
	"context"
	"crypto/x509"
	"fmt"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/fail"
)

// Certificates is what the server needs of those who renew certificates. Errors that
// are the caller's are *fail.Error.
type Certificates interface {
	// RenewCertificates renews those of a host now, and returns what it has then.
	RenewCertificates(ctx context.Context, host cluster.HostID) ([]inventory.Certificate, error)
	// SignCertificate signs a request (PKCS #10, PEM) of the host whose certificate is
	// shown, for the name and addresses of that one.
	SignCertificate(ctx context.Context, which string, request []byte, shown *x509.Certificate) ([]byte, error)
}

var errNoCertificates = fail.Errorf(fail.Invalid, "this agent has no certificates: tls is not in its settings")

// RenewCertificates renews the certificates of a host.
func (h *handler) RenewCertificates(ctx context.Context, req *apiv1.RenewCertificatesRequest) (*apiv1.RenewCertificatesResponse, error) {
	if h.certificates == nil {
		return nil, errNoCertificates
	}
	all, err := h.certificates.RenewCertificates(ctx, cluster.HostID(req.Host))
	if err != nil {
		return nil, fmt.Errorf("renew the certificates of host %s: %w", req.Host, err)
	}
	return &apiv1.RenewCertificatesResponse{Certificates: api.Encode[[]*apiv1.Certificate](all)}, nil
}

// SignCertificate signs a certificate for the host that asks.
func (h *agentHandler) SignCertificate(ctx context.Context, req *apiv1.SignCertificateRequest) (*apiv1.SignCertificateResponse, error) {
	if h.certificates == nil {
		return nil, errNoCertificates
	}
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if who.cert == nil {
		return nil, fail.Errorf(fail.Denied, "not allowed: a certificate is signed for the host that shows one of its own, over TLS")
	}
	cert, err := h.certificates.SignCertificate(ctx, req.GetWhich(), req.GetRequest(), who.cert)
	if err != nil {
		return nil, err
	}
	return &apiv1.SignCertificateResponse{Certificate: cert}, nil
}
