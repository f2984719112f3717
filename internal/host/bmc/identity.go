package bmc

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// identity is the hardware's UUID as a device gave it: 16 bytes in an order that
// is not certain. The zero value is "not known".
type identity struct{ raw [16]byte }

// known is false for the values that firmware without a UUID gives.
func (id identity) known() bool {
	all := func(b byte) bool { return !slices.ContainsFunc(id.raw[:], func(x byte) bool { return x != b }) }
	return !all(0) && !all(0xff)
}

// readings are the UUIDs that the bytes may mean, in the order of RFC 4122: as
// they are, with the first three fields turned as SMBIOS stores them (most
// devices copy its bytes), and all turned as the IPMI specification has it.
func (id identity) readings() (smbios, plain, ipmi [16]byte) {
	plain, smbios, ipmi = id.raw, id.raw, id.raw
	slices.Reverse(smbios[0:4])
	slices.Reverse(smbios[4:6])
	slices.Reverse(smbios[6:8])
	slices.Reverse(ipmi[:])
	return smbios, plain, ipmi
}

// is returns ErrForeign when both UUIDs are known and no reading makes them the same.
func (id identity) is(machine string) error {
	if machine == "" || !id.known() {
		return nil
	}
	want, err := parseUUID(machine)
	if err != nil || !(identity{want}).known() {
		return err
	}
	smbios, plain, ipmi := id.readings()
	if want == smbios || want == plain || want == ipmi {
		return nil
	}
	return fmt.Errorf("it belongs to the machine %s, want %s: %w", id, machine, ErrForeign)
}

// String gives SMBIOS's reading, the one that Linux shows; "" when not known.
func (id identity) String() string {
	if !id.known() {
		return ""
	}
	u, _, _ := id.readings()
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// fromText is the identity whose SMBIOS reading is the UUID s.
func fromText(s string) (identity, error) {
	u, err := parseUUID(s)
	if err != nil {
		return identity{}, err
	}
	raw, _, _ := identity{u}.readings() // turning twice gives the same
	return identity{raw}, nil
}

// parseUUID reads 8-4-4-4-12 hex digits of either case, bytes in reading order.
func parseUUID(s string) (u [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 || len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("%q: want a UUID", s)
	}
	return [16]byte(b), nil
}
