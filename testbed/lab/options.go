package lab

import (
	"os"
	"path/filepath"
	"slices"

	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/cephnode"
)

// DefaultDir is where a laboratory lives unless told otherwise.
const DefaultDir = "/var/tmp/holdfast-lab"

// DefaultCache keeps built guests between laboratories; Down leaves it.
const DefaultCache = "/var/cache/holdfast-lab"

// Options describe a laboratory. The zero value of each field is its default.
type Options struct {
	Dir    string `json:"dir"`              // default DefaultDir; not below /run, /srv, /dev, /proc, /sys
	Hosts  int    `json:"hosts"`            // 1..9, default 3
	Subnet int    `json:"subnet,omitempty"` // K of 10.98.K.0/24, 1..250; default the first free one
	Exe    string `json:"exe,omitempty"`    // the program holdfast, which hosts have and agents are; "": none. It is copied.
	// the program of Command, which the laboratory's own processes run; default the running one. It is copied.
	Self   string `json:"self,omitempty"`
	Cache  string `json:"cache,omitempty"`  // of built guests, default DefaultCache
	Agents bool   `json:"agents,omitempty"` // run a Holdfast agent on each host; implies Watchdogs
	// with Agents: the first hosts, which run the store; the others run guests only; 0 means all
	Members   int    `json:"members,omitempty"`
	Watchdogs bool   `json:"watchdogs,omitempty"` // a simulated watchdog per host
	BMCs      bool   `json:"bmcs,omitempty"`      // a management controller per host: real IPMI by ipmi_sim
	Disk      string `json:"disk,omitempty"`      // of the guest: DiskFile (default), DiskNBD, DiskOwn or DiskCeph
	Profile   string `json:"profile,omitempty"`   // of the agents' timings: "" or config.ProfileFast
	// libvirt's lock daemon on every host, with a lockspace in the shared folder; the agents' guest holds a lease there
	Locks    bool   `json:"locks,omitempty"`
	Work     string `json:"work,omitempty"`      // what the agents keep up: WorkGuest (default), WorkAddress or WorkPair
	VoteDisk bool   `json:"vote_disk,omitempty"` // of a pair of two hosts: a file in the shared folder decides which one goes on alone
	Second   bool   `json:"second,omitempty"`    // a second switch joins the hosts; with WorkPair it is the pair's second path
	// hosts and the switch have addresses of it, too; with WorkPair a second virtual address is one
	IPv6    bool     `json:"ipv6,omitempty"`
	StayOff bool     `json:"stay_off,omitempty"` // a host that its watchdog reset stays off, instead of on again after 2 s
	Guests  int      `json:"guests,omitempty"`   // business guests vm1, vm2, ..., 0..64; implies Pools
	Pools   bool     `json:"pools,omitempty"`    // the storage pools SharedPool and TemplatePool on every host
	Daemons []Daemon `json:"daemons,omitempty"`  // further daemons on every host

	// OwnSystem gives each host its own view of the machine's system, to install
	// packages in; Dir must not be a part of it.
	OwnSystem bool `json:"own_system,omitempty"`

	// Bare is root's password on hosts with sshd and nothing of Holdfast, on which it can be installed over SSH;
	// "": they are not. It implies Watchdogs and OwnSystem, and is not for Agents.
	Bare string `json:"bare,omitempty"`

	// Parts of the agents' cluster configuration, as they are written there.
	Timings     config.Timings      `json:"timings,omitzero"` // beside Profile
	HealthCheck *config.HealthCheck `json:"health_check,omitempty"`
	Restart     config.Restart      `json:"restart,omitzero"`
}

func (o Options) complete() (Options, error) {
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.Hosts == 0 {
		o.Hosts = 3
	}
	if o.Cache == "" {
		o.Cache = DefaultCache
	}
	o.Watchdogs = o.Watchdogs || o.Agents
	o.Pools = o.Pools || o.Guests > 0
	if o.Hosts < 1 || o.Hosts > MaxHosts {
		return o, fail.Errorf(fail.Invalid, "--hosts %d: want 1 to %d", o.Hosts, MaxHosts)
	}
	if o.Guests < 0 || o.Guests > MaxGuests {
		return o, fail.Errorf(fail.Invalid, "--guests %d: want 0 to %d", o.Guests, MaxGuests)
	}
	if o.Subnet < 0 || o.Subnet > maxSubnet {
		return o, fail.Errorf(fail.Invalid, "--subnet %d: want 1 to %d, or 0 for the first free one", o.Subnet, maxSubnet)
	}
	if o.Agents && o.Members == 0 {
		o.Members = o.Hosts
	}
	if o.Members < 0 || o.Members > o.Hosts {
		return o, fail.Errorf(fail.Invalid, "--members %d: want an odd number from 3 to the number of hosts, %d", o.Members, o.Hosts)
	}
	if o.Members > 0 && !o.Agents {
		return o, fail.Errorf(fail.Invalid, "--members %d: want --agents with it", o.Members)
	}
	twoVoters := o.Work == WorkPair && o.Members == 2 // fence devices or pings stand in for a third one
	if o.Agents && (o.Members < 3 || o.Members%2 == 0) && !twoVoters {
		return o, fail.Errorf(fail.Invalid, "--members %d: want an odd number, at least 3, as agents need it "+
			"(without --members: that of --hosts)", o.Members)
	}
	if o.Disk == "" {
		o.Disk = DiskFile
	}
	if o.Disk != DiskFile && o.Disk != DiskNBD && (o.Disk != DiskOwn && o.Disk != DiskCeph || !o.Agents) {
		return o, fail.Errorf(fail.Invalid, "--disk %q: want %q, %q or, with --agents, %q or %q", o.Disk, DiskFile, DiskNBD, DiskOwn, DiskCeph)
	}
	if missing := cephnode.Missing(); o.Disk == DiskCeph && len(missing) > 0 {
		return o, fail.Errorf(fail.Invalid, "--disk %q needs %s", o.Disk, joinLines(missing))
	}
	if o.Profile != "" && o.Profile != config.ProfileFast {
		return o, fail.Errorf(fail.Invalid, "--profile %q: want %q or none", o.Profile, config.ProfileFast)
	}
	if o.Work == "" {
		o.Work = WorkGuest
	}
	if o.Work != WorkGuest && o.Work != WorkAddress && (o.Work != WorkPair || !o.Agents) {
		return o, fail.Errorf(fail.Invalid, "--work %q: want %q, %q or, with --agents, %q", o.Work, WorkGuest, WorkAddress, WorkPair)
	}
	names := []string{"virtlogd", "virtlockd", "libvirtd", AgentDaemon}
	for _, d := range o.Daemons {
		if err := d.check(); err != nil {
			return o, err
		}
		if slices.Contains(names, d.Name) {
			return o, fail.Errorf(fail.Invalid, "daemon %q: the name is taken", d.Name)
		}
		names = append(names, d.Name)
	}
	o, err := o.bare()
	if err != nil {
		return o, err
	}
	dir, err := o.folder()
	if err != nil {
		return o, err
	}
	o.Dir = dir
	if o.Agents && o.Exe == "" {
		return o, fail.Errorf(fail.Invalid, "--program: want a program, which agents are")
	}
	if o.Self == "" {
		if o.Self, err = os.Executable(); err != nil {
			return o, fail.Errorf(fail.Invalid, "find the running program: %w", err)
		}
	}
	for _, program := range []*string{&o.Exe, &o.Self} {
		if *program == "" {
			continue
		}
		if *program, err = filepath.Abs(*program); err != nil {
			return o, fail.Errorf(fail.Invalid, "find the program %s: %w", *program, err)
		}
	}
	return o, nil
}
