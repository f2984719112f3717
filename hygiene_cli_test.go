package holdfast_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// sharedByCommands are the packages of the command line that all tools use, from the ground up.
var sharedByCommands = []string{"output", "command", "progress"}

// ofOtherTools are the tools of the command line that use commands of other tools, and of which.
var ofOtherTools = map[string][]string{
	"doctor": {"ha", "installer"}, // it shows what they show
	"pair":   {"installer"},       // a set-up is an installation
	"zsha":   {"configure", "ha", "installer", "pair"},
}

func TestToolsOfTheCommandLineAreBesideOneAnother(t *testing.T) {
	const room = "holdfast/internal/cli/"
	used := map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(packages(t))) {
		tool, inside := strings.CutPrefix(p, room)
		if !inside || tool == "clitest" {
			continue
		}
		at := slices.Index(sharedByCommands, tool)
		for _, path := range packages(t)[p].Imports {
			other, inside := strings.CutPrefix(path, room)
			shared := slices.Index(sharedByCommands, other)
			switch {
			case !inside, shared >= 0 && (at < 0 || shared < at):
			case slices.Contains(ofOtherTools[tool], other):
				used[tool+" "+other] = true
			default:
				t.Errorf("%s imports %s", p, path)
			}
		}
	}
	for tool, others := range ofOtherTools {
		for _, other := range others {
			if !used[tool+" "+other] {
				t.Errorf("%s uses nothing of %s any more: take it from the list", tool, other)
			}
		}
	}
}
