package cli

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/inventory/invfile"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition"
	"holdfast/internal/transition/hostconf"
	"holdfast/testbed/try"
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
	if s.code != 0 || !strings.Contains(s.out, "hosts/upgrade on cp1\n     holdfast upgrade run --bundle "+
		"/srv/compute-26.2.hfb --yes --wait --join --key /srv/release.pub --keep-guests") ||
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
		cmd, args, err := New(command.Env{}).Find(step.Run[1:])
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
	filesOfTheDocument(t)
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

// filesOfTheDocument looks whether the readers of the files that the example names take those of the page.
func filesOfTheDocument(t *testing.T) {
	t.Helper()
	page := clitest.Blocks(t, "../../docs/transition.md")
	if len(page["yaml"]) != 5 || len(page["sh"]) != 1 || len(page["ini"]) != 1 || len(page["csv"]) != 1 || len(page["text"]) != 1 {
		t.Fatalf("docs/transition.md has other files than the test knows: %d of YAML", len(page["yaml"]))
	}
	if _, faults := invfile.ParseOverlay([]byte(page["yaml"][1])); len(faults) > 0 {
		t.Errorf("platform.yaml: %s", strictyaml.Lines("", faults))
	}
	if _, faults := hostconf.Parse([]byte(page["yaml"][2])); len(faults) > 0 {
		t.Errorf("config.yaml: %s", strictyaml.Lines("", faults))
	}
	t.Chdir(t.TempDir())
	write(t, "tree/manifest.yaml", page["yaml"][3])
	write(t, "tree/nova/nova-compute.rpm", "")
	if s := commandLine(t, "", "bundle", "build", "tree", "-o", "compute.hfb"); s.code != 0 {
		t.Errorf("the bundle: %d: %s", s.code, s.err)
	}
	write(t, "ids/project.csv", page["csv"][0])
	write(t, "old.cnf", strings.NewReplacer("10.10.0.11", "127.0.0.1", "3306", "1").Replace(page["ini"][0])) // no server is there
	try.Must(t, os.Chmod("old.cnf", 0o600))
	s := commandLine(t, "", "transition", "db", "plan", "--profile", "openstack-liberty-zed", "--ids", "ids",
		"--source", "/?option-file=old.cnf", "--target", "/?option-file=old.cnf")
	if s.code != 4 || !strings.Contains(s.err, "source at 127.0.0.1:1 as old_reader") {
		t.Errorf("IDs and option file: %d: %s", s.code, s.err)
	}
}
