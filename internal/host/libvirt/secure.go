package libvirt

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// Values of MigrateTLS in Options and FleetOptions: whether guests' memory travels
// encrypted.
const (
	TLSAuto     = "auto"     // when this host and the target have certificates for it; the default
	TLSRequired = "required" // always: a migration without it is refused
	TLSOff      = "off"      // never
)

// MigrationSecurity says whether this host can send and receive guests' memory by
// TLS. It is known before a migration begins, and does not depend on the other host.
type MigrationSecurity struct {
	TLS bool
	Why string // why not, for people; "" with TLS
	Dir string // where QEMU looks for its certificates
}

// secure chooses how memory travels, and where libvirt's settings are.
type secure struct {
	mode    string // TLSAuto, TLSRequired or TLSOff
	confDir string // of libvirt
	pkiDir  string // where libvirt and QEMU look for certificates unless they are told otherwise
}

func newSecure(mode, confDir, pkiDir string) (secure, error) {
	s := secure{mode: cmp.Or(mode, TLSAuto), confDir: cmp.Or(confDir, "/etc/libvirt"), pkiDir: cmp.Or(pkiDir, "/etc/pki")}
	if !slices.Contains([]string{TLSAuto, TLSRequired, TLSOff}, s.mode) {
		return s, fmt.Errorf("TLS of migrations %q: want %s, %s or %s", mode, TLSAuto, TLSRequired, TLSOff)
	}
	return s, nil
}

// MigrationSecurity looks at the certificates of this host. It reads five small files:
// ask every 10 s, not more often.
func (d *Driver) MigrationSecurity() MigrationSecurity { return d.secure.look() }

// MigrationSecurity is that of Driver, for the other guests.
func (f *Fleet) MigrationSecurity() MigrationSecurity { return f.secure.look() }

func (s secure) look() MigrationSecurity {
	if s.mode == TLSOff {
		return MigrationSecurity{Why: "libvirt.migrate_tls is " + TLSOff}
	}
	dir, err := s.dir("migrate")
	if err == nil {
		err = checkMemoryPair(dir, s.qemuUser())
	}
	if err != nil {
		return MigrationSecurity{Why: err.Error(), Dir: dir}
	}
	return MigrationSecurity{TLS: true, Dir: dir}
}

// choose tells whether memory goes by TLS to a target that has said whether it can. It
// never takes TLS away that both can do.
func (s secure) choose(target bool) (bool, error) {
	own := s.look()
	if own.TLS && target {
		return true, nil
	}
	if s.mode != TLSRequired {
		return false, nil
	}
	if !own.TLS {
		return false, fmt.Errorf("libvirt.migrate_tls is %s, and this host has no certificate for guests' memory: %s", TLSRequired, own.Why)
	}
	return false, fmt.Errorf("libvirt.migrate_tls is %s, and the target has no certificate for guests' memory", TLSRequired)
}

// params adds what a migration by TLS needs. The target's certificate must be for
// host, whatever network carries the memory.
func withTLS(on bool, host string, flags golibvirt.DomainMigrateFlags, params []golibvirt.TypedParam) (golibvirt.DomainMigrateFlags, []golibvirt.TypedParam) {
	if !on {
		return flags, params
	}
	return flags | golibvirt.MigrateTLS, append(params, golibvirt.TypedParam{
		Field: golibvirt.MigrateParamTLSDestination, Value: *golibvirt.NewTypedParamValueString(host),
	})
}

// dir is where libvirt has QEMU look, in its own order (virQEMUDriverConfig): a setting
// for the use ("migrate", "nbd"), its default folder if there, the setting for all, its default folder.
func (s secure) dir(use string) (string, error) {
	conf := filepath.Join(s.confDir, "qemu.conf")
	dir, err := confValue(conf, use+"_tls_x509_cert_dir")
	if err != nil || dir != "" {
		return dir, err
	}
	dir = filepath.Join(s.pkiDir, "libvirt-"+use)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	dir, err = confValue(conf, "default_tls_x509_cert_dir")
	return cmp.Or(dir, filepath.Join(s.pkiDir, "qemu")), err
}

// qemuUser is who QEMU runs as: the setting, or what distributions compile in. nil when
// nobody knows.
func (s secure) qemuUser() *user.User {
	name, err := confValue(filepath.Join(s.confDir, "qemu.conf"), "user")
	if err != nil {
		return nil
	}
	for _, n := range []string{name, "libvirt-qemu", "qemu"} {
		if n == "" {
			continue
		}
		if u, err := user.Lookup(n); err == nil {
			return u
		}
	}
	return nil
}

// checkMemoryPair looks whether QEMU can use the files in dir both to send and to receive
// (https://www.qemu.org/docs/master/system/tls.html). as is who reads them; nil: unknown.
func checkMemoryPair(dir string, as *user.User) error {
	path := filepath.Join(dir, "ca-cert.pem")
	roots, err := readAuthority(path)
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
		if err := qemuUsage(pair.Leaf); err != nil {
			return fmt.Errorf("%s: %w", cert, err)
		}
		if err := readable(as, path, cert, key); err != nil {
			return err
		}
	}
	return nil
}

// readAuthority reads the certificates of a file of QEMU's ca-cert.pem.
func readAuthority(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificate of the authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in it", path)
	}
	return roots, nil
}

// readable makes sure that QEMU can read files; as is who runs it, nil: unknown.
func readable(as *user.User, files ...string) error {
	for _, f := range files {
		if !readableBy(as, f) {
			return fmt.Errorf("%s can not be read by %s, who runs QEMU: chgrp and chmod 640", f, as.Username)
		}
	}
	return nil
}

// qemuUsage refuses what QEMU and libvirt refuse (qcrypto_tls_creds_check_cert_key_usage):
// a critical key usage without one of the two, also with keys that never encipher another.
func qemuUsage(cert *x509.Certificate) error {
	const both = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	critical := slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool {
		return e.Critical && e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 15})
	})
	if critical && cert.KeyUsage&both != both {
		return errors.New("its key usage is without digital signature or key encipherment, which QEMU wants both, or no key usage at all")
	}
	return nil
}

// readableBy tells whether a user may read a file, by the bits of its mode and those of
// its folder.
func readableBy(u *user.User, path string) bool {
	if u == nil || u.Uid == "0" {
		return true
	}
	groups, err := u.GroupIds()
	if err != nil {
		groups = []string{u.Gid}
	}
	for name, bit := range map[string]fs.FileMode{path: 4, filepath.Dir(path): 1} {
		info, err := os.Stat(name)
		if err != nil {
			return false
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return true
		}
		switch {
		case strconv.FormatUint(uint64(st.Uid), 10) == u.Uid:
			bit <<= 6
		case slices.Contains(groups, strconv.FormatUint(uint64(st.Gid), 10)):
			bit <<= 3
		}
		if info.Mode().Perm()&bit == 0 {
			return false
		}
	}
	return true
}
