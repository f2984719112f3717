package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/install"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
)

// certLife is that of the certificates of TestCertificatesRenewThemselves. Agents renew
// them when a third of it is left.
const certLife = 2 * time.Minute

// certRig is an installed cluster, three members and h4 that runs guests only, with the
// agents' authority in the test's hands.
type certRig struct {
	*bareRig
	ca   pki.CA
	conf *tls.Config // trusts the authority, and shows a certificate of it
}

func newCertRig(t *testing.T) *certRig {
	b := newBareRig(t, 4)
	args := b.files(t, "h1", b.lab.BareCluster())
	res, said, err := b.install(t, "h1", args...)
	if err != nil || !res.OK {
		t.Fatalf("install: %v\n%s\n%+v", err, said, res)
	}
	b.exe = install.Command
	b.runs(t, 3)
	b.guestsOnly(t, args, res.Cluster)
	dir := t.TempDir()
	for _, f := range []string{"ca.pem", "ca.key"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(b.sh(t, "h1", "cat /etc/holdfast/pki/"+f)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &certRig{bareRig: b}
	if c.ca, err = pki.LoadCA(dir+"/ca.pem", dir+"/ca.key"); err != nil {
		t.Fatal(err)
	}
	p := c.issue(t, "h1", time.Hour)
	if err := p.Write(dir+"/me.pem", dir+"/me.key"); err != nil {
		t.Fatal(err)
	}
	if _, c.conf, err = pki.Load(dir+"/ca.pem", dir+"/me.pem", dir+"/me.key"); err != nil {
		t.Fatal(err)
	}
	return c
}

// issue makes the pair that an installation would, but for its life.
func (c *certRig) issue(t *testing.T, h string, life time.Duration) pki.Pair {
	t.Helper()
	p, err := c.ca.Issue(h, []netip.Addr{c.lab.Addr(h), netip.MustParseAddr("127.0.0.1")}, []string{"localhost"}, life)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ports are where a host presents its certificate.
func (c *certRig) ports(h string) []string {
	if h == "h4" {
		return []string{"7443"}
	}
	return []string{"7443", "2379", "2380"}
}

// presented are the certificates that a host presents, by port.
func (c *certRig) presented(ctx context.Context, h string) (map[string]*x509.Certificate, error) {
	out := map[string]*x509.Certificate{}
	for _, port := range c.ports(h) {
		raw, err := c.lab.Dial(ctx, "tcp", net.JoinHostPort(c.lab.Addr(h).String(), port))
		if err != nil {
			return nil, err
		}
		conf := c.conf.Clone()
		conf.ServerName = h
		conn := tls.Client(raw, conf)
		err = conn.HandshakeContext(ctx)
		if err == nil {
			out[port] = conn.ConnectionState().PeerCertificates[0]
		}
		conn.Close()
		if err != nil {
			return nil, fmt.Errorf("%s, port %s: %w", h, port, err)
		}
	}
	return out, nil
}

// otherThan waits until each host presents one certificate at all ports, which is not the
// one before, and returns them.
func (c *certRig) otherThan(t *testing.T, before map[string]*x509.Certificate) map[string]*x509.Certificate {
	t.Helper()
	now := map[string]*x509.Certificate{}
	c.until(t, "all hosts present another certificate at all ports", func(ctx context.Context) (string, bool) {
		for _, h := range c.lab.Hosts() {
			ports, err := c.presented(ctx, h)
			if err != nil {
				return err.Error(), false
			}
			now[h] = ports["7443"]
			for port, cert := range ports {
				if cert.SerialNumber.Cmp(now[h].SerialNumber) != 0 || before[h] != nil && cert.SerialNumber.Cmp(before[h].SerialNumber) == 0 {
					return fmt.Sprintf("%s presents %x at %s, %x at 7443", h, cert.SerialNumber, port, now[h].SerialNumber), false
				}
			}
		}
		return "", true
	})
	return now
}

// processes are the ids of what must not end.
func (c *certRig) processes(t *testing.T) string {
	t.Helper()
	all := ""
	for _, h := range c.lab.Hosts() {
		all += c.sh(t, h, `for p in /proc/[0-9]*; do
  case "$(tr '\0' ' ' <$p/cmdline 2>/dev/null)" in "/bin/sh "*) ;; *"holdfast agent"*|*"holdfast store-member"*|*qemu-system*) echo "$(basename $p) $(tr '\0' ' ' <$p/cmdline | cut -c1-40)" ;; esac
done | sort`)
	}
	return all
}

// TestCertificatesRenewThemselves: certificates of a short life are renewed again and
// again, those of a host without an authority's key by a member, while the management VM
// answers. Nothing is restarted.
func TestCertificatesRenewThemselves(t *testing.T) {
	need.Drill(t, "P3: certificates of a short life are renewed again and again, and nothing is restarted")
	c := newCertRig(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asks sync.WaitGroup
	asked, silent := 0, ""
	asks.Go(func() { // until the end: the guest answers
		last := time.Now()
		for ctx.Err() == nil {
			actx, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err := c.lab.Ask(actx)
			cancel()
			if now := time.Now(); err == nil {
				asked, last = asked+1, now
			} else if ctx.Err() == nil && now.Sub(last) > 5*time.Second {
				silent += fmt.Sprintf("%s: no answer for %s: %v\n", now.Format(time.TimeOnly), now.Sub(last), err)
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
	installed := c.otherThan(t, nil)
	began := c.processes(t)
	for _, h := range c.lab.Hosts() {
		p := c.issue(t, h, certLife)
		c.sh(t, h, fmt.Sprintf("umask 077; cd /etc/holdfast/pki; cat >n.key <<'E'\n%sE\ncat >n.pem <<'E'\n%sE\nmv "+
			"n.key host.key; mv n.pem host.pem", p.KeyPEM, p.CertPEM))
	}
	short := c.otherThan(t, installed)
	next := c.otherThan(t, short)
	over := time.Time{}
	for h, cert := range next {
		if life := pki.Life(cert); (life-certLife).Abs() > time.Second || !cert.NotAfter.After(short[h].NotAfter) {
			t.Errorf("%s: renewed for %s, to %s", h, life, cert.NotAfter)
		}
		if short[h].NotAfter.After(over) {
			over = short[h].NotAfter
		}
		if bytes.Equal(cert.RawSubjectPublicKeyInfo, short[h].RawSubjectPublicKeyInfo) {
			t.Errorf("%s: renewed with the same key", h)
		}
		left := time.Until(short[h].NotAfter).Round(time.Second)
		t.Logf("%s: renewed %s before the end", h, left)
		if left <= 0 {
			t.Errorf("%s: the certificate had ended", h)
		}
	}
	time.Sleep(time.Until(over) + time.Second)
	// Whoever still showed the one before would be refused now.
	c.runs(t, 3)
	c.until(t, "h4 reports, and so does everybody", func(ctx context.Context) (string, bool) {
		out, err := c.lab.Exec(ctx, "h4", c.exe, "host", "list")
		return out, err == nil && strings.Count(out, " active ")+strings.Count(out, " guests only") >= 4 && !strings.Contains(out, "silent")
	})

	// By command, from a member, with what the hosts tell of it.
	next = c.otherThan(t, short)
	c.command(t, "h2", "certificates", "renew", "--all")
	last := c.otherThan(t, next)
	c.until(t, "all hosts tell of the certificates that they present", func(ctx context.Context) (string, bool) {
		out, err := c.lab.Exec(ctx, "h3", c.exe, "certificates", "-o", "json")
		if err != nil {
			return err.Error(), false
		}
		var lines []struct {
			Host string `json:"host"`
			inventory.Certificate
		}
		if err := json.Unmarshal([]byte(out), &lines); err != nil || len(lines) != 4 {
			return fmt.Sprintf("%v: %s", err, out), false
		}
		for _, l := range lines {
			if l.Which != pki.Agent || l.Serial != fmt.Sprintf("%x", last[l.Host].SerialNumber) ||
				l.State != inventory.CertValid || l.Problem != "" {
				return out, false
			}
		}
		return "", true
	})
	now := c.processes(t) // it may have a process more, that has not called its program yet
	for l := range strings.Lines(began) {
		if !strings.Contains(now, l) {
			t.Errorf("%q is gone; at the end there are:\n%q", l, now)
		}
	}
	for _, h := range c.lab.Hosts() {
		if got := c.sh(t, h, `cd /etc/holdfast/pki; stat -Lc %a host.key host.pem; grep -l "$(sed -n 2p host.key)" -r /var/log /srv/host /var/lib/holdfast /run/holdfast 2>/dev/null || true`); got != "600\n600\n" {
			t.Errorf("%s: modes of key and certificate, and where else the key is: %s", h, got)
		}
	}
	stop()
	asks.Wait()
	if silent != "" || asked < 100 {
		t.Errorf("the management VM answered %d times, but:\n%s", asked, silent)
	}
	c.tooLate(t)
}

// tooLate: a host without an authority's key whose certificate has ended is told so; a
// member mends itself.
func (c *certRig) tooLate(t *testing.T) {
	t.Helper()
	for _, h := range []string{"h3", "h4"} {
		c.sh(t, h, "systemctl stop holdfast.service")
		p := c.issue(t, h, time.Second)
		c.sh(t, h, fmt.Sprintf("umask 077; cd /etc/holdfast/pki; cat >n.key <<'E'\n%sE\ncat >n.pem <<'E'\n%sE\nmv "+
			"n.key host.key; mv n.pem host.pem; sleep 2", p.KeyPEM, p.CertPEM))
	}
	ctx, cancel := waiting(t)
	defer cancel()
	out, err := c.lab.Exec(ctx, "h4", c.exe, "agent", "--check", "--config", install.SettingsFile)
	if said := fmt.Sprint(out, err); err == nil || !strings.Contains(said, "certificate expired on") ||
		!strings.Contains(said, "holdfast install -c FILE again") {
		t.Errorf("h4, whose certificate has ended: %v", said)
	}
	c.sh(t, "h3", "systemctl start holdfast.service")
	c.runs(t, 3)
	c.until(t, "h3 presents certificates that have not ended", func(ctx context.Context) (string, bool) {
		ports, err := c.presented(ctx, "h3")
		if err != nil {
			return err.Error(), false
		}
		for port, cert := range ports {
			if !cert.NotAfter.After(time.Now()) {
				return fmt.Sprintf("at %s one that ended on %s", port, cert.NotAfter), false
			}
		}
		return "", true
	})
}
