package bundle

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/scrypt"

	"holdfast/testbed/try"
)

// encrypted encrypts a secret key file as minisign does, with cheap parameters:
// the real ones take a gigabyte and seconds.
func encrypted(t *testing.T, plain []byte, password string) []byte {
	t.Helper()
	head, body, _ := strings.Cut(strings.TrimSpace(string(plain)), "\n")
	raw, err := base64.StdEncoding.DecodeString(body)
	try.Must(t, err)
	copy(raw[2:], "Sc")
	binary.LittleEndian.PutUint64(raw[38:], 1<<15) // operations
	binary.LittleEndian.PutUint64(raw[46:], 1<<24) // bytes
	sum := blake2b.Sum256(append([]byte("Ed"), raw[54:126]...))
	copy(raw[126:], sum[:])
	stream, err := scrypt.Key([]byte(password), raw[6:38], 1<<10, 8, 1, 104)
	try.Must(t, err)
	for i, b := range stream {
		raw[54+i] ^= b
	}
	return []byte(head + "\n" + base64.StdEncoding.EncodeToString(raw) + "\n")
}

func TestEncryptedKey(t *testing.T) {
	pair, err := GenerateKey("")
	try.Must(t, err)
	plain, err := ParsePrivateKey(pair.Secret, nil)
	try.Must(t, err)
	file := encrypted(t, pair.Secret, "secret")
	word := func(s string, err error) func() (string, error) { return func() (string, error) { return s, err } }
	got, err := ParsePrivateKey(file, word("secret", nil))
	if err != nil || !got.Equal(plain) {
		t.Errorf("with the password: %v", err)
	}
	if _, err := ParsePrivateKey(file, word("other", nil)); err == nil || !strings.Contains(err.Error(), "the password is wrong") {
		t.Errorf("with another password: %v", err)
	}
	none := errors.New("no terminal")
	if _, err := ParsePrivateKey(file, word("", none)); !errors.Is(err, none) {
		t.Errorf("without a password: %v", err)
	}
	if _, err := ParsePrivateKey([]byte("x"), nil); err == nil {
		t.Error("no key was read as one")
	}
	if _, err := ParsePublicKey(pair.Secret); err == nil {
		t.Error("a secret key was read as a public one")
	}
}
