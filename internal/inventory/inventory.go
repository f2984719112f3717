// Package inventory is the vocabulary of what hosts have: guests, storage pools, roles, and
// what only people know of a platform. It is pure: the packages below it gather and read it.
package inventory

import (
	"cmp"
	"encoding/json"
	"time"

	"holdfast/internal/cluster"
)

// Inventory is what an upgrade starts from, as the agents report it or a file
// says it. Sizes are MiB, rates MiB/s.
type Inventory struct {
	Cluster string    `json:"cluster"`
	Version string    `json:"version"`           // installed, of what the bundle upgrades
	Hosts   []Host    `json:"hosts"`             // in the order in which they are dealt with, if nothing else decides
	VMs     []VM      `json:"vms,omitempty"`     // business VMs and the management VM
	At      time.Time `json:"at,omitzero"`       // when it was taken
	Pair    *Pair     `json:"pair,omitempty"`    // the managers are a hot-standby pair
	HA      *Switch   `json:"ha,omitempty"`      // how the platform's own HA is switched; nil: there is none but Holdfast's
	Running string    `json:"running,omitempty"` // version to which an upgrade is on its way, "" for none

	// Kept are the hosts that keep the backups of earlier upgrades, and why: what the last
	// job's status says.
	Kept map[cluster.HostID]string `json:"-"`
	// Took is what steps of the last upgrade have taken, for the next one's estimate: see upgrade.Took.
	Took map[string]time.Duration `json:"-"`

	Apart   []Apart               `json:"apart,omitempty"`   // guests that must not share a host
	Backups map[string]BackupPlan `json:"backups,omitempty"` // ways to back up, by the name that Options.Backup gives
	Status  Watched               `json:"status,omitzero"`   // what else tells how the platform stands

	Components []string `json:"components,omitempty"` // installed beside, which rules of upgrade paths ask about

	Applications *Switch        `json:"applications,omitempty"` // what uses the service: off while an offline upgrade is under way
	Engine       EngineSettings `json:"engine,omitzero"`        // for packages of the appctl layout
}

// EngineSettings are what the scripts of a package of the appctl layout ask for.
type EngineSettings struct {
	Array         string `json:"array,omitempty"`         // address of the storage array
	SharedObjects string `json:"sharedObjects,omitempty"` // directory of shared objects for the replication tool logicrep, where that is used
}

// Apart are guests that must not share a host, each by its UUID, as HOST/NAME or by its name.
type Apart struct {
	Name string   `json:"name"`
	VMs  []string `json:"vms"`
}

// BackupPlan is a provider of backups with its settings.
type BackupPlan struct {
	Provider string          `json:"provider"` // files, mariadb, ctbackup, qcow2, lvm or array
	Settings json.RawMessage `json:"settings,omitempty"`
}

// Watched are programs and files of the platform that checks look at. Programs
// are absolute paths with arguments.
type Watched struct {
	Cluster     []string   `json:"cluster,omitempty"`     // exit code 0: the cluster is well
	Replication [][]string `json:"replication,omitempty"` // exit code 0: healthy
	VersionFile string     `json:"versionFile,omitempty"` // has a line Version: VERSION, or a version of CAS
	BackupDir   string     `json:"backupDir,omitempty"`   // its newest entry is the platform's last backup
}

// Role is what a host is for. A host may have both.
type Role string

// Roles.
const (
	RoleManager Role = "manager" // runs the management service (CVM)
	RoleHost    Role = "host"    // runs guests (CVK)
)

// Host is a machine with what the planner and the checks need of it.
type Host struct {
	Name      cluster.HostID    `json:"name"`
	Roles     []Role            `json:"roles,omitempty"` // none: host
	Labels    map[string]string `json:"labels,omitempty"`
	Group     string            `json:"group,omitempty"` // guests move between hosts of one group only
	MemoryMiB int64             `json:"memoryMiB"`       // that guests may use
	CPUs      int               `json:"cpus,omitempty"`  // that guests may use, vCPUs; 0: not bounded
	CPUModel  string            `json:"cpuModel,omitempty"`
	Version   string            `json:"version,omitempty"` // installed; empty: the inventory's
	// Version is from before an upgrade, and nobody has read since what the host has
	Unread      bool     `json:"-"`
	Kernel      string   `json:"kernel,omitempty"`     // that runs
	NextKernel  string   `json:"nextKernel,omitempty"` // that a reboot would start
	Boot        string   `json:"boot,omitempty"`       // boot id
	Install     string   `json:"install,omitempty"`    // random id of the installation: a host that was reinstalled has another
	Down        bool     `json:"down,omitempty"`
	Maintenance bool     `json:"maintenance,omitempty"` // takes no guests
	Pools       []Pool   `json:"pools,omitempty"`
	Engines     []Engine `json:"engines,omitempty"`    // installed engines of the appctl layout
	FreeBytes   int64    `json:"freeBytes,omitempty"`  // on the unpack directory's file system; 0: not known
	Commands    []string `json:"commands,omitempty"`   // of those that the bundle requires, the ones that are there
	SkewMillis  int64    `json:"skewMillis,omitempty"` // its clock against the coordinator's
	LinkMiBps   int64    `json:"linkMiBps,omitempty"`  // that the network carries over which its guests move; 0: not known
	Member      bool     `json:"member,omitempty"`     // a voter of Holdfast's own store: one of them at most is out of service
}

// Has reports whether the host has the role.
func (h *Host) Has(r Role) bool {
	for _, x := range h.Roles {
		if x == r {
			return true
		}
	}
	return len(h.Roles) == 0 && r == RoleHost
}

// gigabit is what a network of 1 Gbit/s carries, MiB/s.
const gigabit = 110

// Bandwidth returns what the network carries over which the host's guests move, MiB/s;
// that of 1 Gbit/s where it is not known.
func (h *Host) Bandwidth() float64 { return float64(cmp.Or(h.LinkMiBps, gigabit)) }

// Engine returns the engine that is installed in a directory, nil when there is none.
func (h *Host) Engine(dir string) *Engine {
	for i := range h.Engines {
		if h.Engines[i].Dir == dir {
			return &h.Engines[i]
		}
	}
	return nil
}

// Engine is a clustered database engine of the appctl layout, as its own files on the
// host say it.
type Engine struct {
	Dir     string `json:"dir"`              // where it is installed, such as /opt/cantian
	Version string `json:"version"`          // of versions.yml; empty: it could not be read
	Node    int    `json:"node"`             // number of the host in the engine's cluster, from 0 on; -1: could not be read
	Nodes   int    `json:"nodes"`            // how many the cluster has; 0: could not be read
	Deploy  string `json:"deploy,omitempty"` // where its data is: file, dss, dbstor or combined
}

// Pool is a storage pool of a host.
type Pool struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`             // dir, nfs, ocfs2, iscsi, lvm, rbd...
	Shared bool   `json:"shared,omitempty"` // other hosts use it, too
	Paths  int    `json:"paths,omitempty"`  // ways to its device; 1 is a single-path pool; 0: does not apply
	Active bool   `json:"active,omitempty"`
	Use    string `json:"use,omitempty"` // guests, or template

	Transient bool `json:"transient,omitempty"` // libvirt forgets it when it is stopped, and with a reboot
}

// VM is a guest.
type VM struct {
	Name      string         `json:"name"`
	UUID      string         `json:"uuid,omitempty"`
	Host      cluster.HostID `json:"host"`
	MemoryMiB int64          `json:"memoryMiB"`
	CPUs      int            `json:"cpus,omitempty"`
	Running   bool           `json:"running"`
	Dirty     float64        `json:"dirty,omitempty"`     // memory that it changes, MiB/s; 0: not known
	System    string         `json:"system,omitempty"`    // guest system, such as centos6.5
	Fixed     []string       `json:"fixed,omitempty"`     // why it can not move live (host device, local disk, CPU model...)
	Busy      string         `json:"busy,omitempty"`      // what holds it for now: snapshot, backup, restore, block job, pause
	Halted    bool           `json:"halted,omitempty"`    // it stands still, complete, until somebody lets it go on
	Protected bool           `json:"protected,omitempty"` // Holdfast's own HA moves it
	Addresses []string       `json:"addresses,omitempty"` // IP addresses at which other hosts reach it
	Policy    Policy         `json:"policy,omitempty"`    // for when it can not move live; empty: the run's
}

// Policy is what becomes of a VM that can not move live when its host is
// emptied. It is decided before the run.
type Policy string

// Policies.
const (
	PolicyAsk  Policy = "ask"  // the plan is blocked until one of the others is chosen
	PolicyStop Policy = "stop" // shut down, and started again on the same host afterwards
	PolicyCold Policy = "cold" // shut down, moved, started on the other host
	PolicySkip Policy = "skip" // its host is left out
)

// Switch is how something of the platform is switched off and on again, and
// what tells how it stands: programs with arguments on a manager.
type Switch struct {
	Off    []string `json:"off"`
	On     []string `json:"on"`
	Status []string `json:"status,omitempty"` // exit code 0: on; 1: off
}

// Pair is a hot-standby pair of managers: programs with arguments, run on the
// manager concerned.
type Pair struct {
	Nodes  []cluster.HostID `json:"nodes"` // two
	Active cluster.HostID   `json:"active"`
	Switch []string         `json:"switch"` // makes the manager on which it runs the active one
	Stop   []string         `json:"stop,omitempty"`
	Start  []string         `json:"start,omitempty"`  // starts the hot-standby services
	Status []string         `json:"status,omitempty"` // exit code 0: healthy and active; 3: healthy standby; else not healthy
}

// PolicyFor returns what policies say of a VM, "" for nothing. They name it by its UUID,
// as HOST/NAME or by its name alone, and the first of these counts.
func (v *VM) PolicyFor(policies map[string]Policy) Policy {
	if len(policies) == 0 {
		return ""
	}
	return cmp.Or(policies[v.UUID], policies[v.Place()], policies[v.Name])
}

// Place is HOST/NAME.
func (v *VM) Place() string { return string(v.Host) + "/" + v.Name }
