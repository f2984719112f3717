package upgrade

import (
	"fmt"
	"strings"

	"holdfast/internal/api/told"
	"holdfast/internal/cli/output"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/bundle"
)

// bundleText writes a bundle for people.
func bundleText(rep *bundle.Report, p output.Painter) string {
	m := rep.Manifest
	var b strings.Builder
	output.Say(&b, p, "bundle", output.Bold,
		fmt.Sprintf("%s %s, layout %s", output.Clean(m.Name), output.Clean(m.Version), rep.Layout))
	if rep.Signed {
		output.Say(&b, p, "signature", output.Green, "by key "+rep.KeyID+": "+output.Clean(rep.Comment))
	} else {
		output.Say(&b, p, "signature", output.Yellow, "none was checked")
	}
	output.Say(&b, p, "files", output.Plain,
		fmt.Sprintf("%d, %s unpacked; needs %d GiB free", rep.Files, told.Bytes(rep.Bytes), m.MinSpace()>>30))
	if m.RequiresReboot {
		output.Say(&b, p, "reboot", output.Plain, "every host; kernel afterwards: "+output.Or(m.Kernel, "any"))
	}
	if n := m.Requires; len(n.Commands)+len(n.PythonModules) > 0 {
		output.Say(&b, p, "needs", output.Plain, fmt.Sprintf("commands: %s; python modules: %s",
			output.Or(strings.Join(n.Commands, ", "), "none"), output.Or(strings.Join(n.PythonModules, ", "), "none")))
	}
	for i, s := range m.UpgradeFrom {
		label := ""
		if i == 0 {
			label = "from"
		}
		output.Say(&b, p, label, output.Plain, told.SourceText(s))
	}
	if len(m.Mixed) > 0 {
		output.Say(&b, p, "mixed", output.Plain, "may run beside: "+output.Clean(strings.Join(m.Mixed, ", ")))
	}
	b.WriteByte('\n')
	var rows [][]output.Cell
	for _, mod := range m.InPhase(manifest.Install) {
		rows = append(rows, moduleRow(mod))
	}
	output.Table(&b, p, []output.Column{{Head: "MODULE", Cut: 3, Least: 10}, {Head: "RUNS ON", Cut: 4, Least: 8},
		{Head: "AFTER", Cut: 2, Least: 6}, {Head: "FILES"}, {Head: "ACTIONS", Cut: 1, Least: 10}}, rows)
	return b.String()
}

func moduleRow(m *manifest.Module) []output.Cell {
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
	return []output.Cell{
		{Text: output.Clean(m.Name)}, {Text: output.Or(m.RunsOn, "all")}, {Text: output.Or(strings.Join(m.After, ", "), "-")},
		{Text: fmt.Sprint(len(m.Files))}, {Text: output.Or(strings.Join(actions, ", "), none)},
	}
}
