package bundle

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/internal/inventory/manifest"
)

// Modules that are made for a package: engineModule has its files and calls its verbs;
// statusModule asks the installed engine how it stands.
const (
	engineModule = "engine"
	statusModule = "status"
)

// installPath is where env.sh says that the engine is installed.
var installPath = regexp.MustCompile(`(?m)^INSTALL_PATH=["']?(/[A-Za-z0-9_./-]+)["']?\s*$`)

// verbTimeout is the longest that an upgrade or rollback of one node may take: the guide
// says 10 to 30 minutes.
const verbTimeout = manifest.Duration(2 * time.Hour)

// appctl makes the manifest of a package of the appctl layout below root. What its scripts
// do and expect is written down in docs/appctl.md; their order lists are theirs.
func (p *pack) appctl(root string) (*manifest.Manifest, error) {
	texts := map[string]string{}
	for _, name := range []string{"versions.yml", "action/white_list.txt", "action/env.sh"} {
		text, ok := p.texts[root+name]
		if !ok {
			return nil, refuse(root+name, "it is missing, and a package with action/appctl.sh has it")
		}
		texts[name] = string(text)
	}
	about, err := parseVersions(texts["versions.yml"])
	if err != nil {
		return nil, refuse(root+"versions.yml", "%v", err)
	}
	sources, err := parseWhiteList(texts["action/white_list.txt"])
	if err != nil {
		return nil, refuse(root+"action/white_list.txt", "%v", err)
	}
	home := installPath.FindStringSubmatch(texts["action/env.sh"])
	if home == nil {
		return nil, refuse(root+"action/env.sh", "it does not say where the engine is installed: want a line INSTALL_PATH=/DIRECTORY")
	}
	calls := func(verb ...string) *manifest.Action {
		return &manifest.Action{Appctl: &manifest.Appctl{Package: root, Home: home[1], Call: verb}}
	}
	installed := func(verb string) *manifest.Action {
		return &manifest.Action{Idempotent: true, Appctl: &manifest.Appctl{Home: home[1], Call: []string{verb}, Installed: true}}
	}
	engine := manifest.Actions{
		PreCheck: calls("pre_upgrade", "{appctlMode}"), Checkpoint: installed("check_point"), Stop: installed("stop"),
		Install: calls("upgrade", "{appctlMode}", "{array}"), Start: installed("start"),
		Rollback: calls("rollback", "{appctlMode}", "{array}"), Commit: calls("upgrade_commit", "{appctlMode}"),
	}
	engine.PreCheck.Idempotent, engine.Commit.Idempotent = true, true
	engine.Checkpoint.Once, engine.Commit.Once, engine.Stop.Appctl.Offline = true, true, true
	return &manifest.Manifest{
		Name: about.name, Version: about.version, UpgradeFrom: sources, FromRule: manifest.FromAppctl,
		Requires: manifest.Requires{Commands: []string{"tree"}, PythonModules: []string{"requests", "paramiko"}},
		Modules: []manifest.Module{
			{Name: statusModule, RunsOn: manifest.OnEngine(home[1]),
				Actions: manifest.Actions{PreCheck: installed("check_status"), PostCheck: installed("check_status")}},
			{Name: engineModule, RunsOn: manifest.OnEngine(home[1]), Timeout: verbTimeout, CanRollback: true, Files: p.files, Actions: engine},
		},
	}, nil
}

// about is what versions.yml says.
type about struct{ name, version string }

// parseVersions reads versions.yml as its own tools do: by lines, whatever the
// depth. The name is that of the product.
func parseVersions(text string) (about, error) {
	var a about
	var name string
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		switch strings.TrimSpace(key) {
		case "Version":
			if a.version != "" && a.version != value {
				return about{}, fmt.Errorf("it has the versions %q and %q, want one", a.version, value)
			}
			a.version = value
		case "Product":
			a.name = value
		case "Name":
			name = value
		}
	}
	if a.version == "" {
		return about{}, fmt.Errorf("it has no line Version: VERSION")
	}
	a.name = plainName(cmp.Or(a.name, name))
	return a, nil
}

// plainName makes a name of a manifest from a title.
func plainName(title string) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	name := strings.Join(words, "-")
	return cmp.Or(strings.TrimRight(name[:min(len(name), 64)], "-"), "appctl")
}

// parseWhiteList reads the rows of white_list.txt: a version pattern, the modes
// with commas between, and whether system tables change.
func parseWhiteList(text string) ([]manifest.Source, error) {
	var out []manifest.Source
	number, head := 0, false
	for line := range strings.Lines(text) {
		number++
		row := strings.Fields(line)
		switch {
		case len(row) == 0:
			continue
		case !head:
			if !slices.Equal(row, []string{"SOURCE-VERSION", "UPGRADE-MODE", "CHANGE_SYSTEM"}) {
				return nil, fmt.Errorf("line %d: %q: want the head SOURCE-VERSION UPGRADE-MODE CHANGE_SYSTEM", number, strings.TrimSpace(line))
			}
			head = true
			continue
		case len(row) != 3:
			return nil, fmt.Errorf("line %d: %q: want three columns", number, strings.TrimSpace(line))
		}
		s := manifest.Source{Version: row[0]}
		for word := range strings.SplitSeq(row[1], ",") {
			mode, ok := map[string]manifest.Mode{"offline": manifest.Offline, "rollup": manifest.Rolling}[word]
			if !ok {
				return nil, fmt.Errorf("line %d: mode %q: want offline, rollup or both with a comma between", number, word)
			}
			s.Modes = append(s.Modes, mode)
		}
		switch row[2] {
		case "true":
			s.ChangeSystemTables = true
		case "false":
		default:
			return nil, fmt.Errorf("line %d: CHANGE_SYSTEM %q: want true or false", number, row[2])
		}
		out = manifest.SetSource(out, s)
	}
	return out, nil
}
