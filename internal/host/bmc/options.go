package bmc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"

	"holdfast/internal/lib/durable"
)

const (
	ipmiPort     = "623"
	redfishPort  = "443"
	ipmiUser     = 16 // IPMI 2.0: longest name and password, bytes
	ipmiPassword = 20
)

// New checks what can be checked without the network and without the password.
func New(o Options) (*Device, error) {
	d := &Device{opts: o, log: o.Log}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if err := d.prepare(); err != nil {
		return nil, fmt.Errorf("fence device %s: %w", d.Name(), err)
	}
	return d, nil
}

func (d *Device) prepare() error {
	switch {
	case d.opts.User == "":
		return errors.New("user: want the name of an account on the device")
	case d.opts.PasswordFile == "":
		return errors.New("password file: want the path of a file")
	}
	if d.opts.Machine != "" {
		if _, err := parseUUID(d.opts.Machine); err != nil {
			return fmt.Errorf("machine: %w", err)
		}
	}
	switch d.opts.Type {
	case "ipmi":
		return d.prepareIPMI()
	case "redfish":
		return d.prepareRedfish()
	}
	return fmt.Errorf("type %q: want ipmi or redfish", d.opts.Type)
}

func (d *Device) prepareIPMI() error {
	addr, err := hostPort(d.opts.Address, ipmiPort)
	switch {
	case err != nil:
		return err
	case len(d.opts.User) > ipmiUser:
		return fmt.Errorf("user: %d bytes, IPMI takes at most %d", len(d.opts.User), ipmiUser)
	case d.opts.Suite != 0 && d.opts.Suite != 3 && d.opts.Suite != 17:
		return fmt.Errorf("cipher suite %d: want 17, 3 or 0 to find out", d.opts.Suite)
	case d.opts.Fingerprint != "" || d.opts.System != "":
		return errors.New("a certificate's fingerprint and a system are for redfish only")
	}
	d.open = opener{d: d, addr: addr}.open
	return nil
}

func (d *Device) prepareRedfish() error {
	text := d.opts.Address
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("address %q: want https://HOST or https://HOST:PORT", text)
		}
		text = u.Host
	}
	addr, err := hostPort(text, redfishPort)
	if err != nil {
		return err
	}
	if d.opts.Suite != 0 {
		return errors.New("a cipher suite is for ipmi only")
	}
	var pin []byte
	if d.opts.Fingerprint != "" {
		pin, err = hex.DecodeString(strings.ReplaceAll(d.opts.Fingerprint, ":", ""))
		if err != nil || len(pin) != 32 {
			return fmt.Errorf("fingerprint %q: want the 64 hex digits of a SHA-256", d.opts.Fingerprint)
		}
	}
	d.open = dialer{d: d, addr: addr, pin: pin}.open
	return nil
}

// hostPort reads host, host:port, an IPv6 address or [address]:port.
func hostPort(s, port string) (string, error) {
	host := s
	if h, p, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("address %q: want a port from 1 to 65535", s)
		}
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	bad := strings.ContainsAny(host, "/@ []?#%") || strings.Contains(host, ":") && net.ParseIP(host) == nil
	if host == "" || bad {
		return "", fmt.Errorf("address %q: want an IP address or a host name, with or without :PORT", s)
	}
	return net.JoinHostPort(host, port), nil
}

// readPassword reads it from a file that nobody else may read.
func readPassword(path string) (string, error) {
	password, err := durable.ReadSecret(path)
	if err != nil {
		return "", fmt.Errorf("read the password file: %w (%w)", err, ErrRefused)
	}
	return password, nil
}
