package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/install/certificates"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/pki"
	"holdfast/internal/upgrade/service"
)

// installAgain is the remedy for a host whose certificate nobody can renew any more.
const installAgain = "holdfast install -c FILE again (with --hosts for hosts that run guests only) gives it a new one"

// keeper keeps this host's certificates, and signs those of others where the
// authorities' keys lie on it.
type keeper struct {
	*certificates.Renewer
	nd     *node
	own    pki.Place
	signer certificates.Signer
	// seen and peer are how other hosts are reached; nil where this one reaches none.
	seen func() (map[cluster.HostID]report.Seen, bool)
	peer func(cluster.HostID) (service.Peer, error)
	// leads: this host is the coordinator.
	leads func() bool
}

// keep makes the keeper; nil without certificates.
func (nd *node) keep() *keeper {
	t := nd.n.TLS
	if t.CA == "" {
		return nil
	}
	k := &keeper{nd: nd, own: pki.AgentPlace(t.CA, t.Cert, t.Key), signer: certificates.Signer{CA: t.CA}}
	places := []pki.Place{k.own}
	if nd.n.Driver != "process" {
		places = append(places, pki.HypervisorPlaces()...)
	}
	k.Renewer = certificates.New(certificates.Options{Places: places, Sign: k.sign, Use: k.use, Log: nd.Log})
	return k
}

// warning is what people should know of this host's certificates; the coordinator tells
// of those hosts, too, that are no members: they are not in the status.
func (k *keeper) warning() string {
	var all []string
	if t := certificates.Warning(k.State()); t != "" {
		all = append(all, t)
	}
	if k.seen == nil || !k.leads() {
		return strings.Join(all, "; ")
	}
	seen, _ := k.seen()
	now := time.Now()
	for _, h := range slices.SortedFunc(maps.Keys(seen), func(a, b cluster.HostID) int { return inventory.Compare(string(a), string(b)) }) {
		if seen[h].Host.Member {
			continue
		}
		var certs []inventory.Certificate
		for _, c := range seen[h].Certificates {
			certs = append(certs, c.At(now))
		}
		if t := certificates.Warning(certs); t != "" {
			all = append(all, string(h)+": "+t)
		}
	}
	return strings.Join(all, "; ")
}

// sign has a request signed: here if the authority's key is, else by a member.
func (k *keeper) sign(ctx context.Context, which string, request []byte) ([]byte, error) {
	own, err := pki.ReadCert(k.own.Cert[0])
	if err != nil {
		return nil, err
	}
	cert, _, err := k.signer.Sign(which, request, own)
	if !errors.Is(err, certificates.ErrNoKey) {
		return cert, err
	}
	if time.Now().After(own.NotAfter) {
		return nil, fmt.Errorf("the agent's certificate ended on %s, and members answer nobody whose certificate has ended: %s", own.NotAfter.UTC().Format(time.DateOnly), installAgain)
	}
	var members []cluster.HostID
	if k.seen != nil {
		seen, _ := k.seen()
		for h, s := range seen {
			if s.Host.Member && s.Up(time.Now()) && h != cluster.HostID(k.nd.n.Host) {
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

func (k *keeper) askMember(ctx context.Context, h cluster.HostID, which string, request []byte) ([]byte, error) {
	c, err := k.peer(h)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.SignCertificate(ctx, which, request)
}

// use makes a new certificate take effect, and reads it back where it is presented.
// The agent and the store's member read theirs at each connection, QEMU at each migration.
func (k *keeper) use(ctx context.Context, p pki.Place, cert *x509.Certificate) error {
	switch p.Which {
	case pki.Agent:
		for _, addr := range k.ports() {
			if err := certificates.Await(ctx, addr, p, cert); err != nil {
				return err
			}
		}
	case pki.Libvirt:
		addr := net.JoinHostPort(k.nd.n.Addr, libvirt.TLSPort)
		if !certificates.Listens(ctx, addr) {
			return nil // it reads its files when it begins to serve TLS
		}
		if err := libvirt.UpdateTLS(ctx, filepath.Dir(k.nd.n.Libvirt.Socket)); err != nil {
			return err
		}
		return certificates.Await(ctx, addr, p, cert)
	}
	return nil
}

// ports are where the agent's certificate is presented on this host.
func (k *keeper) ports() (out []string) {
	if k.nd.n.API.Listen != "" {
		out = append(out, k.nd.apiAddr())
	}
	if m := k.nd.n.Store.Member; m != nil {
		for _, text := range []string{m.ClientURL, m.PeerURL} {
			if u, err := url.Parse(text); err == nil { // the settings' check has seen it
				out = append(out, u.Host)
			}
		}
	}
	return out
}

// RenewCertificates renews those of a host now, by its own agent.
func (k *keeper) RenewCertificates(ctx context.Context, host cluster.HostID) ([]inventory.Certificate, error) {
	if host == cluster.HostID(k.nd.n.Host) {
		return k.Renew(context.WithoutCancel(ctx)) // it ends by itself, and not half done
	}
	if k.peer == nil {
		return nil, fail.Errorf(fail.Invalid, "host %q: this agent has no TLS, and reaches no other agent", host)
	}
	c, err := k.peer(host)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	defer c.Close()
	return c.RenewCertificates(ctx, string(host))
}

// SignCertificate signs for the host whose certificate is shown.
func (k *keeper) SignCertificate(_ context.Context, which string, request []byte, shown *x509.Certificate) ([]byte, error) {
	self := k.nd.n.Host
	if time.Now().After(shown.NotAfter) { // an old connection
		return nil, fail.Errorf(fail.Denied, "the certificate of %s ended on %s", shown.Subject.CommonName, shown.NotAfter.UTC().Format(time.DateOnly)).With(installAgain)
	}
	if revoked := k.nd.server.VerifyConnection; revoked != nil {
		if err := revoked(tls.ConnectionState{PeerCertificates: []*x509.Certificate{shown}}); err != nil {
			return nil, fail.Errorf(fail.Denied, "%w", err)
		}
	}
	cert, leaf, err := k.signer.Sign(which, request, shown)
	switch {
	case errors.Is(err, certificates.ErrNoKey):
		return nil, fail.Errorf(fail.Refused, "%s: %w", self, err)
	case errors.Is(err, pki.ErrBeyond):
		k.nd.Log.Warn("certificate refused", "host", shown.Subject.CommonName, "which", which, "err", err)
		return nil, fail.Errorf(fail.Denied, "%s: %w", self, err)
	case err != nil:
		return nil, fail.Errorf(fail.Failed, "%s: %w", self, err)
	}
	k.nd.Log.Info("certificate signed", "host", shown.Subject.CommonName, "which", which, "serial", fmt.Sprintf("%x", leaf.SerialNumber),
		"shown", fmt.Sprintf("%x", shown.SerialNumber), "ends", leaf.NotAfter.UTC().Format(time.RFC3339))
	return cert, nil
}

// renewExpired gives a host that was off for too long a new certificate, where the
// authority's key is: without one its agent does not start.
func renewExpired(opt Options) error {
	n, err := config.LoadNode(opt.NodeFile)
	if err != nil {
		return err
	}
	place, signer := pki.AgentPlace(n.TLS.CA, n.TLS.Cert, n.TLS.Key), certificates.Signer{CA: n.TLS.CA}
	r := certificates.New(certificates.Options{
		Places: []pki.Place{place}, Log: opt.Log,
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
	_, err = r.Renew(context.Background())
	return err
}
