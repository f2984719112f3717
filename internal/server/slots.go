package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"time"

	"holdfast/internal/lib/admit"
)

// checkCertEvery is the time between two looks whether the certificates of open connections still count.
const checkCertEvery = 2 * time.Second

// unverified are the bounds of connections in their handshakes: a host has some agents and commands.
var unverified = admit.Bounds{All: 512, Address: 32, Net: 256}

// Kinds of callers, by the name in the certificate.
const (
	guestHost = "guests"
	member    = "member"
	operator  = "operator"
	unknown   = "unknown" // the hosts are not known yet; these take nothing from the others
)

// slotShares bound open connections of a kind. Clients of ours have one each. Members are few, and always get in.
var slotShares = map[string]share{guestHost: {16, 256}, member: {64, 1 << 16}, operator: {64, 256}, unknown: {16, 256}}

// newSlots listens for clients that prove themselves, each of which has its share of connections.
func newSlots(ln net.Listener, conf *tls.Config, opts Options) *admit.Listener {
	return admit.New(ln, conf, admit.Options{
		Bounds: unverified, Within: headerTime, Whose: opts.whose, Counts: opts.Counts, Every: checkCertEvery,
		Log: func(level slog.Level, what string, err error) {
			opts.Log.Log(context.Background(), level, "api: "+what, "err", err)
		},
	})
}

// whose is whose slots a connection takes. Without hosts all are operators'.
func (o Options) whose(chain []*x509.Certificate) admit.Who {
	name, kind := chain[0].Subject.CommonName, operator
	if o.Hosts != nil {
		host, guestsOnly, err := o.Hosts(name)
		switch {
		case err != nil:
			kind = unknown
		case guestsOnly:
			kind = guestHost
		case host:
			kind = member
		}
	}
	return admit.Who{Name: name, Kind: kind, Each: slotShares[kind].each, All: slotShares[kind].all}
}
