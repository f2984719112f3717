package cli

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/testbed/try"
	"holdfast/internal/transition"
)

// TestTheFileOfTheDocumentIsPlanned: the example of docs/transition.md is a file; each step of Holdfast is a command with
// flags that it takes; and what must be there before names each path and guest of it.
func TestTheFileOfTheDocumentIsPlanned(t *testing.T) {
	doc, err := os.ReadFile("../../docs/transition.md")
	try.Must(t, err)
	before, rest, _ := strings.Cut(string(doc), "```yaml\n")
	file, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/transition.md has no file")
	}
	s := commandLine(t, file, "transition", "plan", "-")
	if s.code != 0 || !strings.Contains(s.out, "hosts/upgrade on cp1\n     holdfast upgrade run --bundle /srv/compute-26.2.hfb --yes --wait --join --key /srv/release.pub --keep-guests") ||
		!strings.Contains(s.out, "asks before: look whether the new platform does what it should; then endpoints") {
		t.Errorf("%d: %s%s", s.code, s.out, s.err)
	}
	var p transition.Plan
	try.Must(t, json.Unmarshal([]byte(commandLine(t, file, "transition", "plan", "-", "-o", "json").out), &p))
	ours := 0
	for _, step := range p.Steps {
		if step.Run[0] != transition.Self {
			continue
		}
		ours++
		cmd, args, err := New(Env{}).Find(step.Run[1:])
		if err == nil {
			if err = cmd.ParseFlags(args); err == nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
		}
		if err != nil || !cmd.Runnable() {
			t.Errorf("%s: %s: %v", step.ID, transition.Line(step.Run), err)
		}
	}
	if ours < 25 {
		t.Errorf("%d steps of Holdfast", ours)
	}
	_, needs, _ := strings.Cut(before, "\n## What must be there before\n")
	named := regexp.MustCompile(`(?m)(?:[ =\[]|^)(/[a-z][A-Za-z0-9./_-]*|http://[0-9.:]+|canary[0-9]|net1)`)
	for _, m := range named.FindAllStringSubmatch(file, -1) {
		path := m[1]
		if strings.HasPrefix(path, "/var/lib/holdfast/") {
			path = "/var/lib/holdfast"
		}
		if !strings.Contains(needs, "`"+path+"`") {
			t.Errorf("what must be there before does not name %s", path)
		}
	}
	for _, step := range regexp.MustCompile("`([a-z]+/[a-z0-9-]+)`").FindAllStringSubmatch(needs, -1) {
		if !strings.Contains(s.out, " "+step[1]+" on ") && !strings.Contains(step[1], "packaging/") {
			t.Errorf("the page names a step %s that is not in the plan", step[1])
		}
	}
}
