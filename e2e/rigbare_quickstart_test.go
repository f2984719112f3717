package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/config"
)

// quickStart are the commands by which the README puts Holdfast on hosts of one's own. Both
// languages have the same.
func quickStart(t *testing.T) (commands []string) {
	t.Helper()
	for _, name := range []string{"../README.md", "../README.zh-CN.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		const first = "holdfast config sample FileConf -o "
		_, after, begins := strings.Cut(string(text), "\n"+first)
		block, _, ends := strings.Cut(first+after, "\n```")
		var here []string
		for l := range strings.Lines(block) {
			l, _, _ = strings.Cut(l, "#")
			here = append(here, strings.TrimSpace(l))
		}
		if !begins || !ends || len(here) != 5 || commands != nil && !slices.Equal(here, commands) {
			t.Fatalf("%s: the quick start has the lines %q, want five, in both languages the same: %q", name, here, commands)
		}
		commands = here
	}
	return commands
}

// quickly runs the quick start on a host, as it stands in the README: what is added is the
// laboratory's own, such as its keys, and that its guest is small. It returns what the
// commands said, in their order.
func (b *bareRig) quickly(t *testing.T, h string, cl config.Cluster, flags []string) (said []string) {
	t.Helper()
	b.sh(t, h, "mkdir /srv/host/quick")
	file := b.lab.HostPath(h, "quick/cluster.json")
	for i, l := range quickStart(t) {
		switch {
		case strings.HasPrefix(l, "holdfast install "):
			l += " " + strings.Join(flags, " ")
		case strings.HasPrefix(l, "holdfast config check "):
			l += " --allow-undersized"
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cmd, err := b.lab.Command(ctx, h, "/bin/sh", "-c", "cd /srv/host/quick && PATH="+filepath.Dir(b.lab.Exe())+":$PATH && "+l)
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%s: %v\n%s", l, err, out)
		}
		said = append(said, string(out))
		if i > 0 {
			continue
		}
		sample, err := os.ReadFile(file) // "then edit it"
		if err != nil || !strings.Contains(string(sample), `"ImageFolder"`) {
			t.Fatalf("%s: %v: %s", l, err, sample)
		}
		text, err := json.Marshal(cl) // as the other files of the rig
		if err == nil {
			err = os.WriteFile(file, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b.sh(t, h, "rm -r /srv/host/quick")
	return said
}
