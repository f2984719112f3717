package config

// Node is the settings of one agent, read from a JSON file (default
// /etc/holdfast/agent.json) before it can reach the cluster. Everything that
// concerns the whole cluster is in Cluster instead.
type Node struct {
	Host    string `json:"host"`    // this host's name, one of the configuration's Node entries unless guests_only
	Addr    string `json:"addr"`    // this host's IP address, for API and migration
	Cluster string `json:"cluster"` // id of the cluster, made at install
	// this host runs guests, but never the management VM nor a member of the store; it is not in the configuration's
	// Node
	GuestsOnly bool     `json:"guests_only,omitempty"`
	DataDir    string   `json:"data_dir"`                    // survives reboots; default /var/lib/holdfast
	RunDir     string   `json:"run_dir"`                     // sockets and pid files; default /run/holdfast
	ConfigFile string   `json:"config_file"`                 // the cluster configuration; the first agent puts it into the store
	BootIDFile string   `json:"boot_id_file,omitempty"`      // default /proc/sys/kernel/random/boot_id
	Machine    string   `json:"machine_uuid_file,omitempty"` // holds the UUID of the hardware; default /sys/class/dmi/id/product_uuid
	Driver     string   `json:"driver,omitempty"`            // libvirt (default) or process
	Libvirt    Libvirt  `json:"libvirt,omitzero"`
	Process    Process  `json:"process,omitzero"`
	Store      Store    `json:"store"`
	API        API      `json:"api"`
	Console    Console  `json:"console,omitzero"`
	TLS        TLS      `json:"tls"`
	Watchdog   Watchdog `json:"watchdog,omitzero"`
	Upgrade    Upgrade  `json:"upgrade,omitzero"`
	Traces     *Traces  `json:"traces,omitempty"`           // nil: none are told
	Undersized bool     `json:"allow_undersized,omitempty"` // accept less than 8 GB and 4 CPUs
}

// Libvirt says how to reach libvirtd.
type Libvirt struct {
	Socket string `json:"socket,omitempty"` // default /run/libvirt/libvirt-sock
	// MigrateURI is the connection URI of a target host, %s stands for its
	// address; default qemu+tls://%s/system.
	MigrateURI string `json:"migrate_uri,omitempty"`
	// MigrateTLS says whether guests' memory travels encrypted: auto (default, when
	// both hosts have certificates for it), required or off.
	MigrateTLS string `json:"migrate_tls,omitempty"`
	// Shared are directories and devices, with all below them, that are the same on
	// every host although their file system does not tell it.
	Shared []string `json:"shared,omitempty"`
}

// Process says what the process driver runs in place of a guest.
type Process struct {
	Command []string `json:"command,omitempty"` // program and arguments
	Dir     string   `json:"dir,omitempty"`     // directory shared by the hosts, stands for the image's
}

// Store is either an embedded member or the endpoints of an external etcd.
type Store struct {
	Member    *Member  `json:"member,omitempty"`
	Endpoints []string `json:"endpoints"` // client URLs of all members
}

// Member is the etcd member that this host runs.
type Member struct {
	ListenPeer   string            `json:"listen_peer"`   // URL
	ListenClient string            `json:"listen_client"` // URL
	PeerURL      string            `json:"peer_url"`      // advertised
	ClientURL    string            `json:"client_url"`    // advertised
	Initial      map[string]string `json:"initial"`       // host name to peer URL, of all members of the new cluster
}

// API is where the agent serves its API beside the unix socket in RunDir.
type API struct {
	Listen string `json:"listen,omitempty"` // host:port; empty: unix socket only
}

// NoConsole is said as console.listen of all hosts, of which none shall serve a console.
const NoConsole = "none"

// Console is where the agent serves the web console.
type Console struct {
	Listen string `json:"listen,omitempty"` // host:port; empty: nowhere
	OIDC   *OIDC  `json:"oidc,omitempty"`   // nil: only the users of the cluster log in
}

// TLS names the PEM files of this host's certificate and the cluster's CA.
type TLS struct {
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
	CRL  string `json:"crl,omitempty"` // the CA's revocation list, DER; read again at each connection. Empty: none
}

// Watchdog names the device that resets the host.
type Watchdog struct {
	Device string `json:"device,omitempty"` // /dev/watchdog0, unix:PATH (a laboratory's simulated device), or none
}

// Upgrade says how this host takes part in upgrades.
type Upgrade struct {
	// program and arguments that order a reboot of this host; default: systemctl reboot
	RebootCommand   []string `json:"reboot_command,omitempty"`
	CredentialsFile string   `json:"credentials_file,omitempty"` // answers to prompts of bundles' programs; only root may read it
}
