package lab

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const busyboxPath = "/bin/busybox"

// installLimit is how long apt-get may take.
const installLimit = 15 * time.Minute

// needs are the programs of the laboratory and the Debian packages they are in. work is what its agents keep up, as Options has
// it; "": any.
func needs(work string) [][2]string {
	all := [][2]string{
		{"/usr/sbin/libvirtd", "libvirt-daemon-system"},
		{"/usr/sbin/virtlogd", "libvirt-daemon-system"},
		{"/usr/sbin/virtlockd", "libvirt-daemon-system"},
		{"virsh", "libvirt-clients"},
		{"qemu-system-x86_64", "qemu-system-x86"},
		{"qemu-img", "qemu-utils"},
		{qemuNBD, "qemu-utils"},
		{busyboxPath, "busybox-static"},
		{"ip", "iproute2"},
		{"nft", "nftables"},
		{"nsenter", "util-linux"},
		{ipmiSim, "openipmi"},
		{"ldd", "libc-bin"},
		{"apt-get", "apt"},
		{"dpkg-deb", "dpkg"},
	}
	if work == WorkPair {
		all = append(all, [][2]string{
			{databaseProgram, "mariadb-server-core"}, {"mariadb-install-db", "mariadb-server-core"},
			{"mariadb-backup", "mariadb-backup"}, {"mbstream", "mariadb-backup"}, {"mariadb-binlog", "mariadb-client"},
		}...)
	}
	return all
}

// Missing lists the programs that the laboratory needs and this machine does
// not have, each with its remedy, whatever its agents keep up. Empty means that nothing is missing.
func Missing() []string { return missing("") }

// missing are those for a kind of work.
func missing(work string) []string {
	var all []string
	for _, n := range needs(work) {
		if _, err := exec.LookPath(n[0]); err != nil {
			all = append(all, fmt.Sprintf("%s (apt-get install %s)", n[0], n[1]))
		}
	}
	return all
}

// Install installs the packages of programs that are missing for a kind of work with apt-get, and refreshes
// apt's lists, which buildGuest needs.
func Install(ctx context.Context, work string) error {
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	if _, err := runLong(ctx, "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"); err != nil {
		return fmt.Errorf("install packages: %w", err)
	}
	var packages []string
	for _, n := range needs(work) {
		if _, err := exec.LookPath(n[0]); err != nil {
			packages = append(packages, n[1])
		}
	}
	if len(packages) == 0 {
		return nil
	}
	args := append([]string{"-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", "install"}, packages...)
	if _, err := runLong(ctx, "apt-get", args...); err != nil {
		return fmt.Errorf("install packages: %w", err)
	}
	return nil
}

func joinLines(lines []string) string { return strings.Join(lines, ", ") }
