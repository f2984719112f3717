package install

// Wanted is a guest of libvirt's that is looked for, or that something is done to.
type Wanted struct {
	Name   string   `json:"name"`
	UUID   string   `json:"uuid,omitempty"`
	Files  []string `json:"files,omitempty"` // guests: also those that have one of these
	Socket string   `json:"socket"`          // of libvirtd
}

// Guests are what a host tells of guests that could be the management VM.
type Guests struct {
	All      []Guest   `json:"all,omitempty"`
	Saved    string    `json:"saved,omitempty"`    // definition that a takeover before has saved here
	Locked   []string  `json:"locked,omitempty"`   // of the files: those that a guest has, on whichever host
	Services []Service `json:"services,omitempty"` // that would start it
	Strays   []string  `json:"strays,omitempty"`   // processes of such services that belong to none of them
}

// Guest is one of them.
type Guest struct {
	Name       string   `json:"name"`
	UUID       string   `json:"uuid"`
	State      string   `json:"state"` // running, paused, off
	PIDs       []int    `json:"pids,omitempty"`
	Persistent bool     `json:"persistent,omitempty"`
	Autostart  bool     `json:"autostart,omitempty"`
	Saved      bool     `json:"saved,omitempty"`     // its memory is saved on the host
	Snapshots  bool     `json:"snapshots,omitempty"` // libvirt keeps some
	Named      bool     `json:"named,omitempty"`     // it has the name; others have one of the files
	Disks      []string `json:"disks,omitempty"`     // that it writes to
	XML        string   `json:"xml,omitempty"`       // of one that has the name: as it would start
}

// Service is a unit of another tool.
type Service struct {
	Name    string `json:"name"`
	Active  bool   `json:"active,omitempty"`
	Enabled bool   `json:"enabled,omitempty"`
}
