package libvirt

import (
	"encoding/hex"
	"fmt"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// MetadataURI names the namespace of our element in the domain's metadata.
const MetadataURI = "https://holdfast/guest/1"

// TokenPrefix begins the SMBIOS OEM string (type 11) that carries resource and
// epoch. An OEM string was chosen because libvirt writes it to QEMU's command
// line, so it is read from the process table when libvirtd is dead; because it is
// part of the domain's definition, so it goes along with a live migration;
// because it does not taint the domain, as arguments passed through to QEMU do;
// and because the guest can read it itself (dmidecode -t 11).
const TokenPrefix = "holdfast:"

// OfHoldfast reports whether a definition is that of a guest that Holdfast's own HA runs.
func OfHoldfast(definition string) bool {
	return strings.Contains(definition, MetadataURI) || strings.Contains(definition, ">"+TokenPrefix)
}

// ParseUUID reads the canonical form, 8-4-4-4-12 hexadecimal digits.
func ParseUUID(s string) (golibvirt.UUID, error) {
	var u golibvirt.UUID
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(u) || len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("domain UUID %q: want the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", s)
	}
	copy(u[:], b)
	return u, nil
}

// FormatUUID gives the canonical form.
func FormatUUID(u golibvirt.UUID) string {
	s := hex.EncodeToString(u[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// Number is the value of a parameter that is a whole number; 0 of any other, and of a negative one.
func Number(p golibvirt.TypedParam) uint64 {
	switch v := p.Value.I.(type) {
	case int32:
		return uint64(max(v, 0))
	case uint32:
		return uint64(v)
	case int64:
		return uint64(max(v, 0))
	case uint64:
		return v
	}
	return 0
}
