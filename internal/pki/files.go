package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Write puts the pair into two files of mode 0600. Each is replaced as a whole
// and is on disk when Write returns. The two are not replaced together: after a
// crash between them Load fails with ErrKeyMismatch, and Write mends it.
func (p Pair) Write(certFile, keyFile string) error {
	if err := writeFile(keyFile, p.KeyPEM); err != nil {
		return fmt.Errorf("write private key: %w", err)
	}
	if err := writeFile(certFile, p.CertPEM); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}

// Write puts the authority's certificate and key into two files, as Pair.Write
// does. The key belongs on the host that admits others only.
func (ca CA) Write(certFile, keyFile string) error {
	if ca.key == nil {
		return errors.New("write certificate authority: it has no key")
	}
	p, err := pairOf(ca.cert.Raw, ca.key)
	if err != nil {
		return fmt.Errorf("write certificate authority: %w", err)
	}
	return p.Write(certFile, keyFile)
}

// WriteCert puts the authority's certificate alone into a file, as every host
// needs it for Load.
func (ca CA) WriteCert(certFile string) error {
	if err := writeFile(certFile, ca.CertPEM()); err != nil {
		return fmt.Errorf("write certificate of the authority: %w", err)
	}
	return nil
}

// LoadCA reads an authority that CA.Write wrote. It fails with ErrKeyMismatch
// or ErrExpired, or when the certificate is not one of an authority.
func LoadCA(certFile, keyFile string) (CA, error) {
	cert, err := readCert(certFile)
	if err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	if !cert.IsCA {
		return CA{}, fmt.Errorf("load certificate authority: %s is not the certificate of an authority", certFile)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	if err := checkKey(cert, certFile, key, keyFile); err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	if err := checkPeriod(cert, certFile); err != nil {
		return CA{}, fmt.Errorf("load certificate authority: %w", err)
	}
	return CA{cert: cert, key: key}, nil
}

func readCert(file string) (*x509.Certificate, error) {
	der, err := readPEM(file, pemCert)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse certificate %s: %w", file, err)
	}
	return cert, nil
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM(file, pemKey)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse private key %s: %w", file, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key %s is a %T, not an ECDSA key", file, parsed)
	}
	return key, nil
}

// readPEM is the content of a file's only PEM block.
func readPEM(file, kind string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read PEM file: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s does not begin with a PEM block %q", file, kind)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, fmt.Errorf("%s has more than one PEM block", file)
	}
	return block.Bytes, nil
}

// writeFile replaces a file by way of a temporary one beside it, so that a
// reader or a crash meets the old content or the new one.
func writeFile(file string, data []byte) error {
	dir := filepath.Dir(file)
	temp, err := writeTemp(dir, "."+filepath.Base(file)+".*", data)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, file); err != nil {
		return errors.Join(fmt.Errorf("put file in place: %w", err), os.Remove(temp))
	}
	return syncDir(dir)
}

// writeTemp writes a new file of mode 0600 to the disk and returns its name; it
// leaves nothing behind when it fails.
func writeTemp(dir, pattern string, data []byte) (string, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return "", fmt.Errorf("create temporary file: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write temporary file: %w", err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// syncDir makes a rename in the directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory to sync it: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
