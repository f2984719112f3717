package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/pki"
)

// InstallAgain is the remedy for a host whose certificate nobody can renew any more.
const InstallAgain = "holdfast install -c FILE again (with --hosts for hosts that run guests only) gives it a new one"

// Service keeps a host's certificates, and signs those of others where the
// authorities' keys lie on it.
type Service struct {
	*Renewer
	Host   string
	Addr   string
	Ports  []string    // where the agent's certificate is presented, HOST:PORT
	Server *tls.Config // it knows what is revoked
	// LibvirtDir has libvirtd's sockets.
	LibvirtDir string
	own        pki.Place
	signer     Signer
	// Seen and Peer are how other hosts are reached; nil where this one reaches none.
	Seen func() (map[cluster.HostID]report.Seen, bool)
	Peer func(cluster.HostID) (Peer, error)
	// Leads: this host is the coordinator.
	Leads func() bool
}

// Peer is the agent of another host.
type Peer interface {
	SignCertificate(ctx context.Context, which string, request []byte) ([]byte, error)
	RenewCertificates(ctx context.Context, host string) ([]inventory.Certificate, error)
	Close()
}

// New makes the keeper of a host's files; hypervisor: also of those that libvirt and QEMU have there.
func NewService(k Service, files config.TLS, hypervisor bool, log *slog.Logger) *Service {
	k.own, k.signer = pki.AgentPlace(files.CA, files.Cert, files.Key), Signer{CA: files.CA}
	places := []pki.Place{k.own}
	if hypervisor {
		places = append(places, pki.HypervisorPlaces()...)
	}
	k.Renewer = New(Options{Places: places, Sign: k.sign, Use: k.use, Log: log})
	return &k
}

// Warning is what people should know of this host's certificates; the coordinator tells
// of those hosts, too, that are no members: they are not in the status.
func (k *Service) Warning() string {
	var all []string
	if t := Warning(k.State()); t != "" {
		all = append(all, t)
	}
	if k.Seen == nil || !k.Leads() {
		return strings.Join(all, "; ")
	}
	seen, _ := k.Seen()
	now := time.Now()
	for _, h := range slices.SortedFunc(maps.Keys(seen), func(a, b cluster.HostID) int { return inventory.Compare(string(a), string(b)) }) {
		if seen[h].Host.Member {
			continue
		}
		var certs []inventory.Certificate
		for _, c := range seen[h].Certificates {
			certs = append(certs, c.At(now))
		}
		if t := Warning(certs); t != "" {
			all = append(all, string(h)+": "+t)
		}
	}
	return strings.Join(all, "; ")
}

// sign has a request signed: here if the authority's key is, else by a member.
func (k *Service) sign(ctx context.Context, which string, request []byte) ([]byte, error) {
	own, err := pki.ReadCert(k.own.Cert[0])
	if err != nil {
		return nil, err
	}
	cert, _, err := k.signer.Sign(which, request, own)
	if !errors.Is(err, ErrNoKey) {
		return cert, err
	}
	if time.Now().After(own.NotAfter) {
		return nil, fmt.Errorf("the agent's certificate ended on %s, and members answer nobody whose certificate "+
			"has ended: %s", own.NotAfter.UTC().Format(time.DateOnly), InstallAgain)
	}
	var members []cluster.HostID
	if k.Seen != nil {
		seen, _ := k.Seen()
		for h, s := range seen {
			if s.Host.Member && s.Up(time.Now()) && h != cluster.HostID(k.Host) {
				members = append(members, h)
			}
		}
	}
	slices.Sort(members)
	refused := fmt.Errorf("%w, and no member signs it", err)
	for _, h := range members {
		cert, err := k.askMember(ctx, h, which, request)
		if err == nil {
			return cert, nil
		}
		refused = fmt.Errorf("%w; %s: %w", refused, h, err)
	}
	return nil, refused
}

func (k *Service) askMember(ctx context.Context, h cluster.HostID, which string, request []byte) ([]byte, error) {
	c, err := k.Peer(h)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.SignCertificate(ctx, which, request)
}

// use makes a new certificate take effect, and reads it back where it is presented.
// The agent and the store's member read theirs at each connection, QEMU at each migration.
func (k *Service) use(ctx context.Context, p pki.Place, cert *x509.Certificate) error {
	switch p.Which {
	case pki.Agent:
		for _, addr := range k.Ports {
			if err := Await(ctx, addr, p, cert); err != nil {
				return err
			}
		}
	case pki.Libvirt:
		addr := net.JoinHostPort(k.Addr, libvirt.TLSPort)
		if !Listens(ctx, addr) {
			return nil // it reads its files when it begins to serve TLS
		}
		if err := libvirt.UpdateTLS(ctx, k.LibvirtDir); err != nil {
			return err
		}
		return Await(ctx, addr, p, cert)
	}
	return nil
}

// RenewCertificates renews those of a host now, by its own agent.
func (k *Service) RenewCertificates(ctx context.Context, host cluster.HostID) ([]inventory.Certificate, error) {
	if host == cluster.HostID(k.Host) {
		return k.Renew(context.WithoutCancel(ctx)) // it ends by itself, and not half done
	}
	if k.Peer == nil {
		return nil, fail.Errorf(fail.Invalid, "host %q: this agent has no TLS, and reaches no other agent", host)
	}
	c, err := k.Peer(host)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	defer c.Close()
	return c.RenewCertificates(ctx, string(host))
}

// SignCertificate signs for the host whose certificate is shown.
func (k *Service) SignCertificate(_ context.Context, which string, request []byte, shown *x509.Certificate) ([]byte, error) {
	self := k.Host
	if time.Now().After(shown.NotAfter) { // an old connection
		return nil, fail.Errorf(fail.Denied, "the certificate of %s ended on %s", shown.Subject.CommonName,
			shown.NotAfter.UTC().Format(time.DateOnly)).With(InstallAgain)
	}
	if revoked := k.Server.VerifyConnection; revoked != nil {
		if err := revoked(tls.ConnectionState{PeerCertificates: []*x509.Certificate{shown}}); err != nil {
			return nil, fail.Errorf(fail.Denied, "%w", err)
		}
	}
	cert, leaf, err := k.signer.Sign(which, request, shown)
	switch {
	case errors.Is(err, ErrNoKey):
		return nil, fail.Errorf(fail.Refused, "%s: %w", self, err)
	case errors.Is(err, pki.ErrBeyond):
		k.Log.Warn("certificate refused", "host", shown.Subject.CommonName, "which", which, "err", err)
		return nil, fail.Errorf(fail.Denied, "%s: %w", self, err)
	case err != nil:
		return nil, fail.Errorf(fail.Failed, "%s: %w", self, err)
	}
	k.Log.Info("certificate signed", "host", shown.Subject.CommonName, "which", which, "serial", fmt.Sprintf("%x", leaf.SerialNumber),
		"shown", fmt.Sprintf("%x", shown.SerialNumber), "ends", leaf.NotAfter.UTC().Format(time.RFC3339))
	return cert, nil
}

// RenewExpired gives a host that was off for too long a new certificate, where the
// authority's key is: without one its agent does not start.
func RenewExpired(files config.TLS, log *slog.Logger) error {
	place, signer := pki.AgentPlace(files.CA, files.Cert, files.Key), Signer{CA: files.CA}
	r := New(Options{
		Places: []pki.Place{place}, Log: log,
		Sign: func(_ context.Context, which string, request []byte) ([]byte, error) {
			have, err := pki.ReadCert(place.Cert[0])
			if err != nil {
				return nil, err
			}
			cert, _, err := signer.Sign(which, request, have)
			return cert, err
		},
		Use: func(context.Context, pki.Place, *x509.Certificate) error { return nil },
	})
	_, err := r.Renew(context.Background())
	return err
}
