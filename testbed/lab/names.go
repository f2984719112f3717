package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"

	"holdfast/internal/lib/fail"
)

// Limits of a laboratory.
const (
	MaxHosts  = 9
	maxSubnet = 250
)

// Names that every host sees, the same on all of them.
const (
	// SharedDir is the folder that all hosts share; it stands for NFS. It holds
	// the image, and the guest's kernel and initrd.
	SharedDir = "/srv/shared"
	// HostDir is the host's own persistent folder.
	HostDir = "/srv/host"
	// WatchdogDir holds the sockets of the simulated watchdogs.
	WatchdogDir = "/srv/watchdog"

	// ImageName, KernelName and InitrdName are files in SharedDir.
	ImageName  = "mnvm.img"
	ImageName2 = "data.img" // with DiskOwn
	KernelName = "vmlinuz"
	InitrdName = "initrd.gz"

	lockspaceName = "locks" // folder in SharedDir
	// Lockspace is the folder of the leases that libvirt's lock daemons take, with
	// Options.Locks: one file per guest, named by its UUID.
	Lockspace = SharedDir + "/" + lockspaceName
)

// GuestUUID is the UUID of the guest that StartGuest starts.
const GuestUUID = "98000000-0000-4000-8000-000000000001"

// GuestName is the domain name of the guest that StartGuest starts.
const GuestName = "lab-guest"

// plan derives all names and addresses of one laboratory from its number.
type plan struct {
	Dir    string `json:"dir"`
	Subnet int    `json:"subnet"` // K of 10.98.K.0/24
	Hosts  int    `json:"hosts"`
	Groups string `json:"groups"` // folder of the hosts' control groups
}

func (p plan) id() string { return fmt.Sprintf("hf%d", p.Subnet) }

// netns is the name of the switch's network namespace, below /run/netns.
func (p plan) netns() string { return p.id() + "-sw" }

func (p plan) bridge() string { return p.id() + "-br" }

// port is the switch's end of a host's cable.
func (p plan) port(h string) string { return p.id() + "-" + h }

// cgroup is the folder of a host's control group. It follows from the plan, so
// that one which nobody came to record is found.
func (p plan) cgroup(h string) string { return filepath.Join(p.Groups, p.id()+"-"+h) }

// secondBridge is the second switch, and secondPort its end of a host's second cable.
func (p plan) secondBridge() string { return p.id() + "-br2" }

func (p plan) secondPort(h string) string { return p.id() + "-" + h + "-2" }

// secondAddr is a host's address at the second switch.
func (p plan) secondAddr(h string) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 97, byte(p.Subnet), byte(10 + hostNumber(h))})
}

func (p plan) addr(last int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 98, byte(p.Subnet), byte(last)})
}

// addr6 stands beside an address of IPv4: it ends in the same number.
func (p plan) addr6(a netip.Addr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x98, 7: byte(p.Subnet), 15: a.As4()[3]})
}

func (p plan) switchAddr() netip.Addr { return p.addr(1) }

func (p plan) guestAddr() netip.Addr { return p.addr(10) }

func (p plan) hostAddr(h string) netip.Addr { return p.addr(10 + hostNumber(h)) }

func (p plan) hostMAC(h string) string {
	return fmt.Sprintf("52:54:00:98:%02x:%02x", p.Subnet, 0x10+hostNumber(h))
}

func (p plan) guestMAC() string { return fmt.Sprintf("52:54:00:98:%02x:0a", p.Subnet) }

func (p plan) switchMAC() string { return fmt.Sprintf("52:54:00:98:%02x:01", p.Subnet) }

func (p plan) hostUUID(h string) string {
	return fmt.Sprintf("1abc0000-0000-4000-8000-%06d%06d", p.Subnet, hostNumber(h))
}

func (p plan) hosts() []string {
	var all []string
	for i := 1; i <= p.Hosts; i++ {
		all = append(all, fmt.Sprintf("h%d", i))
	}
	return all
}

func (p plan) path(elem ...string) string {
	return filepath.Join(append([]string{p.Dir}, elem...)...)
}

func (p plan) disk(h string, elem ...string) string {
	return p.path(append([]string{"hosts", h}, elem...)...)
}

// hostNumber is the digit of a name made by hosts, 0 for any other name.
func hostNumber(h string) int {
	if len(h) != 2 || h[0] != 'h' || h[1] < '1' || h[1] > '9' {
		return 0
	}
	return int(h[1] - '0')
}

func (p plan) checkHost(h string) error {
	if n := hostNumber(h); n == 0 || n > p.Hosts {
		return fail.Errorf(fail.Invalid, "host %q: want one of h1..h%d", h, p.Hosts)
	}
	return nil
}

// hidden matches the folders that a host covers with its own; a laboratory in
// one of them would not be seen by its hosts.
var hidden = regexp.MustCompile(`^/(run|srv|dev|proc|sys)(/|$)`)

// checkDir makes dir absolute and refuses folders that hosts can not see.
func checkDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("folder %q: %w", dir, err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	if hidden.MatchString(abs) || abs == "/" {
		return "", fmt.Errorf("folder %q: hosts have their own /run, /srv, /dev, /proc and /sys: choose another place", dir)
	}
	if strings.ContainsAny(abs, ",\n") {
		return "", fmt.Errorf("folder %q: no comma and no line break allowed", dir)
	}
	return abs, nil
}
