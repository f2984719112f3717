package migration

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/libvirt"
)

// Values of the setting TLS: whether guests' memory travels encrypted.
const (
	TLSAuto     = "auto"     // when this host and the target have certificates for it; the default
	TLSRequired = "required" // always: a migration without it is refused
	TLSOff      = "off"      // never
)

// Security says whether this host can send and receive guests' memory by
// TLS. It is known before a migration begins, and does not depend on the other host.
type Security struct {
	TLS bool
	Why string // why not, for people; "" with TLS
	Dir string // where QEMU looks for its certificates
}

// Settings say how guests leave this host.
type Settings struct {
	libvirt.Certificates
	uri string // of a target's libvirtd, %s stands for its address
	tls string // TLSAuto, TLSRequired or TLSOff
}

// New checks settings, and has defaults for what is empty. uri is the connection URI of a target, %s stands for
// its address.
func New(uri, tls string, certs libvirt.Certificates) (Settings, error) {
	s := Settings{Certificates: certs, uri: cmp.Or(uri, "qemu+tls://%s/system"), tls: cmp.Or(tls, TLSAuto)}
	if strings.Count(s.uri, "%s") != 1 || strings.Count(s.uri, "%") != 1 {
		return s, fmt.Errorf("migration URI %q: want exactly one %%s for the target's address", s.uri)
	}
	if !slices.Contains([]string{TLSAuto, TLSRequired, TLSOff}, s.tls) {
		return s, fmt.Errorf("TLS of migrations %q: want %s, %s or %s", s.tls, TLSAuto, TLSRequired, TLSOff)
	}
	return s, nil
}

// Security looks at the certificates of this host. It reads five small files:
// ask every 10 s, not more often.
func (s Settings) Security() Security {
	if s.tls == TLSOff {
		return Security{Why: "libvirt.migrate_tls is " + TLSOff}
	}
	dir, err := s.Dir("migrate")
	if err == nil {
		err = checkMemoryPair(dir, s.User())
	}
	if err != nil {
		return Security{Why: err.Error(), Dir: dir}
	}
	return Security{TLS: true, Dir: dir}
}

// Choose tells whether memory goes by TLS to a target that has said whether it can. It
// never takes TLS away that both can do.
func (s Settings) Choose(target bool) (bool, error) {
	own := s.Security()
	if own.TLS && target {
		return true, nil
	}
	if s.tls != TLSRequired {
		return false, nil
	}
	if !own.TLS {
		return false, fmt.Errorf("libvirt.migrate_tls is %s, and this host has no certificate for guests' memory: %s", TLSRequired, own.Why)
	}
	return false, fmt.Errorf("libvirt.migrate_tls is %s, and the target has no certificate for guests' memory", TLSRequired)
}

// checkMemoryPair looks whether QEMU can use the files in dir both to send and to receive
// (https://www.qemu.org/docs/master/system/tls.html). as is who reads them; nil: unknown.
func checkMemoryPair(dir string, as *user.User) error {
	path := filepath.Join(dir, "ca-cert.pem")
	roots, err := libvirt.ReadAuthority(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no certificate in %s", dir)
	}
	if err != nil {
		return err
	}
	for name, use := range map[string]x509.ExtKeyUsage{"server": x509.ExtKeyUsageServerAuth, "client": x509.ExtKeyUsageClientAuth} {
		cert, key := filepath.Join(dir, name+"-cert.pem"), filepath.Join(dir, name+"-key.pem")
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("%s certificate: %w", name, err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{use}, CurrentTime: time.Now()}); err != nil {
			return fmt.Errorf("%s: %w", cert, err)
		}
		if err := libvirt.QEMUUsage(pair.Leaf); err != nil {
			return fmt.Errorf("%s: %w", cert, err)
		}
		if err := libvirt.Readable(as, path, cert, key); err != nil {
			return err
		}
	}
	return nil
}
