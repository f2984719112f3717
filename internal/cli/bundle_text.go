package cli

import (
	"fmt"
	"strings"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/bundle"
)

// bundleText writes a bundle for people.
func bundleText(rep *bundle.Report, p painter) string {
	m := rep.Manifest
	var b strings.Builder
	say(&b, p, "bundle", bold, fmt.Sprintf("%s %s, layout %s", clean(m.Name), clean(m.Version), rep.Layout))
	if rep.Signed {
		say(&b, p, "signature", green, "by key "+rep.KeyID+": "+clean(rep.Comment))
	} else {
		say(&b, p, "signature", yellow, "none was checked")
	}
	say(&b, p, "files", plain, fmt.Sprintf("%d, %s unpacked; needs %d GiB free", rep.Files, mib(rep.Bytes), m.MinSpace()>>30))
	if m.RequiresReboot {
		say(&b, p, "reboot", plain, "every host; kernel afterwards: "+or(m.Kernel, "any"))
	}
	if n := m.Requires; len(n.Commands)+len(n.PythonModules) > 0 {
		say(&b, p, "needs", plain, fmt.Sprintf("commands: %s; python modules: %s",
			or(strings.Join(n.Commands, ", "), "none"), or(strings.Join(n.PythonModules, ", "), "none")))
	}
	for i, s := range m.UpgradeFrom {
		label := ""
		if i == 0 {
			label = "from"
		}
		say(&b, p, label, plain, sourceText(s))
	}
	if len(m.Mixed) > 0 {
		say(&b, p, "mixed", plain, "may run beside: "+clean(strings.Join(m.Mixed, ", ")))
	}
	b.WriteByte('\n')
	var rows [][]cell
	for _, mod := range m.InPhase(manifest.Install) {
		rows = append(rows, moduleRow(mod))
	}
	table(&b, p, []column{{head: "MODULE", cut: 3, least: 10}, {head: "RUNS ON", cut: 4, least: 8},
		{head: "AFTER", cut: 2, least: 6}, {head: "FILES"}, {head: "ACTIONS", cut: 1, least: 10}}, rows)
	return b.String()
}

func sourceText(s manifest.Source) string {
	var modes []string
	for _, mode := range s.Modes {
		modes = append(modes, string(mode))
	}
	text := clean(s.Version) + ": " + strings.Join(modes, ", ")
	if s.ChangeSystemTables {
		text += "; changes system tables"
	}
	return text
}

func moduleRow(m *manifest.Module) []cell {
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
	return []cell{
		{clean(m.Name), plain}, {or(m.RunsOn, "all"), plain}, {or(strings.Join(m.After, ", "), "-"), plain},
		{fmt.Sprint(len(m.Files)), plain}, {or(strings.Join(actions, ", "), none), plain},
	}
}
