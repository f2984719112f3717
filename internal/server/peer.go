package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// peer is who calls, as the kernel or a verified certificate says.
type peer struct {
	user string            // name of the unix user, or common name of the certificate
	pid  int32             // of a local caller; 0: over TLS
	cert *x509.Certificate // that was verified; nil of a local caller
	role cluster.Role      // of a user or a token, who has no certificate; "": of the others
}

type peerKey struct{}

// peerResult is what a connection says of its other end.
type peerResult struct {
	peer peer
	err  error
}

// connPeer notes who is at the other end of a unix connection.
func connPeer(ctx context.Context, c net.Conn) context.Context {
	if _, ok := c.(*net.UnixConn); !ok {
		return ctx
	}
	p, err := unixPeer(c)
	return context.WithValue(ctx, peerKey{}, peerResult{p, err})
}

// withPeer notes who is at the other end of a TLS connection.
func withPeer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			p, err := tlsPeer(r)
			r = r.WithContext(context.WithValue(r.Context(), peerKey{}, peerResult{p, err}))
		}
		next.ServeHTTP(w, r)
	})
}

// callerOf returns who made a call. No answer is KindDenied.
func callerOf(ctx context.Context) (peer, error) {
	r, ok := ctx.Value(peerKey{}).(peerResult)
	if !ok {
		return peer{}, fail.Errorf(fail.Denied, "the caller could not be identified")
	}
	if r.err != nil {
		return peer{}, fail.Errorf(fail.Denied, "not allowed: %w", r.err)
	}
	return r.peer, nil
}

func tlsPeer(r *http.Request) (peer, error) {
	if len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return peer{}, errors.New("a client certificate of the cluster is needed")
	}
	name := r.TLS.PeerCertificates[0].Subject.CommonName
	if name == "" {
		return peer{}, errors.New("the client certificate has no common name")
	}
	return peer{user: name, cert: r.TLS.PeerCertificates[0]}, nil
}

// unixPeer allows root and the user that the agent itself runs as.
func unixPeer(c net.Conn) (peer, error) {
	cred, err := credentials(c)
	if err != nil {
		return peer{}, err
	}
	p := peer{user: userName(cred.Uid), pid: cred.Pid}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return peer{}, fmt.Errorf("user %s is not root", p.user)
	}
	return p, nil
}

// userName returns the name of a user, "uid N" when the host knows none.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(id)
	if err != nil {
		return "uid " + id
	}
	return u.Username
}

// credentials asks the kernel who is at the other end of a unix connection.
func credentials(c net.Conn) (*unix.Ucred, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("ask who calls: %T is not a unix connection", c)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("ask who calls: %w", err)
	}
	var cred *unix.Ucred
	var askErr error
	err = raw.Control(func(fd uintptr) {
		cred, askErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, askErr); err != nil {
		return nil, fmt.Errorf("ask who calls: %w", err)
	}
	return cred, nil
}
