package cli

import (
	"fmt"
	"strings"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/bundle"
)

// bundleText writes a bundle for people.
func bundleText(rep *bundle.Report, p Painter) string {
	m := rep.Manifest
	var b strings.Builder
	Say(&b, p, "bundle", Bold, fmt.Sprintf("%s %s, layout %s", Clean(m.Name), Clean(m.Version), rep.Layout))
	if rep.Signed {
		Say(&b, p, "signature", Green, "by key "+rep.KeyID+": "+Clean(rep.Comment))
	} else {
		Say(&b, p, "signature", Yellow, "none was checked")
	}
	Say(&b, p, "files", Plain, fmt.Sprintf("%d, %s unpacked; needs %d GiB free", rep.Files, MiB(rep.Bytes), m.MinSpace()>>30))
	if m.RequiresReboot {
		Say(&b, p, "reboot", Plain, "every host; kernel afterwards: "+Or(m.Kernel, "any"))
	}
	if n := m.Requires; len(n.Commands)+len(n.PythonModules) > 0 {
		Say(&b, p, "needs", Plain, fmt.Sprintf("commands: %s; python modules: %s",
			Or(strings.Join(n.Commands, ", "), "none"), Or(strings.Join(n.PythonModules, ", "), "none")))
	}
	for i, s := range m.UpgradeFrom {
		label := ""
		if i == 0 {
			label = "from"
		}
		Say(&b, p, label, Plain, sourceText(s))
	}
	if len(m.Mixed) > 0 {
		Say(&b, p, "mixed", Plain, "may run beside: "+Clean(strings.Join(m.Mixed, ", ")))
	}
	b.WriteByte('\n')
	var rows [][]Cell
	for _, mod := range m.InPhase(manifest.Install) {
		rows = append(rows, moduleRow(mod))
	}
	Table(&b, p, []Column{{Head: "MODULE", Cut: 3, Least: 10}, {Head: "RUNS ON", Cut: 4, Least: 8},
		{Head: "AFTER", Cut: 2, Least: 6}, {Head: "FILES"}, {Head: "ACTIONS", Cut: 1, Least: 10}}, rows)
	return b.String()
}

func sourceText(s manifest.Source) string {
	var modes []string
	for _, mode := range s.Modes {
		modes = append(modes, string(mode))
	}
	text := Clean(s.Version) + ": " + strings.Join(modes, ", ")
	if s.ChangeSystemTables {
		text += "; changes system tables"
	}
	return text
}

func moduleRow(m *manifest.Module) []Cell {
	var actions []string
	for _, phase := range manifest.Phases() {
		if a := m.Actions.Get(phase); a != nil && !a.None {
			actions = append(actions, string(phase))
		}
	}
	none := "none"
	if m.FilesOnly() {
		none = "files only"
	}
	return []Cell{
		{Text: Clean(m.Name)}, {Text: Or(m.RunsOn, "all")}, {Text: Or(strings.Join(m.After, ", "), "-")},
		{Text: fmt.Sprint(len(m.Files))}, {Text: Or(strings.Join(actions, ", "), none)},
	}
}
