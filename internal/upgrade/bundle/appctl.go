package bundle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/upgrade/manifest"
)

// wholePackage is the module that an appctl package gets besides its own: it
// owns the files that no module has, and the verbs of action/appctl.sh itself.
const wholePackage = "appctl"

// appctl makes the manifest of a package of the appctl layout below root.
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
	env, err := parseEnv(texts["action/env.sh"])
	if err != nil {
		return nil, refuse(root+"action/env.sh", "%v", err)
	}
	m := &manifest.Manifest{Name: about.name, Version: about.version, UpgradeFrom: sources, FromRule: manifest.FromAppctl}
	if err := p.appctlModules(m, root, env); err != nil {
		return nil, err
	}
	return m, nil
}

// appctlModules adds the modules of a package, and the order of each phase.
func (p *pack) appctlModules(m *manifest.Manifest, root string, env env) error {
	names := env.modules()
	action := root + "action/"
	files := map[string][]manifest.File{}
	for _, n := range names {
		program := action + n + "/appctl.sh"
		if !p.has(program) || n == wholePackage {
			return refuse(action+"env.sh", "it names the module %q, want one with the file %s", n, shown(program))
		}
		p.executable(program)
	}
	p.executable(action + "appctl.sh")
	for _, f := range p.files {
		module, _, below := strings.Cut(strings.TrimPrefix(f.Path, action), "/")
		if !below || !strings.HasPrefix(f.Path, action) || !slices.Contains(names, module) {
			module = wholePackage
		}
		files[module] = append(files[module], f)
	}
	for _, n := range names {
		mod := manifest.Module{Name: n, Files: files[n], Actions: env.actions(n, action+n+"/appctl.sh")}
		mod.CanRollback = mod.Actions.Rollback != nil
		m.Modules = append(m.Modules, mod)
	}
	m.Modules = append(m.Modules, p.wholePackage(root, env, files[wholePackage]))
	order := func(list string) []string {
		out := slices.Clone(env.lists[list])
		for _, mod := range m.Modules {
			if len(out) > 0 && !slices.Contains(out, mod.Name) {
				out = append(out, mod.Name)
			}
		}
		return out
	}
	m.Order = manifest.Order{
		PreCheck: order("PRE_UPGRADE_ORDER"), Stop: order("STOP_ORDER"), Start: order("START_ORDER"),
		PostCheck: order("POST_UPGRADE_ORDER"), Rollback: order("ROLLBACK_ORDER"),
	}
	return nil
}

// wholePackage makes the module of action/appctl.sh. Its verbs for a phase of
// the modules are not called: Holdfast calls the modules.
func (p *pack) wholePackage(root string, env env, files []manifest.File) manifest.Module {
	program := root + "action/appctl.sh"
	mod := manifest.Module{
		Name: wholePackage, Files: files,
		Actions: manifest.Actions{
			PostCheck: &manifest.Action{Run: []string{program, "check_status"}, Idempotent: true},
			Commit:    &manifest.Action{Run: []string{program, "upgrade_commit", "{appctlMode}"}, Idempotent: true, Once: true},
		},
	}
	if params := root + "action/config_params.json"; p.has(params) && env.installPath != "" {
		mod.Config = []manifest.ConfigFile{{File: params, Installed: env.installPath + "/config/deploy_param.json"}}
	}
	return mod
}

// actions returns what appctl.sh of a module is called with in each phase whose
// list has the module. A list that is not there is that of the upgrade. A backup
// refuses a directory that has one already, so neither it nor what stands on it
// is called idempotent.
func (e env) actions(module, program string) manifest.Actions {
	verb := func(list string, idempotent bool, args ...string) *manifest.Action {
		names, ok := e.lists[list]
		if !ok {
			names = e.lists[upgradeOrder]
		}
		if !slices.Contains(names, module) {
			return nil
		}
		return &manifest.Action{Run: append([]string{program}, args...), Idempotent: idempotent}
	}
	return manifest.Actions{
		PreCheck:  verb("PRE_UPGRADE_ORDER", true, "pre_upgrade"),
		Stop:      verb("STOP_ORDER", true, "stop"),
		Backup:    verb(upgradeOrder, false, "upgrade_backup", "{backup}"),
		Install:   verb(upgradeOrder, false, "upgrade", "{appctlMode}", "{backup}"),
		Start:     verb("START_ORDER", true, "start"),
		PostCheck: verb("POST_UPGRADE_ORDER", true, "post_upgrade"),
		Rollback:  verb("ROLLBACK_ORDER", false, "rollback", "{appctlMode}", "{backup}"),
	}
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
