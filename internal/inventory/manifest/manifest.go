// Package manifest is the file manifest.yaml of a bundle: what the bundle holds, how it is
// installed, and everything that can be wrong in it. It is pure.
package manifest

import (
	"fmt"
	"strings"
	"time"

	"holdfast/internal/inventory"
)

// Manifest says what a bundle holds and how it is installed. It is the file
// manifest.yaml, the first member of every bundle.
type Manifest struct {
	Name           string   `json:"name"`                     // letters, digits, '.', '_', '-'; at most 64
	Version        string   `json:"version"`                  // that the bundle installs
	MinSpaceGB     int      `json:"minSpaceGB,omitempty"`     // free space that the unpack directory needs, in GiB; 0 means DefaultMinSpaceGB
	RequiresReboot bool     `json:"requiresReboot,omitempty"` // the hosts are rebooted one after the other
	Kernel         string   `json:"kernel,omitempty"`         // release that the hosts must run after the reboot; empty: any
	Requires       Requires `json:"requires,omitzero"`
	UpgradeFrom    []Source `json:"upgradeFrom"`        // the first that matches counts
	FromRule       string   `json:"fromRule,omitempty"` // how versions are compared with UpgradeFrom: "" by patterns, FromAppctl
	Mixed          []string `json:"mixed,omitempty"`    // patterns of versions that may run beside the new one in a rolling run
	Path           *Path    `json:"path,omitempty"`
	Order          Order    `json:"order,omitzero"`
	Modules        []Module `json:"modules"` // in the order of installation, as far as After says nothing else
}

// DefaultMinSpaceGB is the free space that a bundle needs when it does not say.
const DefaultMinSpaceGB = 5

// MinSpace returns the free space that the bundle asks for, in bytes.
func (m *Manifest) MinSpace() int64 {
	gb := m.MinSpaceGB
	if gb == 0 {
		gb = DefaultMinSpaceGB
	}
	return int64(gb) << 30
}

// Requires is what every host must have before anything is begun.
type Requires struct {
	Commands      []string `json:"commands,omitempty"`      // programs in PATH
	PythonModules []string `json:"pythonModules,omitempty"` // modules that python3 can import
}

// Mode is a way to carry an upgrade out.
type Mode string

// Modes of upgrades.
const (
	Offline Mode = "offline" // the service is stopped on all hosts
	Rolling Mode = "rolling" // one host after the other, the service goes on
)

// Source allows the upgrade from versions.
type Source struct {
	Version            string `json:"version"` // a pattern
	Modes              []Mode `json:"modes"`
	ChangeSystemTables bool   `json:"changeSystemTables,omitempty"`
}

// Path names what the planner of upgrade paths reads.
type Path struct {
	Catalogue string `json:"catalogue"` // a YAML file in the bundle
}

// Order gives the modules of a phase, all of them, where their order is not
// the one of installation (for Stop and Rollback: not its reverse).
type Order struct {
	PreCheck  []string `json:"preCheck,omitempty"`
	Stop      []string `json:"stop,omitempty"`
	Start     []string `json:"start,omitempty"`
	PostCheck []string `json:"postCheck,omitempty"`
	Rollback  []string `json:"rollback,omitempty"`
}

// Module is a part of the bundle that is upgraded by itself.
type Module struct {
	Name  string   `json:"name"`
	After []string `json:"after,omitempty"` // modules that must be done first
	// manager, host, all (or empty), label:KEY=VALUE, or engine:DIR: where an engine is installed in DIR
	RunsOn      string       `json:"runsOn,omitempty"`
	Timeout     Duration     `json:"timeout,omitempty"`     // of each action; 0 means a default for its phase
	CanRollback bool         `json:"canRollback,omitempty"` // it has a rollback action that works
	Files       []File       `json:"files,omitempty"`
	Config      []ConfigFile `json:"config,omitempty"`
	Actions     Actions      `json:"actions"` // none: see FilesOnly
}

// File is a file of a bundle. A manifest that is not built yet may give its
// path only, and a path that ends in / for all files below it.
type File struct {
	Path   string `json:"path"`             // relative, with /
	Size   int64  `json:"size"`             // bytes
	SHA256 string `json:"sha256,omitempty"` // 64 lower-case hex digits
	Mode   string `json:"mode,omitempty"`   // permissions such as "0644"
}

// FromText is the short form of a file: its path.
func (f *File) FromText(path string) error {
	f.Path = path
	return nil
}

// ConfigFile is a configuration file in the bundle whose parameter names must
// be those of the installed one.
type ConfigFile struct {
	File      string `json:"file"`             // in the bundle
	Installed string `json:"installed"`        // absolute path on the host
	Format    string `json:"format,omitempty"` // json, yaml, ini or properties; empty: by the suffix
}

// Phase is what an action is for.
type Phase string

// Phases of a module, in the order of an upgrade. Check is the probe that tells
// whether the action of another phase was done already.
const (
	PreCheck   Phase = "preCheck"
	Checkpoint Phase = "checkpoint" // before the first module is stopped in an offline upgrade, while all run
	Stop       Phase = "stop"
	Backup     Phase = "backup"
	Install    Phase = "install"
	Start      Phase = "start"
	PostCheck  Phase = "postCheck"
	Rollback   Phase = "rollback"
	Commit     Phase = "commit"
	Check      Phase = "check"
)

// Phases returns all phases.
func Phases() []Phase {
	return []Phase{PreCheck, Checkpoint, Stop, Backup, Install, Start, PostCheck, Rollback, Commit, Check}
}

// Actions are what a module does in the phases; nil is nothing.
type Actions struct {
	PreCheck   *Action `json:"preCheck,omitempty"`
	Checkpoint *Action `json:"checkpoint,omitempty"`
	Stop       *Action `json:"stop,omitempty"`
	Backup     *Action `json:"backup,omitempty"`
	Install    *Action `json:"install,omitempty"`
	Start      *Action `json:"start,omitempty"`
	PostCheck  *Action `json:"postCheck,omitempty"`
	Rollback   *Action `json:"rollback,omitempty"`
	Commit     *Action `json:"commit,omitempty"`
	Check      *Action `json:"check,omitempty"`
}

// Get returns the action of a phase, nil when the module has none.
func (a *Actions) Get(p Phase) *Action {
	return map[Phase]*Action{
		PreCheck: a.PreCheck, Checkpoint: a.Checkpoint, Stop: a.Stop, Backup: a.Backup, Install: a.Install, Start: a.Start,
		PostCheck: a.PostCheck, Rollback: a.Rollback, Commit: a.Commit, Check: a.Check,
	}[p]
}

// Action is one step on a host: exactly one of Run, FileTree, Systemd,
// Packages, Image, Appctl and None.
type Action struct {
	Run      []string  `json:"run,omitempty"` // a program in the bundle, then its arguments; see Placeholders
	FileTree *FileTree `json:"fileTree,omitempty"`
	Systemd  *Systemd  `json:"systemd,omitempty"`
	Packages *Packages `json:"packages,omitempty"`
	Image    *Image    `json:"image,omitempty"`
	Appctl   *Appctl   `json:"appctl,omitempty"`
	None     bool      `json:"none,omitempty"` // there is nothing to do, on purpose

	Idempotent bool `json:"idempotent,omitempty"` // may be repeated when nobody knows whether it was done
	Once       bool `json:"once,omitempty"`       // on one host of those the module runs on, not on each
	// of Install, with Once: it changes all hosts, from the active manager; see Manifest.AllHosts
	AllHosts bool `json:"allHosts,omitempty"`
}

// Placeholders are the words in braces that arguments of Run may hold; the
// engine puts values in their place.
func Placeholders() []string {
	return []string{
		"{mode}",       // offline or rolling
		"{appctlMode}", // offline or rollup
		"{array}",      // address of the storage array, empty when none is known
		"{version}",    // that is installed
		"{from}",       // that was installed before
		"{host}",       // name of the host
		"{bundle}",     // directory of the unpacked bundle
		"{backup}",     // directory of this run's backup
		"{phase}",      // for Check: the phase that is asked about
	}
}

// FileTree swaps a directory on the host for one of the bundle.
type FileTree struct {
	Source string `json:"source"` // directory in the bundle
	Target string `json:"target"` // absolute path on the host
}

// Systemd stops, starts or restarts units; exactly one of the three is given.
type Systemd struct {
	Stop    []string `json:"stop,omitempty"`
	Start   []string `json:"start,omitempty"`
	Restart []string `json:"restart,omitempty"`
}

// Packages installs the files that fit the host's package manager.
type Packages struct {
	Deb []string `json:"deb,omitempty"`
	RPM []string `json:"rpm,omitempty"`
}

// Image loads a container image.
type Image struct {
	File string `json:"file"`
	Tag  string `json:"tag"`
}

// Appctl calls a verb of action/appctl.sh as the vendor of such a package does: see
// docs/appctl.md. It is made for packages of the appctl layout.
type Appctl struct {
	// Package is the directory of the package in the bundle, with a / at its end; "" is the
	// bundle itself. Files of it are changed by its own scripts, so they work on a copy.
	Package string `json:"package,omitempty"`
	// Home is the directory of the installed engine, absolute.
	Home string `json:"home"`
	// Call is the verb and its arguments, see Placeholders.
	Call []string `json:"call"`
	// Installed: the script in Home is called, not the one of the package.
	Installed bool `json:"installed,omitempty"`
	// Offline: nothing is done in a rolling run, where the verb upgrade does it by itself.
	Offline bool `json:"offline,omitempty"`
}

// Wants says what the preCheck of a module, or its installation, wants of a host beside the bundle's
// files: answers to the scripts of an engine in that directory, and a manager for so many packages.
func (m *Module) Wants() (engine string, deb, rpm int) {
	if a := m.Actions.PreCheck; a != nil && a.Appctl != nil && !a.Appctl.Installed {
		engine = a.Appctl.Home
	}
	for _, a := range []*Action{m.Actions.PreCheck, m.Actions.Install} {
		if a != nil && a.Packages != nil {
			deb, rpm = len(a.Packages.Deb), len(a.Packages.RPM)
		}
	}
	return engine, deb, rpm
}

// Needs reports whether there is something of that.
func (m *Module) Needs() bool {
	engine, deb, rpm := m.Wants()
	return engine != "" || deb+rpm > 0
}

// Script is the path of the script in the bundle, "" for the installed one.
func (a *Appctl) Script() string {
	if a.Installed {
		return ""
	}
	return a.Package + "action/appctl.sh"
}

// Duration is a time.Duration that is written as Go does, such as 1h30m.
type Duration time.Duration

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("want a duration such as 90s or 1h30m")
	}
	*d = Duration(v)
	return nil
}

// TimeoutOf returns how long the action of a phase may take.
func (m *Module) TimeoutOf(p Phase) time.Duration {
	if m.Timeout > 0 {
		return time.Duration(m.Timeout)
	}
	switch p {
	case Backup, Rollback:
		return time.Hour
	case Install:
		return 30 * time.Minute
	case Check:
		return time.Minute
	default:
		return 10 * time.Minute
	}
}

// Module returns the module of that name, nil when there is none.
func (m *Manifest) Module(name string) *Module {
	for i := range m.Modules {
		if m.Modules[i].Name == name {
			return &m.Modules[i]
		}
	}
	return nil
}

// AllHosts returns the module whose installation changes the software of all hosts and
// managers when it is done on the active manager, nil when there is none. Hosts are rebooted
// afterwards, and an exit code alone does not tell that it was done: the installed version
// is read on every host.
func (m *Manifest) AllHosts() *Module {
	for i := range m.Modules {
		if a := m.Modules[i].Actions.Install; a != nil && a.AllHosts {
			return &m.Modules[i]
		}
	}
	return nil
}

// RuleReadBack is the name of the rule that the installed version is read on every host after
// such a program. An operator who confirms it goes without.
const RuleReadBack = "read-back"

// DefaultMode is the mode of a run for which nobody has chosen one.
func (m *Manifest) DefaultMode() Mode {
	if m.AllHosts() != nil {
		return Reboot
	}
	return Rolling
}

// Files returns the files of all modules.
func (m *Manifest) Files() []File {
	var out []File
	for i := range m.Modules {
		out = append(out, m.Modules[i].Files...)
	}
	return out
}

// FilesOnly reports whether the module does nothing: its files are unpacked with the bundle,
// for the programs of other modules.
func (m *Module) FilesOnly() bool { return m.Actions == Actions{} }

// On reports whether the module is installed on a host, by its rule RunsOn.
func (m *Module) On(h *inventory.Host) bool {
	if label, ok := strings.CutPrefix(m.RunsOn, "label:"); ok {
		key, want, _ := strings.Cut(label, "=")
		value, has := h.Labels[key]
		return has && value == want
	}
	if dir, ok := strings.CutPrefix(m.RunsOn, onEngine); ok {
		return h.Engine(dir) != nil
	}
	switch m.RunsOn {
	case "manager":
		return h.Has(inventory.RoleManager)
	case "host":
		return h.Has(inventory.RoleHost)
	}
	return true
}

const onEngine = "engine:"

// OnEngine is the RunsOn of modules for hosts on which an engine is installed in dir.
func OnEngine(dir string) string { return onEngine + dir }

// Engine is the directory of the engine that a package of the appctl layout upgrades, ""
// for other bundles.
func (m *Manifest) Engine() string {
	for i := range m.Modules {
		if dir, ok := strings.CutPrefix(m.Modules[i].RunsOn, onEngine); ok {
			return dir
		}
	}
	return ""
}

// Reboot is the mode in which the software of all hosts is changed with guests
// running, and the hosts are rebooted one after the other afterwards.
const Reboot Mode = "reboot"

// Modes are all there are.
func Modes() []Mode { return []Mode{Rolling, Offline, Reboot} }

// Listed is the mode by which a white list knows m: a run that reboots at the end is a
// rolling one.
func (m Mode) Listed() Mode {
	if m == Reboot {
		return Rolling
	}
	return m
}
