package pki

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serialIn is the serial number of the pair in the files, which must fit each other.
func serialIn(t *testing.T, cert, key string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatalf("%s and %s: %v", cert, key, err)
	}
	return pair.Leaf.SerialNumber.String()
}

func serialOf(t *testing.T, p Pair) string {
	t.Helper()
	pair, err := tls.X509KeyPair(p.CertPEM, p.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.SerialNumber.String()
}

// newPlace makes a place with two names for each file, in two folders, as libvirt's.
func newPlace(t *testing.T, p Pair) Place {
	t.Helper()
	dir := t.TempDir()
	out := Place{Which: "x", Dir: dir, Cert: []string{dir + "/servercert.pem", dir + "/clientcert.pem"},
		Key: []string{dir + "/private/serverkey.pem", dir + "/private/clientkey.pem"}}
	if err := os.Mkdir(dir+"/private", 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range out.Cert {
		if err := errors.Join(os.WriteFile(out.Cert[i], p.CertPEM, 0o640), os.WriteFile(out.Key[i], p.KeyPEM, 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestAPairIsReplacedAsAWhole: whoever dies at any step leaves a pair that fits, under all
// names, and the next try replaces it.
func TestAPairIsReplacedAsAWhole(t *testing.T) {
	ca := newCA(t, "a")
	first, second, third := issue(t, ca, "h1"), issue(t, ca, "h1"), issue(t, ca, "h1")
	died := errors.New("died")
	for _, before := range []string{"files", "links"} {
		for n := 0; ; n++ {
			p := newPlace(t, first)
			old := first
			if before == "links" {
				if err := p.Replace(second); err != nil {
					t.Fatal(err)
				}
				old = second
			}
			step, at := 0, ""
			err := p.replace(third, func(what string) error {
				at = what
				if step++; step > n {
					return died
				}
				return nil
			})
			for i := range p.Cert {
				got := serialIn(t, p.Cert[i], p.Key[i])
				if want := map[bool]string{true: serialOf(t, third), false: serialOf(t, old)}[err == nil]; got != want {
					t.Errorf("%s, after step %d (%s, %v): %s has %s, want %s", before, n, at, err, p.Cert[i], got, want)
				}
			}
			if err == nil {
				t.Logf("%s: %d steps", before, n)
				break
			}
			if !errors.Is(err, died) {
				t.Fatal(err)
			}
			if err := p.Replace(third); err != nil {
				t.Fatalf("%s, again after step %d (%s): %v", before, n, at, err)
			}
			if got := serialIn(t, p.Cert[1], p.Key[1]); got != serialOf(t, third) {
				t.Errorf("%s, again after step %d: %s", before, n, got)
			}
			if err := p.Sweep(); err != nil {
				t.Fatal(err)
			}
			pairs, err := filepath.Glob(p.Dir + "/x.pair-*")
			if err != nil || len(pairs) != 1 {
				t.Errorf("left after a sweep: %v, %v", pairs, err)
			}
			if got := serialIn(t, p.Cert[0], p.Key[0]); got != serialOf(t, third) {
				t.Errorf("%s, after the sweep: %s", before, got)
			}
		}
	}
}

func TestAReplacedPairKeepsItsMode(t *testing.T) {
	ca := newCA(t, "a")
	for mode, dir := range map[fs.FileMode]fs.FileMode{0o600: 0o700, 0o640: 0o750} {
		p := newPlace(t, issue(t, ca, "h1"))
		for _, f := range []string{p.Key[0], p.Key[1]} {
			if err := os.Chmod(f, mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Replace(issue(t, ca, "h1")); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{p.Key[0], p.Cert[1]} {
			real, err := filepath.EvalSymlinks(f)
			if err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]fs.FileMode{real: mode, filepath.Dir(real): dir} {
				info, err := os.Stat(path)
				if err != nil || info.Mode().Perm() != want {
					t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
				}
			}
			if to, err := os.Readlink(f); err != nil || !IsLink(to) {
				t.Errorf("%s leads to %s, %v", f, to, err)
			}
		}
	}
}

// TestCertificatesOfOthersStay: names that hold different certificates, or a key of
// another one, were not put there by us.
func TestCertificatesOfOthersStay(t *testing.T) {
	ca := newCA(t, "a")
	p := newPlace(t, issue(t, ca, "h1"))
	other := issue(t, ca, "h1")
	if err := errors.Join(os.WriteFile(p.Cert[1], other.CertPEM, 0o600), os.WriteFile(p.Key[1], other.KeyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	before := serialIn(t, p.Cert[0], p.Key[0])
	err := p.Replace(issue(t, ca, "h1"))
	if err == nil || !strings.Contains(err.Error(), "were not made here") {
		t.Errorf("got %v", err)
	}
	if got := serialIn(t, p.Cert[0], p.Key[0]); got != before || serialIn(t, p.Cert[1], p.Key[1]) != serialOf(t, other) {
		t.Error("it was changed")
	}
}

// TestAReplacedPairIsPresented by configurations that were loaded before; one that can
// not be used is not.
func TestAReplacedPairIsPresented(t *testing.T) {
	ca := newCA(t, "a")
	caFile, cert, key := files(t, ca, issue(t, ca, "h1"))
	server, client, err := Load(caFile, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	_, friend := load(t, ca, "h2")
	friendServer, _ := load(t, ca, "h2")
	presented := func() (asServer, asClient string) {
		t.Helper()
		seen := friend.Clone()
		seen.ServerName = "h1"
		seen.VerifyConnection = func(s tls.ConnectionState) error {
			asServer = s.PeerCertificates[0].SerialNumber.String()
			return nil
		}
		other := friendServer.Clone()
		other.VerifyConnection = func(s tls.ConnectionState) error {
			asClient = s.PeerCertificates[0].SerialNumber.String()
			return nil
		}
		own := client.Clone()
		own.ServerName = "h2"
		if _, se, ce := shake(t, server, seen); se != nil || ce != nil {
			t.Fatal(se, ce)
		}
		if _, se, ce := shake(t, other, own); se != nil || ce != nil {
			t.Fatal(se, ce)
		}
		return asServer, asClient
	}
	want := func(what, serial string) {
		t.Helper()
		if s, c := presented(); s != serial || c != serial {
			t.Errorf("%s: presented %s to clients and %s to servers, want %s", what, s, c, serial)
		}
	}
	want("at first", serialIn(t, cert, key))
	next := issue(t, ca, "h1")
	if err := AgentPlace(caFile, cert, key).Replace(next); err != nil {
		t.Fatal(err)
	}
	want("replaced", serialOf(t, next))
	if err := AgentPlace(caFile, cert, key).Replace(issue(t, newCA(t, "a"), "h1")); err != nil {
		t.Fatal(err)
	}
	want("of another authority", serialOf(t, next))
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	want("without its key", serialOf(t, next))
	last := issue(t, ca, "h1")
	if err := last.Write(cert, key); err != nil {
		t.Fatal(err)
	}
	want("mended", serialOf(t, last))
}
