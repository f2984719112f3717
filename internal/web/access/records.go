package access

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/fail"
)

// Keys in the store.
const (
	keyUser    = records.KeyAccess + "user/"
	keyToken   = records.KeyAccess + "token/"
	keySession = records.KeyAccess + "session/"
)

func checkRole(r cluster.Role) error {
	if slices.Contains(cluster.Roles, r) {
		return nil
	}
	return fail.Errorf(fail.Invalid, "role %.40q: want viewer, operator or admin", string(r))
}

// userRecord is a User in the store.
type userRecord struct {
	cluster.User
	Hash string `json:"hash"`
}

func (r userRecord) user() cluster.User {
	r.User.Stamp = digest(r.Hash)[:16]
	return r.User
}

// tokenRecord is a Token in the store.
type tokenRecord struct {
	cluster.Token
	Digest string `json:"digest"` // SHA-256 of the secret, hex
}

// sessionRecord is a browser's.
type sessionRecord struct {
	Data    []byte    `json:"data"`
	Expires time.Time `json:"expires"`
}

// Bounds of what there may be.
const (
	maxUsers    = 500
	maxTokens   = 500
	maxSessions = 2000
	maxNote     = 64 // characters of what a token is for
	maxDays     = 730
)

// userName is what a user may be called: it is shown in the audit, and must not look like a host's agent or like words.
var userName = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,31}$`)

func checkName(name string) error {
	if !userName.MatchString(name) {
		return fail.Errorf(fail.Invalid, "user %.70q: want 1 to 32 of a-z, 0-9, '.', '_' and '-', the first a letter", name)
	}
	return nil
}

func checkNote(note string) error {
	ok := note != "" && len(note) <= maxNote && strings.TrimSpace(note) == note
	for _, r := range note {
		ok = ok && r >= ' ' && r != 0x7f && r != '\ufffd'
	}
	if !ok {
		return fail.Errorf(fail.Invalid, "name of a token %.70q: want 1 to %d bytes of printable text", note, maxNote)
	}
	return nil
}
