package config

import (
	"cmp"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"holdfast/internal/cluster"
)

// OIDC is the OpenID provider by which people may log in to the console, beside the users of the cluster.
type OIDC struct {
	Issuer     string            `json:"issuer"`             // https://HOST[/PATH], as the provider writes it in its tokens
	ClientID   string            `json:"client_id"`          // what the provider calls the console
	SecretFile string            `json:"client_secret_file"` // only its owner may read it; read at each login
	Roles      map[string]string `json:"roles"`              // group to viewer, operator or admin; the highest counts
	Claim      string            `json:"claim,omitempty"`    // has the groups; default groups
	Name       string            `json:"name,omitempty"`     // the claim that has the user's name; default: see Names
	CA         string            `json:"ca,omitempty"`       // PEM file, who has signed the provider's certificate; default: those the system trusts
	// URL is where browsers reach the console, https://HOST[:PORT]; default: addr and the port of console.listen.
	URL string `json:"url,omitempty"`
}

// Names are the claims that may have the user's name, the first that a token has counts.
func (o OIDC) Names() []string {
	if o.Name != "" {
		return []string{o.Name}
	}
	return []string{"preferred_username", "email", "sub"}
}

// fill puts defaults in place of empty fields.
func (o *OIDC) fill(addr, listen string) {
	o.Claim = cmp.Or(o.Claim, "groups")
	if _, port, err := net.SplitHostPort(listen); err == nil && o.URL == "" {
		o.URL = "https://" + net.JoinHostPort(addr, port)
	}
}

// Bounds of what stands in the settings of a provider.
const (
	maxClaim = 128 // bytes of the name of a claim, of a group, and of a client
	maxRoles = 100
)

func (c *checker) oidc(console Console) {
	o := console.OIDC
	if o == nil {
		return
	}
	const p = "console.oidc."
	if console.Listen == "" {
		c.fault("console.oidc", o.Issuer, "want none without console.listen: there is no console to log in to")
	}
	if u, is := https(o.Issuer); !is || u.RawQuery != "" {
		c.fault(p+"issuer", o.Issuer, "want the provider's issuer, https://HOST or https://HOST/PATH")
	}
	for _, f := range []struct{ name, value string }{{"client_id", o.ClientID}, {"claim", o.Claim}, {"name", cmp.Or(o.Name, "sub")}} {
		if !isClaim(f.value) {
			c.fault(p+f.name, f.value, "want 1 to 128 printable characters of ASCII, without blanks")
		}
	}
	c.absolute(p+"client_secret_file", o.SecretFile)
	if o.CA != "" {
		c.absolute(p+"ca", o.CA)
	}
	if u, is := https(o.URL); !is || u.Path != "" || u.RawQuery != "" {
		c.fault(p+"url", o.URL, "want where browsers reach the console, https://HOST or https://HOST:PORT")
	}
	if n := len(o.Roles); n == 0 || n > maxRoles {
		c.fault(p+"roles", "", `want 1 to 100 groups with the role of each, such as {"holdfast-admins": "admin"}`)
	}
	for _, group := range slices.Sorted(maps.Keys(o.Roles)) {
		if group == "" || len(group) > maxClaim || strings.ContainsFunc(group, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			c.fault(p+"roles", group, "want groups of 1 to 128 printable characters")
		}
		if role := o.Roles[group]; !slices.Contains(cluster.Roles, cluster.Role(role)) {
			c.fault(field(p+"roles", group), role, "want viewer, operator or admin")
		}
	}
}

// https takes apart an address that is asked by TLS, without a user or a fragment.
func https(text string) (*url.URL, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(text) > 512 {
		return nil, false
	}
	return u, u.Port() == "" || isPort(u.Port())
}

func isClaim(s string) bool {
	return s != "" && len(s) <= maxClaim && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
