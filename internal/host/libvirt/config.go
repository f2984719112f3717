package libvirt

import (
	"cmp"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ConfValue reads a text from one of libvirt's configuration files; "" when the
// file or the setting is not there. The first setting counts, as for libvirt.
func ConfValue(path, key string) (string, error) {
	v, ok, err := confSetting(path, key)
	if ok {
		for _, quote := range []string{`"`, `'`} {
			if rest, ok := strings.CutPrefix(v, quote); ok {
				if text, _, ok := strings.Cut(rest, quote); ok {
					return text, nil
				}
			}
		}
		return "", fmt.Errorf("%s: %s has no text in quotes", path, key)
	}
	return "", err
}

// ConfOn reads a switch from one of libvirt's configuration files, 0 or 1; 0 when the file or
// the setting is not there. libvirtd does not start with anything else.
func ConfOn(path, key string) (bool, error) {
	v, ok, err := confSetting(path, key)
	v, _, _ = strings.Cut(v, "#")
	v = strings.TrimSpace(v)
	if ok && v != "0" && v != "1" {
		return false, fmt.Errorf("%s: %s has the value %s: want 0 or 1", path, key, v)
	}
	return v == "1", err
}

// confSetting returns what stands behind the first "key =" of a file, which may be missing.
func confSetting(path, key string) (value string, ok bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read libvirt's configuration: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if k, v, found := strings.Cut(line, "="); found && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v), true, nil
		}
	}
	return "", false, nil
}

// Certificates are where libvirt's settings and the certificates of QEMU are.
type Certificates struct {
	ConfDir string // of libvirt
	PKIDir  string // where libvirt and QEMU look for certificates unless they are told otherwise
}

// NewCertificates has defaults for what is empty.
func NewCertificates(confDir, pkiDir string) Certificates {
	return Certificates{ConfDir: cmp.Or(confDir, "/etc/libvirt"), PKIDir: cmp.Or(pkiDir, "/etc/pki")}
}

// Dir is where libvirt has QEMU look, in its own order (virQEMUDriverConfig): a setting
// for the use ("migrate", "nbd"), its default folder if there, the setting for all, its default folder.
func (c Certificates) Dir(use string) (string, error) {
	conf := filepath.Join(c.ConfDir, "qemu.conf")
	dir, err := ConfValue(conf, use+"_tls_x509_cert_dir")
	if err != nil || dir != "" {
		return dir, err
	}
	dir = filepath.Join(c.PKIDir, "libvirt-"+use)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	dir, err = ConfValue(conf, "default_tls_x509_cert_dir")
	return cmp.Or(dir, filepath.Join(c.PKIDir, "qemu")), err
}

// User is who QEMU runs as: the setting, or what distributions compile in. nil when
// nobody knows.
func (c Certificates) User() *user.User {
	name, err := ConfValue(filepath.Join(c.ConfDir, "qemu.conf"), "user")
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

// ReadAuthority reads the certificates of a file of QEMU's ca-cert.pem.
func ReadAuthority(path string) (*x509.CertPool, error) {
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

// Readable makes sure that QEMU can read files; as is who runs it, nil: unknown.
func Readable(as *user.User, files ...string) error {
	for _, f := range files {
		if !readableBy(as, f) {
			return fmt.Errorf("%s can not be read by %s, who runs QEMU: chgrp and chmod 640", f, as.Username)
		}
	}
	return nil
}

// QEMUUsage refuses what QEMU and libvirt refuse (qcrypto_tls_creds_check_cert_key_usage):
// a critical key usage without one of the two, also with keys that never encipher another.
func QEMUUsage(cert *x509.Certificate) error {
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

// TLSPort is where libvirt serves other hosts by TLS.
const TLSPort = "16514"

// updateWithin bounds the daemon's answer.
const updateWithin = 20 * time.Second

// UpdateTLS makes the daemon that serves other hosts read its certificates again:
// libvirtd, or virtproxyd where libvirt runs as several daemons. Connections and guests
// go on. dir is where its sockets are.
func UpdateTLS(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, updateWithin)
	defer cancel()
	var errs []error
	for _, d := range []struct{ daemon, socket string }{{"libvirtd", "libvirt-admin-sock"}, {"virtproxyd", "virtproxyd-admin-sock"}} {
		socket := filepath.Join(dir, d.socket)
		if _, err := os.Stat(socket); err != nil {
			errs = append(errs, err)
			continue
		}
		cmd := exec.CommandContext(ctx, "virt-admin", "-c", d.daemon+":///system?socket="+socket, "server-update-tls", d.daemon)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, exec.ErrNotFound):
			return fmt.Errorf("libvirt goes on with its certificate before: virt-admin is not installed (package "+
				"libvirt-clients); a restart of %s takes the new one, and guests go on", d.daemon)
		}
		errs = append(errs, fmt.Errorf("virt-admin: %w: %s", err, strings.TrimSpace(string(out))))
	}
	return fmt.Errorf("make libvirt read its certificates again: %w", errors.Join(errs...))
}
