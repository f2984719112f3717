package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

// unsafeKey stands among the host names of Fencing and speaks for all hosts.
const unsafeKey = "Unsafe"

// Fencing says how each host can be put to rest for certain. In the file it is
// one object: {"Unsafe": true, "host1": {...}}.
type Fencing struct {
	Unsafe bool                   `json:"Unsafe"`  // for all hosts; true is refused, see unsafeRule
	Hosts  map[string]HostFencing `yaml:",inline"` // by host name, all other names
}

// HostFencing is the fencing of one host.
type HostFencing struct {
	Watchdog string        `json:"Watchdog,omitempty"` // /dev/..., unix:PATH or none, in place of the agent's own setting; empty: that one
	Unsafe   bool          `json:"Unsafe,omitempty"`   // true is refused, see unsafeRule
	Devices  []FenceDevice `json:"Devices,omitempty"`  // tried in order
}

// FenceDevice is a management controller that can switch a host off.
type FenceDevice struct {
	Type       string `json:"Type"`       // ipmi or redfish
	Address    string `json:"Address"`    // host[:port]; redfish also https://host[:port]
	User       string `json:"User"`       // account on the device
	Credential string `json:"Credential"` // file:/PATH of a file with the password on each host, never the password itself

	System  string `json:"System,omitempty"`  // redfish: id of the system, where the service has several
	Machine string `json:"Machine,omitempty"` // UUID of the hardware that it belongs to; empty: what the host's agent reports
	// redfish: SHA-256 of the device's certificate, hex; empty: the system's authorities decide
	Fingerprint string `json:"Fingerprint,omitempty"`
}

// IsZero reports whether nothing is configured, for omitzero.
func (f Fencing) IsZero() bool { return !f.Unsafe && len(f.Hosts) == 0 }

// MarshalJSON writes the form of the file, hosts in name order.
func (f Fencing) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	if f.Unsafe {
		b.WriteString(`"` + unsafeKey + `":true`)
	}
	for _, host := range slices.Sorted(maps.Keys(f.Hosts)) {
		name, err := json.Marshal(host)
		if err != nil {
			return nil, fmt.Errorf("write fencing host name: %w", err)
		}
		val, err := json.Marshal(f.Hosts[host])
		if err != nil {
			return nil, fmt.Errorf("write fencing of host %s: %w", host, err)
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(val)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads the form of the file. Parse does not use it: it is for
// configurations that were valid when they were written, such as in the store.
func (f *Fencing) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("read fencing: %w", err)
	}
	*f = Fencing{}
	for name, val := range raw {
		if name == unsafeKey {
			if err := json.Unmarshal(val, &f.Unsafe); err != nil {
				return fmt.Errorf("read fencing of all hosts: %w", err)
			}
			continue
		}
		var h HostFencing
		if err := json.Unmarshal(val, &h); err != nil {
			return fmt.Errorf("read fencing of host %s: %w", name, err)
		}
		if f.Hosts == nil {
			f.Hosts = map[string]HostFencing{}
		}
		f.Hosts[name] = h
	}
	return nil
}

func (c *checker) fencing(f Fencing, h hosts) {
	if f.Unsafe {
		c.fault("Fencing.Unsafe", "true", unsafeRule)
	}
	if len(f.Hosts) > maxNodes {
		c.fault("Fencing", fmt.Sprintf("%d hosts", len(f.Hosts)), fmt.Sprintf("want at most %d hosts, as in Node", maxNodes))
		return
	}
	for _, host := range slices.Sorted(maps.Keys(f.Hosts)) {
		p := field("Fencing", host)
		if !h.known[host] && !h.unclear {
			c.fault(p, host, fmt.Sprintf("unknown host; the most similar name in Node is %q", strictyaml.Nearest(host, h.names)))
		}
		hf := f.Hosts[host]
		if hf.Unsafe {
			c.fault(p+".Unsafe", "true", unsafeRule)
		}
		if hf.Watchdog != "" && !isWatchdog(hf.Watchdog) {
			c.fault(p+".Watchdog", hf.Watchdog, watchdogRule)
		}
		for i, d := range hf.Devices {
			c.device(index(p+".Devices", i), d)
		}
	}
}

func (c *checker) device(p string, d FenceDevice) {
	switch {
	case d.Type != "ipmi" && d.Type != "redfish":
		c.fault(p+".Type", d.Type, "want ipmi or redfish")
	case d.Type == "ipmi" && !isHostPort(d.Address, false):
		c.fault(p+".Address", d.Address, "want an IP address or a host name, with or without :PORT")
	case d.Type == "redfish" && !isHostPort(d.Address, false) && !isRedfish(d.Address):
		c.fault(p+".Address", d.Address, "want https://HOST or https://HOST:PORT, an IP address or a host name")
	}
	if d.User == "" {
		c.fault(p+".User", d.User, "want the name of an account on the device")
	}
	c.credential(p+".Credential", d.Credential)
	c.identity(p, d)
}

// credential checks a password by reference.
func (c *checker) credential(p, value string) {
	if file, ok := strings.CutPrefix(value, "file:"); !ok || !isAbsolute(file) {
		// The value is not shown: it may be a password.
		c.fault(p, "(not shown)", "want file:/PATH, the file on the hosts that holds the password; never the password itself")
	}
}

// identity checks what a device must show of itself.
func (c *checker) identity(p string, d FenceDevice) {
	if d.Machine != "" && !isUUID(d.Machine) {
		c.fault(p+".Machine", d.Machine, "want the UUID of the host's hardware (dmidecode -s system-uuid), or nothing")
	}
	if d.System != "" && d.Type != "redfish" {
		c.fault(p+".System", d.System, "allowed only with Type redfish")
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(d.Fingerprint, ":", ""))
	switch {
	case d.Fingerprint == "":
	case d.Type != "redfish":
		c.fault(p+".Fingerprint", d.Fingerprint, "allowed only with Type redfish")
	case err != nil || len(raw) != sha256.Size:
		c.fault(p+".Fingerprint", d.Fingerprint, "want the SHA-256 of the device's certificate, 64 hexadecimal digits")
	}
}

// isUUID reports whether s has the form 8-4-4-4-12 of hexadecimal digits.
func isUUID(s string) bool {
	for i, r := range s {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (r == '-') || !dash && !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return false
		}
	}
	return len(s) == 36
}

func isRedfish(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.User == nil && isHostPort(u.Host, false) &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
}

// unsafeRule is why a takeover without proof is refused: nothing that is shown in
// a status makes up for a disk that two management VMs have written.
const unsafeRule = "want false: a takeover without proof that the old host stopped would let two management VMs " +
	"write to one disk; give the host a watchdog or a fence device, or confirm its loss yourself with holdfast confirm-off"

const watchdogRule = "want a device such as /dev/watchdog0, unix:/PATH of a simulated one, or none"

func isWatchdog(s string) bool {
	if file, ok := strings.CutPrefix(s, "unix:"); ok {
		return isAbsolute(file)
	}
	return s == "none" || strings.HasPrefix(s, "/dev/") && len(s) > len("/dev/") && isAbsolute(s)
}
