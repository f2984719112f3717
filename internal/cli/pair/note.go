package pair

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/cli/installer"
	"holdfast/internal/cli/output"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// setupNote is in install.SetupFile: a set-up that was begun. Run again with the same values it goes on.
type setupNote struct {
	Begun time.Time `json:"begun"`
	setupValues
	Config config.Cluster `json:"config"`
}

// setupValues are all that a set-up goes by, by its flags. What a file says is its content as it was read, in JSON.
type setupValues struct {
	VIP         string   `json:"vip"`
	Peer        string   `json:"peer"`
	Arbiters    []string `json:"arbiter"`
	Device      string   `json:"device"`
	Second      string   `json:"second-path"`
	Hosts       int      `json:"hosts"`
	VMs         int      `json:"vms"`
	Database    int      `json:"db-size"` // GB
	VersionFile string   `json:"version-file"`
	Unmanaged   string   `json:"unmanaged-probe"`
	Group       string   `json:"group"` // of --service, too
	Fencing     string   `json:"fencing"`
	Settings    string   `json:"settings"`
	NoFirewall  bool     `json:"no-firewall"`
}

// flags are the values by their flags, and whether they are a file's content.
func (v setupValues) flags() (out []setupFlag) {
	number := func(n int) string { return strconv.Itoa(n) }
	return []setupFlag{
		{"--vip", v.VIP, false}, {"--peer", v.Peer, false}, {"--arbiter", strings.Join(v.Arbiters, " "), false}, {"--device", v.Device, false},
		{"--second-path", v.Second, false}, {"--hosts", number(v.Hosts), false}, {"--vms", number(v.VMs), false},
		{"--db-size", number(v.Database), false}, {"--version-file", v.VersionFile, false}, {"--unmanaged-probe", v.Unmanaged, false},
		{"--service, --group", v.Group, true}, {"--fencing", v.Fencing, true}, {"--settings", v.Settings, true},
		{"--no-firewall", strconv.FormatBool(v.NoFirewall), false},
	}
}

type setupFlag struct {
	name, value string
	file        bool
}

// same refuses a set-up with other values than those of one that was begun.
func (n setupNote) same(v setupValues) error {
	var other []string
	is := v.flags()
	for i, was := range n.flags() {
		switch {
		case was.value == is[i].value:
		case was.file:
			other = append(other, was.name+": the file had other contents")
		default:
			other = append(other,
				fmt.Sprintf("%s: value %q: it was %q", was.name, output.Clean(is[i].value), output.Clean(was.value)))
		}
	}
	if len(other) == 0 {
		return nil
	}
	return fail.Errorf(fail.Refused, "a set-up was begun here with other values; nothing was changed. %s", strings.Join(other, "; ")).
		With("go on with those values; or take it back: holdfast uninstall")
}

// readNote reads what a set-up has noted; nil: none was begun.
func readNote(path string) (*setupNote, error) {
	var n setupNote
	if begun, err := installer.ReadSetup(path, &n); err != nil || !begun {
		return nil, err
	}
	return &n, nil
}
