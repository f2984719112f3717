package access

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"holdfast/internal/lib/fail"
)

// The costs of argon2id, as OWASP's Password Storage Cheat Sheet has them for little memory: 19 MiB, two passes, one lane.
const (
	hashMemory = 19 << 10 // KiB
	hashTime   = 2
	hashLanes  = 1
	hashBytes  = 32
	saltBytes  = 16
)

// Bounds of a password, characters. The lower one is that of NIST SP 800-63B-4 where it is the only secret of a login.
const (
	minPassword = 15
	maxPassword = 256
)

// checkPassword says what is wrong with a password that somebody has chosen.
func checkPassword(name, password string) error {
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password):
		return fail.Errorf(fail.Invalid, "password: want UTF-8")
	case n < minPassword || n > maxPassword:
		return fail.Errorf(fail.Invalid, "password of %d characters: want %d to %d", n, minPassword, maxPassword).
			With("some words that you remember are a good password")
	case strings.Contains(strings.ToLower(password), strings.ToLower(name)) && n < minPassword+len(name):
		return fail.Errorf(fail.Invalid, "password: it is little more than the user's name")
	}
	return nil
}

// hash gives a password's record, in the PHC string format: $argon2id$v=19$m=...,t=...,p=...$SALT$HASH.
func hash(password string) string {
	salt := make([]byte, saltBytes)
	rand.Read(salt)
	key := argon2.IDKey([]byte(password), salt, hashTime, hashMemory, hashLanes, hashBytes)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashTime, hashLanes,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// errHash is for a record that this version does not make.
var errHash = errors.New("the record of the password is none that this version reads")

// matches reports whether a password is the one of a record. The costs are the record's, within four times of ours: who
// can write a record must not make every login take all memory.
func matches(record, password string) (bool, error) {
	parts := strings.Split(record, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return false, errHash
	}
	var memory, passes uint32
	var lanes uint8
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); n != 3 || err != nil ||
		memory == 0 || memory > 4*hashMemory || passes == 0 || passes > 4*hashTime || lanes == 0 || lanes > 4 {
		return false, errHash
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, errHash
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) < 16 || len(want) > 64 {
		return false, errHash
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}
