package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// Values of Cluster.Type.
const (
	FileConf = "FileConf" // the image lies in a directory that all hosts share
	CephConf = "CephConf" // the image lies in a Ceph pool
)

// Cluster is the configuration of the whole cluster. The fields down to
// AllowResetRootPassword are those of the source tool, name for name; the rest
// is Holdfast's own and optional. docs/configuration.md has the rule of each.
type Cluster struct {
	Node                     []string  `json:"Node"` // "IP HOSTNAME" each
	MemorySizeInGB           int       `json:"MemorySizeInGB"`
	CPU                      int       `json:"CPU"`
	Type                     string    `json:"Type"`          // FileConf, CephConf or PairConf
	MonAddrs                 []string  `json:"MonAddrs"`      // CephConf only
	ChronyServers            []string  `json:"ChronyServers"` // IP addresses or names
	PoolName                 string    `json:"PoolName"`      // CephConf only
	ImageFolder              string    `json:"ImageFolder"`   // FileConf only
	DNS                      []string  `json:"DNS"`           // IP addresses
	Network                  []Network `json:"Network"`
	ConsoleProxyOverriddenIP string    `json:"ConsoleProxyOverriddenIP"` // IPv4, "", or the per-node form
	AllowResetRootPassword   bool      `json:"AllowResetRootPassword"`

	Fencing            Fencing             `json:"Fencing,omitzero"`
	TimingConf         Timings             `json:"Timings,omitzero"` // as written; the method Timings fills in the defaults
	HealthCheck        *HealthCheck        `json:"HealthCheck,omitempty"`
	LockManager        *LockManager        `json:"LockManager,omitempty"`
	SharedStorageProbe *SharedStorageProbe `json:"SharedStorageProbe,omitempty"`
	Restart            Restart             `json:"Restart,omitzero"`
	OnPanic            string              `json:"OnPanic,omitempty"` // restart (default), coredump or preserve
	Ceph               Ceph                `json:"Ceph,omitzero"`     // with CephConf: as whom the hosts reach the pool
	// nbds://HOST:PORT/EXPORT, or nbd:// without TLS, in place of the image in ImageFolder
	ImageURL       string            `json:"ImageURL,omitempty"`
	Labels         map[string]string `json:"Labels,omitempty"`     // free text for people and metrics
	DirectBoot     *DirectBoot       `json:"DirectBoot,omitempty"` // for test guests
	DomainXML      DomainXML         `json:"DomainXML,omitempty"`  // the operator's own domain in place of the one that is built
	VNC            *VNC              `json:"VNC,omitempty"`        // a console at the host's address; none: no console
	MemorySizeInMB int               `json:"MemorySizeInMB,omitempty"`
	Pair           *Pair             `json:"Pair,omitempty"`          // with PairConf: the group of a two-node pair
	Notifications  *Notifications    `json:"Notifications,omitempty"` // who is told of events
}

// Network is one network card of the management VM. Ipaddr, Netmask and Gateway
// are one value or the per-node form "A@host1, B@host2".
type Network struct {
	Bridge     string `json:"Bridge"`     // on the hosts
	MacAddress string `json:"MacAddress"` // XX:XX:XX:XX:XX:XX
	Ipaddr     string `json:"Ipaddr"`
	Netmask    string `json:"Netmask"`
	Gateway    string `json:"Gateway"`
	IsMgmt     bool   `json:"IsMgmt"`     // carries the management network
	IsDefRoute bool   `json:"IsDefRoute"` // its gateway is the default route
}

// Ceph says as whom the hosts reach the pool. Zero values mean: the user holdfast, and
// the keyring that Ceph's own tools would take for it.
type Ceph struct {
	User       string `json:"User,omitempty"`       // of Ceph, without "client."
	Credential string `json:"Credential,omitempty"` // file:/PATH of a keyring on each host, never the key itself
}

// CephUser is the user unless the configuration says otherwise.
const CephUser = "holdfast"

// HealthCheck probes the management service at the management VM's address.
// Zero values mean: every 10 s, 5 s for an answer, 3 failures in a row.
type HealthCheck struct {
	Type     string   `json:"Type"`           // tcp or http
	Port     int      `json:"Port"`           // 1..65535
	Path     string   `json:"Path,omitempty"` // http only, begins with /
	Interval Duration `json:"Interval,omitzero"`
	Timeout  Duration `json:"Timeout,omitzero"`
	Failures int      `json:"Failures,omitempty"` // in a row, before the guest counts as failed
	Grace    Duration `json:"Grace,omitzero"`     // after a start, in which it is not judged before its first success; default 5m
}

// Restart says what becomes of a guest that ends by itself, panics, or fails its
// health check.
type Restart struct {
	InPlace *int     `json:"InPlace,omitempty"` // restarts on the same host before it is moved; default 2
	Limit   int      `json:"Limit,omitempty"`   // restarts after which it stays down until `holdfast start`; 0 (default): never gives up
	Window  Duration `json:"Window,omitzero"`   // a guest that has run for longer is as good as new; default 10m
}

// Policy returns the restart policy with defaults filled in.
func (r Restart) Policy() cluster.Restart {
	p := cluster.Restart{InPlace: 2, Limit: r.Limit, Window: 10 * time.Minute}
	if r.InPlace != nil {
		p.InPlace = *r.InPlace
	}
	if r.Window != 0 {
		p.Window = time.Duration(r.Window)
	}
	return p
}

// LockManager is the hypervisor's own lock on the image, a second line of defence.
type LockManager struct {
	Type      string `json:"Type"`                // none or virtlockd
	Lockspace string `json:"Lockspace,omitempty"` // virtlockd: absolute directory on the shared storage
}

// SharedStorageProbe asks the storage on every host: it writes and reads back a file
// in ImageFolder, with CephConf an object in the pool, or, with ImageURL, opens that
// export and reads its first bytes. It is on unless Off says otherwise, also when the cluster has
// no such field. Zero values mean: 5 s from an answer to the next question, 10 s
// without an answer until the storage counts as hung.
type SharedStorageProbe struct {
	Off      bool     `json:"Off,omitempty"`
	Interval Duration `json:"Interval,omitzero"`
	Timeout  Duration `json:"Timeout,omitzero"`
}

// DirectBoot lets the hypervisor load a kernel from the host, for test guests.
type DirectBoot struct {
	Kernel  string `json:"Kernel"` // absolute path
	Initrd  string `json:"Initrd,omitempty"`
	Cmdline string `json:"Cmdline,omitempty"`
}

// VNC is a console of the management VM, at the address of the host that runs it.
type VNC struct {
	Credential string `json:"Credential"` // file:/PATH of a file with the password on each host, never the password itself
}

// File is the path of the file with the password.
func (v VNC) File() string { return strings.TrimPrefix(v.Credential, "file:") }

// Parse reads and checks a cluster configuration. The suffix of name says the
// form: .yaml and .yml are YAML, all else JSON; name is not opened, and other files
// only by opt.ReadFile. The faults
// are complete and in document order; without faults the Cluster is valid,
// with them it may be filled in part and must not be used.
func Parse(name string, data []byte, opt Options) (Cluster, []Fault, []Warning) {
	c := newChecker(name)
	var cl Cluster
	if c.document(data, &cl, false) {
		c.cluster(&cl, opt)
	}
	return cl, c.faults(), c.warnings
}

// Load reads the file at path, at most 1 MiB, and parses it. A file that is not
// valid gives an error that wraps Faults.
func Load(path string, opt Options) (Cluster, []Warning, error) {
	data, err := ReadFile(path)
	if err != nil {
		return Cluster{}, nil, fmt.Errorf("read cluster configuration: %w", err)
	}
	opt.ReadFile = ReadFile
	cl, faults, warnings := Parse(path, data, opt)
	if len(faults) > 0 {
		return Cluster{}, warnings, fmt.Errorf("check cluster configuration: %w", Faults(faults))
	}
	return cl, warnings, nil
}

// ReadFile reads a file, but never much more than is allowed.
func ReadFile(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err // names the file
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if data, err = io.ReadAll(io.LimitReader(f, maxFile+1)); err != nil {
		return nil, err
	}
	return data, nil
}
