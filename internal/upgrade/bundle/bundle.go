// Package bundle writes, signs, reads, checks and unpacks upgrade bundles: tar
// archives with a manifest first that lists every file with its hash.
//
// A bundle comes from elsewhere, so reading it takes nothing for granted: it is
// read once from front to end with bounded memory, the signature is checked
// before the manifest is looked into, and every byte that is not what the
// manifest announces ends it with a Refusal. Packages of two other layouts are
// read as well, by the same reader; for them a manifest is made up.
package bundle

import (
	"fmt"
	"strings"

	"aead.dev/minisign"

	"holdfast/internal/inventory/manifest"
)

// Layout is the form of a package.
type Layout string

// Layouts.
const (
	Native Layout = "holdfast" // manifest.yaml first
	Appctl Layout = "appctl"   // versions.yml, action/appctl.sh and what belongs to it
	CAS    Layout = "cas"      // upgrade.sh
)

// PublicKey is a minisign public key.
type PublicKey = minisign.PublicKey

// PrivateKey is a minisign secret key.
type PrivateKey = minisign.PrivateKey

// Options say what is accepted. The zero value accepts nothing, because nobody
// can have signed it.
type Options struct {
	Keys          []PublicKey                // who may have signed
	AllowUnsigned bool                       // accept what is not signed, or what nobody can check; a wrong signature stays refused
	Signature     []byte                     // a minisign signature over the whole file, for layouts that hold none
	Pattern       func(pattern string) error // checks the syntax of version patterns; nil checks none
	MaxFiles      int                        // 0 means DefaultMaxFiles
	MaxBytes      int64                      // of all files, unpacked; 0 means DefaultMaxBytes

	free func(dir string) (int64, error) // free bytes below dir; a test puts its own here
}

// Limits of what is read, when Options have none.
const (
	DefaultMaxFiles = 20_000
	DefaultMaxBytes = 64 << 30

	maxManifest  = 1<<20 - 1 // bytes
	maxSignature = 4 << 10   // bytes
	maxWindow    = 8 << 20   // bytes of memory that a zstd frame may ask for
)

func (o *Options) maxFiles() int {
	if o.MaxFiles > 0 {
		return o.MaxFiles
	}
	return DefaultMaxFiles
}

func (o *Options) maxBytes() int64 {
	if o.MaxBytes > 0 {
		return o.MaxBytes
	}
	return DefaultMaxBytes
}

// Report says what a package is.
type Report struct {
	Manifest *manifest.Manifest
	Layout   Layout
	Signed   bool   // by one of the given keys, checked
	KeyID    string // of that key, 16 hex digits; empty when not signed
	Comment  string // the trusted comment of the signature
	Files    int    // without manifest and signature
	Bytes    int64  // of these files
	// Catalogue is the text of the catalogue of versions that the manifest names.
	Catalogue []byte
}

// catalogueFile is the file with the catalogue of versions, "" for none.
func catalogueFile(m *manifest.Manifest) string {
	if m.Path == nil {
		return ""
	}
	return m.Path.Catalogue
}

// Refusal says why a package is not accepted. Other errors of this package are
// about reading and writing, not about what was read.
type Refusal struct {
	Member string           // the member at fault; empty: the whole
	Reason string           // in lower case, without the member's name
	Faults []manifest.Fault // what is wrong in the manifest, if that is it
}

// Error gives the reason in one line.
func (r *Refusal) Error() string {
	member := shown(r.Member)
	if len(r.Faults) > 0 {
		text := r.Reason + ": " + r.Faults[0].In(member)
		if more := len(r.Faults) - 1; more > 0 {
			text += fmt.Sprintf(" (and %d more)", more)
		}
		return text
	}
	if r.Member == "" {
		return r.Reason
	}
	return member + ": " + r.Reason
}

// shown is a name in one line of a message.
func shown(name string) string {
	if name == "" {
		return ""
	}
	quoted := fmt.Sprintf("%q", name)
	if len(quoted) > 160 {
		quoted = quoted[:160] + `..."`
	}
	if plain := quoted[1 : len(quoted)-1]; plain == name && !strings.Contains(name, ": ") {
		return name
	}
	return quoted
}

func refuse(member, reason string, args ...any) *Refusal {
	return &Refusal{Member: member, Reason: fmt.Sprintf(reason, args...)}
}

// keyID writes a key's id as minisign does.
func keyID(id uint64) string { return fmt.Sprintf("%016X", id) }
