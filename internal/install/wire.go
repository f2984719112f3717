package install

import (
	"io/fs"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/pair/precheck"
)

// What a Request may ask for.
const (
	DoGather = "gather" // the Facts of the host; from now on it listens at its ports
	DoNow    = "now"    // the time
	DoNonce  = "nonce"  // write, or compare, a file of the shared directory
	DoReach  = "reach"  // which ports of the peers answer, and whether full frames arrive
	DoKeys   = "keys"   // the authorities of an installed cluster
	DoOpen   = "open"   // the firewall lets others in; taken back as what was placed is
	DoPlace  = "place"  // put the files there
	DoKeep   = "keep"   // what was placed stays, whatever happens
	DoUndo   = "undo"   // what was placed goes
	DoStart  = "start"  // the agent runs, with what was placed
	DoStop   = "stop"   // the agent and all that it keeps running end
	DoRemove = "remove" // everything of ours goes
	DoAgent  = "agent"  // run a command of the installed program

	DoGuests  = "guests"  // guests with a name or on some files, and what else may start them
	DoDisown  = "disown"  // nothing starts a guest by itself any more; its definition is saved
	DoEnd     = "end"     // a guest shuts down; it has no process any more
	DoRelease = "release" // libvirt forgets a guest

	DoPair = "pair"     // what a pair needs to know of the host
	DoAnew = "pairanew" // the host's copy of a pair's data is copied anew, when it can not follow
)

// SentPrefix begins the path of the folder that holds the program on a host while
// an installation works there. (Programs in /tmp and /var/tmp may be forbidden to run.)
const SentPrefix = "/var/lib/holdfast-install."

// Request is one line of JSON from the installer to a host.
type Request struct {
	Do      string    `json:"do"`
	Query   *Query    `json:"query,omitempty"`   // gather
	Nonce   *Nonce    `json:"nonce,omitempty"`   // nonce
	Peers   []Peer    `json:"peers,omitempty"`   // reach
	Files   []File    `json:"files,omitempty"`   // place, remove
	Open    *Openings `json:"open,omitempty"`    // open
	Restart bool      `json:"restart,omitempty"` // start: also an agent that runs already
	TLS     bool      `json:"tls,omitempty"`     // start: libvirtd serves other hosts by TLS
	Args    []string  `json:"args,omitempty"`    // agent: arguments of the installed program
	Input   []byte    `json:"input,omitempty"`   // agent: what it reads
	Guest   *Wanted   `json:"guest,omitempty"`   // guests, disown, end, release

	Pair    *precheck.Query `json:"pair,omitempty"`     // pair
	DataDir string          `json:"data_dir,omitempty"` // pairanew: of the agent
}

// Answer is the line that comes back.
type Answer struct {
	Error   string            `json:"error,omitempty"`
	Facts   *Facts            `json:"facts,omitempty"`   // gather
	Now     time.Time         `json:"now,omitzero"`      // now
	Reached []Reached         `json:"reached,omitempty"` // reach
	Keys    map[string][]byte `json:"keys,omitempty"`    // keys: PEM by the name of the file
	Changed []string          `json:"changed,omitempty"` // place, remove: paths
	Left    []string          `json:"left,omitempty"`    // remove: what stays, and why
	Output  string            `json:"output,omitempty"`  // agent
	Guests  *Guests           `json:"guests,omitempty"`  // guests
	Saved   string            `json:"saved,omitempty"`   // disown: file with the definition; "" none is here
	Pair    *precheck.Facts   `json:"pair,omitempty"`    // pair
}

// Query says what a host is asked of itself.
type Query struct {
	Host        string       `json:"host"`
	Addr        string       `json:"addr"`
	Second      string       `json:"second,omitempty"` // address on the second path of a pair, on which it listens, too
	Bridges     []string     `json:"bridges,omitempty"`
	ImageFolder string       `json:"image_folder,omitempty"`
	Image       string       `json:"image,omitempty"` // path
	RBD         *cluster.RBD `json:"rbd,omitempty"`   // image in a Ceph pool
	Pair        *PairQuery   `json:"pair,omitempty"`  // a node of a two-node pair
	DataDir     string       `json:"data_dir"`
	Socket      string       `json:"socket"` // of libvirtd; "": it is not asked
	Ports       []int        `json:"ports"`
	Machine     string       `json:"machine,omitempty"` // file with the UUID of the hardware; "": the usual ones
	Domain      string       `json:"domain"`            // name of the management VM's domain
	// Settings is the file that has the agent's settings; "": that of an installation.
	Settings string `json:"settings,omitempty"`
	// Runs: the agent has answered who asks, so it runs, whoever started it.
	Runs bool `json:"runs,omitempty"`
}

// Peer is another host of the installation.
type Peer struct {
	Host  string `json:"host"`
	Addr  string `json:"addr"`
	Ports []int  `json:"ports"`
	MTU   int    `json:"mtu"` // bytes of the frames to try
	// Rate: also measure for a second what a connection takes.
	Rate bool `json:"rate,omitempty"`
}

// Reached is what came of trying a peer.
type Reached struct {
	Host   string         `json:"host"`
	Ports  map[int]string `json:"ports,omitempty"`  // those that do not answer, with the reason
	Frames string         `json:"frames,omitempty"` // why full frames do not arrive
	Rate   int64          `json:"rate,omitempty"`   // bytes in a second; 0: it was not measured
	// Unrated is why Rate could not be measured.
	Unrated string `json:"unrated,omitempty"`
}

// Nonce is a file that all hosts must see.
type Nonce struct {
	File   string `json:"file"`
	Value  string `json:"value"`
	Write  bool   `json:"write,omitempty"`  // else it is compared
	Remove bool   `json:"remove,omitempty"` // afterwards
}

// File is one that a host must have.
type File struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	Data []byte      `json:"data,omitempty"`
	Self bool        `json:"self,omitempty"` // the program that answers, in place of Data
	Link string      `json:"link,omitempty"` // a symbolic link to this, in place of Data
	// Group owns the file beside root; the first of these that the host has.
	Group []string `json:"group,omitempty"`
	// Once: a file that is there stays as it is.
	Once bool `json:"once,omitempty"`
}

// Facts is what a host says of itself. What could not be read is in Unknown, by
// the JSON name of the field.
type Facts struct {
	Unknown   map[string]string `json:"unknown,omitempty"`
	Name      string            `json:"name,omitempty"` // host name
	Arch      string            `json:"arch"`           // as Go names it
	Machine   string            `json:"machine"`        // UUID of the hardware, else the id of the system
	Root      bool              `json:"root"`
	Systemd   bool              `json:"systemd"` // systemctl answers
	KVM       bool              `json:"kvm"`
	Libvirt   string            `json:"libvirt,omitempty"` // version
	QEMU      string            `json:"qemu,omitempty"`    // version
	Memory    int64             `json:"memory"`            // MiB
	CPUs      int               `json:"cpus"`
	Domain    string            `json:"domain,omitempty"` // state of a guest with the management VM's name
	Watchdogs []string          `json:"watchdogs,omitempty"`
	Softdog   bool              `json:"softdog,omitempty"` // the kernel's module is there
	Link      *Link             `json:"link,omitempty"`    // the interface that has the host's address
	Bridges   map[string]Bridge `json:"bridges,omitempty"`
	Mount     *Mount            `json:"mount,omitempty"` // of the image folder
	Image     *Image            `json:"image,omitempty"`
	Pool      *Pool             `json:"pool,omitempty"`  // what is seen of the image in a Ceph pool
	Pair      *PairFacts        `json:"pair,omitempty"`  // of a node of a two-node pair
	Space     map[string]int64  `json:"space,omitempty"` // free MiB, by directory
	Ports     map[int]string    `json:"ports,omitempty"` // those that are taken, by whom
	Clock     Clock             `json:"clock"`
	Installed *Installed        `json:"installed,omitempty"`
	Firewall  *Firewall         `json:"firewall,omitempty"` // nil: not known
	Opened    []Opening         `json:"opened,omitempty"`   // what FirewallFile has
	// Certificates that are there with their keys, PEM by path; of CertificateFiles.
	Certificates map[string]string `json:"certificates,omitempty"`
	Other        string            `json:"other,omitempty"`  // another tool that runs the management VM
	Undone       []string          `json:"undone,omitempty"` // what an installation that died here had left
}

// Link is a network interface.
type Link struct {
	Name string   `json:"name"`
	MTU  int      `json:"mtu"`
	Bond []string `json:"bond,omitempty"` // what is wrong with the bonds below it
	// Speed in Mbit/s; 0: not known.
	Speed int `json:"speed,omitempty"`
}

// Bridge is a bridge of a host.
type Bridge struct {
	Exists  bool     `json:"exists"`
	Carrier bool     `json:"carrier"` // a port of it has a link
	MTU     int      `json:"mtu,omitempty"`
	Bond    []string `json:"bond,omitempty"`
}

// Mount is where a directory lies.
type Mount struct {
	Dir    string `json:"dir"` // mount point
	Kind   string `json:"kind"`
	Source string `json:"source"`
	AtBoot bool   `json:"at_boot"` // the system mounts it when it boots
}

// Image is the management VM's image.
type Image struct {
	Format string `json:"format,omitempty"`
	Size   int64  `json:"size,omitempty"`   // virtual, bytes
	Error  string `json:"error,omitempty"`  // why QEMU can not read it
	InUse  bool   `json:"in_use,omitempty"` // a running guest has its lock
}

// Pool is the management VM's image in a Ceph pool.
type Pool struct {
	ID     string   `json:"id,omitempty"` // of the cluster and the image
	Size   int64    `json:"size,omitempty"`
	Format string   `json:"format,omitempty"` // of its content, as QEMU sees it
	Open   []string `json:"open,omitempty"`   // clients that have it open
	Error  string   `json:"error,omitempty"`  // why it can not be used from this host
}

// Clock is how a host keeps its time.
type Clock struct {
	Synced  bool     `json:"synced"`
	By      string   `json:"by,omitempty"`
	Servers []string `json:"servers,omitempty"` // that the host's configuration of chrony names
}

// Installed is an installation of ours that is there.
type Installed struct {
	Cluster string   `json:"cluster"`
	Host    string   `json:"host"`
	Addr    string   `json:"addr"`
	Active  bool     `json:"active"`            // the agent runs
	Store   bool     `json:"store"`             // it has data of the store
	Members []string `json:"members,omitempty"` // Node of its configuration
	Guests  bool     `json:"guests,omitempty"`  // it runs guests only
}
