package access

import (
	"net/http"
	"net/netip"
	"strings"
)

// Address is where a request comes from, as the audit shows it.
func Address(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	return at.Addr().Unmap().String()
}

// Secret is what a request has of a token, for Bearer; false: it has none.
func Secret(r *http.Request) (secret string, is bool) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(secret), strings.EqualFold(scheme, "Bearer")
}
