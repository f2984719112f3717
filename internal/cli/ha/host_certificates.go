package ha

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/pki"
)

// Validity of the hypervisors' certificates, and of their authorities.
const (
	hypervisorValidity = 5 * 365 * 24 * time.Hour
	authorityValidity  = 20 * 365 * 24 * time.Hour
)

// hypervisorHost is a host that gets certificates.
type hypervisorHost struct {
	name string
	ips  []netip.Addr
}

func hostCertificatesCmd(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "certificates DIR HOST=IP[,IP]...",
		Short: "Make certificates that encrypt guests' memory during migrations",
		Long: `Makes certificates for each host in DIR. QEMU encrypts guests' memory during
migrations with those in HOST/qemu. libvirtd connects to the libvirtd of other
hosts with those in HOST/libvirt. IP is the address of the host's libvirtd: addr
in the agent's settings.

DIR also gets the keys of the two authorities that sign the certificates. Keep
it where no host can read it, and use it again for more hosts or new
certificates. Both differ from the agents' authority, because a program that
breaks into QEMU can read QEMU's key.

Needs no cluster. The certificates are valid for 5 years.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			hosts, err := hypervisorHosts(args[1:])
			if err != nil {
				return err
			}
			if err := makeHypervisors(args[0], hosts); err != nil {
				return fail.Errorf(fail.Invalid, "%w", err)
			}
			for _, h := range hosts {
				dir := output.Clean(filepath.Join(args[0], h.name))
				if err := output.Text(a.Env.Stdout,
					fmt.Sprintf("%s: %s/qemu for QEMU, %s/libvirt for libvirtd\n", h.name, dir, dir)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// hypervisorHosts reads HOST=IP[,IP].
func hypervisorHosts(args []string) ([]hypervisorHost, error) {
	var out []hypervisorHost
	for _, arg := range args {
		name, list, ok := strings.Cut(arg, "=")
		h := hypervisorHost{name: name}
		if !ok || name == "" || strings.ContainsAny(name, "/\\ ") || strings.HasPrefix(name, ".") {
			return nil, fail.Errorf(fail.Invalid, "host %q: want HOST=IP[,IP]", output.Clean(arg))
		}
		for ip := range strings.SplitSeq(list, ",") {
			addr, err := netip.ParseAddr(ip)
			if err != nil {
				return nil, fail.Errorf(fail.Invalid, "host %s: %q is no IP address", output.Clean(name), output.Clean(ip))
			}
			h.ips = append(h.ips, addr)
		}
		out = append(out, h)
	}
	return out, nil
}

func makeHypervisors(dir string, hosts []hypervisorHost) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	memory, err := openAuthority(dir, "memory")
	if err != nil {
		return err
	}
	daemons, err := openAuthority(dir, "libvirt")
	if err != nil {
		return err
	}
	for _, h := range hosts {
		for _, set := range []struct {
			ca    pki.CA
			name  string
			write func(string, pki.Pair) error
		}{{memory, "qemu", memory.WriteQEMU}, {daemons, "libvirt", daemons.WriteLibvirt}} {
			pair, err := set.ca.IssueHypervisor(h.name, h.ips, hypervisorValidity)
			if err == nil {
				err = set.write(filepath.Join(dir, h.name, set.name), pair)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// openAuthority reads an authority of DIR, or makes it.
func openAuthority(dir, name string) (pki.CA, error) {
	cert, key := filepath.Join(dir, name+"-ca.pem"), filepath.Join(dir, name+"-ca.key")
	ca, err := pki.LoadCA(cert, key)
	if !errors.Is(err, os.ErrNotExist) {
		return ca, err
	}
	if _, err := os.Stat(cert); err == nil {
		return ca, fmt.Errorf("%s is there without its key %s: put that back, or take another folder", cert, key)
	}
	if ca, err = pki.NewCA("Holdfast "+name, authorityValidity); err != nil {
		return ca, err
	}
	return ca, ca.Write(cert, key)
}
