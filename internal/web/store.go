package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/a-h/templ"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
)

// storePart is the part of the page of the store and of certificates.
func storePart(ctx context.Context, v *view) (templ.Component, error) {
	s, unread := v.api.StoreStatus(ctx)
	var hosts []inventory.Summary
	var unheard error
	if v.works {
		hosts, unheard = v.api.GuestHosts(ctx)
	}
	return storeCare(v, s, unread, hosts, unheard), nil
}

// hostCertificate is one with whose it is.
type hostCertificate struct {
	inventory.Certificate
	host cluster.HostID
	up   bool
}

// certificatesOf are those of all hosts: first what is in trouble, then what ends first.
func certificatesOf(hosts []inventory.Summary) (all []hostCertificate) {
	for _, h := range hosts {
		for _, c := range h.Certificates {
			all = append(all, hostCertificate{c, h.Name, h.Up})
		}
	}
	slices.SortStableFunc(all, func(a, b hostCertificate) int {
		return cmp.Or(cmp.Compare(certTone(b.Certificate), certTone(a.Certificate)), a.Ends.Compare(b.Ends),
			inventory.Compare(string(a.host), string(b.host)))
	})
	return all
}

// backUpStore writes a backup on this host.
func (c *Console) backUpStore(w http.ResponseWriter, r *http.Request, v *view) {
	_, err := v.api.BackUpStore(r.Context())
	c.done(w, r, err, "/store")
}

// renewCertificates renews those of a host.
func (c *Console) renewCertificates(w http.ResponseWriter, r *http.Request, v *view) {
	_, err := v.api.RenewCertificates(r.Context(), r.PathValue("host"))
	c.done(w, r, err, "/store")
}
