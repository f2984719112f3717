package setup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
)

// Note is in install.SetupFile: a set-up that was begun. Run again with the same values it goes on.
type Note struct {
	Begun time.Time `json:"begun"`
	Values
	Config config.Cluster `json:"config"`
}

// Values are all that a set-up goes by, by its flags. What a file says is its content as it was read, in JSON.
type Values struct {
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
func (v Values) flags() (out []flag) {
	number := func(n int) string { return strconv.Itoa(n) }
	return []flag{
		{"--vip", v.VIP, false}, {"--peer", v.Peer, false}, {"--arbiter", strings.Join(v.Arbiters, " "), false}, {"--device", v.Device, false},
		{"--second-path", v.Second, false}, {"--hosts", number(v.Hosts), false}, {"--vms", number(v.VMs), false},
		{"--db-size", number(v.Database), false}, {"--version-file", v.VersionFile, false}, {"--unmanaged-probe", v.Unmanaged, false},
		{"--service, --group", v.Group, true}, {"--fencing", v.Fencing, true}, {"--settings", v.Settings, true},
		{"--no-firewall", strconv.FormatBool(v.NoFirewall), false},
	}
}

type flag struct {
	name, value string
	file        bool
}

// Same refuses a set-up with other values than those of one that was begun.
func (n Note) Same(v Values) error {
	var other []string
	is := v.flags()
	for i, was := range n.flags() {
		switch {
		case was.value == is[i].value:
		case was.file:
			other = append(other, was.name+": the file had other contents")
		default:
			other = append(other,
				fmt.Sprintf("%s: value %q: it was %q", was.name, text.Clean(is[i].value), text.Clean(was.value)))
		}
	}
	if len(other) == 0 {
		return nil
	}
	return fail.Errorf(fail.Refused, "a set-up was begun here with other values; nothing was changed. %s", strings.Join(other, "; ")).
		With("go on with those values; or take it back: holdfast uninstall")
}

// ReadNote reads what a set-up has noted; nil: none was begun.
func ReadNote(path string) (*Note, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var n Note
	if err == nil {
		err = json.Unmarshal(raw, &n)
	}
	if err != nil {
		return nil, fmt.Errorf("read the set-up that was begun: %w", err)
	}
	return &n, nil
}

// Begin notes what will be done, after which it is done, in install.SetupFile.
func Begin(v Values, cl config.Cluster) (*Note, error) {
	n := &Note{Begun: time.Now().UTC(), Values: v, Config: cl}
	raw, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return nil, err
	}
	return n, durable.WriteFile(install.SetupFile, append(raw, '\n'), 0o600)
}
