package bundle

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"aead.dev/minisign"

	"holdfast/internal/inventory/manifest"
)

// ErrForeign says that a package has no manifest that could be signed.
var ErrForeign = errors.New("it holds no signature of its own, it is signed as a whole file")

// Sign copies a native bundle from in to out, checking all of it, with its
// manifest signed by key. A signature that was there is replaced. out holds
// something useful only when there is no error.
func Sign(ctx context.Context, in io.Reader, out io.Writer, key PrivateKey, c Compression) (*Report, error) {
	w, err := newWriter(out, c)
	if err != nil {
		return nil, err
	}
	r := &resigner{w: w, key: key}
	rep, err := read(ctx, in, &Options{AllowUnsigned: true}, r)
	if err != nil {
		return nil, err
	}
	rep.Signed, rep.KeyID = true, keyID(key.ID())
	return rep, w.close()
}

// resigner is a sink that writes a bundle anew.
type resigner struct {
	w   *writer
	key PrivateKey
}

func (r *resigner) begin(h head) error {
	if h.m == nil {
		return ErrForeign
	}
	return r.w.head(&Report{Manifest: h.m}, h.manifest, &r.key)
}

func (r *resigner) file(f manifest.File, in io.Reader) error {
	mode, _ := manifest.ParseMode(f.Mode)
	return r.w.member(f.Path, f.Size, int64(mode), in)
}

// SignWhole returns a signature over everything in has, for packages of other
// layouts.
func SignWhole(ctx context.Context, in io.Reader, key PrivateKey) ([]byte, error) {
	all := minisign.NewReader(&input{ctx: ctx, r: in})
	if _, err := io.Copy(io.Discard, all); err != nil {
		return nil, fmt.Errorf("read the package: %w", err)
	}
	return all.SignWithComments(key, "holdfast package", untrusted(key)), nil
}

// sign signs a manifest. There is no time in the signature, so that the same
// bundle gets the same one.
func sign(key PrivateKey, manifest []byte, rep *Report) []byte {
	all := minisign.NewReader(bytes.NewReader(manifest))
	// A reader in memory does not fail.
	_, _ = io.Copy(io.Discard, all)
	return all.SignWithComments(key, "holdfast bundle "+rep.Manifest.Name+" "+rep.Manifest.Version, untrusted(key))
}

func untrusted(key PrivateKey) string { return "signature by key " + keyID(key.ID()) }

// KeyPair is a new pair of keys as files hold them.
type KeyPair struct {
	ID             string
	Secret, Public []byte
}

// GenerateKey makes a pair of keys. The secret key is encrypted with the
// password, which takes about a gigabyte of memory for some seconds; with an
// empty password it is not encrypted.
func GenerateKey(password string) (KeyPair, error) {
	public, secret, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return KeyPair{}, fmt.Errorf("generate a key: %w", err)
	}
	pair := KeyPair{ID: keyID(public.ID())}
	if pair.Public, err = public.MarshalText(); err != nil {
		return KeyPair{}, fmt.Errorf("write the public key: %w", err)
	}
	if password == "" {
		pair.Secret, err = secret.MarshalText()
	} else {
		pair.Secret, err = minisign.EncryptKey(password, secret)
	}
	if err != nil {
		return KeyPair{}, fmt.Errorf("write the secret key: %w", err)
	}
	pair.Public, pair.Secret = append(pair.Public, '\n'), append(pair.Secret, '\n')
	return pair, nil
}

// ParsePublicKey reads a public key as its file has it.
func ParsePublicKey(text []byte) (PublicKey, error) {
	var k PublicKey
	if err := k.UnmarshalText(bytes.TrimRight(text, "\r\n ")); err != nil {
		return PublicKey{}, fmt.Errorf("read the public key: want the file NAME.pub that holdfast bundle keygen or minisign writes (%w)", err)
	}
	return k, nil
}

// ParsePrivateKey reads a secret key as its file has it, and asks for the
// password when it is encrypted.
func ParsePrivateKey(text []byte, password func() (string, error)) (PrivateKey, error) {
	text = bytes.TrimRight(text, "\r\n ")
	if !minisign.IsEncrypted(text) {
		var k PrivateKey
		if err := k.UnmarshalText(text); err != nil {
			return PrivateKey{}, fmt.Errorf("read the secret key: want the file NAME.key that holdfast bundle keygen or minisign writes (%w)", err)
		}
		return k, nil
	}
	word, err := password()
	if err != nil {
		return PrivateKey{}, err
	}
	k, err := minisign.DecryptKey(word, text)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("read the secret key: the password is wrong, or the key is damaged (%w)", err)
	}
	return k, nil
}
