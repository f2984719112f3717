package cli

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
)

// TestFlagsOfAPlan: what makes no sense is told before an agent is asked.
func TestFlagsOfAPlan(t *testing.T) {
	for flags, want := range map[string]string{
		"--parallel-total 0":              "--parallel-total 0: want 1 or more",
		"--parallel-per-host -1":          "--parallel-per-host -1: want 1 or more",
		"--canary -1":                     "--canary -1: want 0 or more",
		"--failure-budget -1":             "--failure-budget -1: want 0 or more",
		"--window 22:00-22:00":            `--window "22:00-22:00": want two different times`,
		"--window 00:00-00:00":            `--window "00:00-00:00": want two different times`,
		"--window late":                   `--window "late": want a time of the day`,
		"--max-unavailable 0":             `--max-unavailable "0": want a number of hosts`,
		"--migration-network net":         `--migration-network "net": want a CIDR`,
		"--backup db":                     `--backup "db": want NAME=VALUE`,
		"--policy a=stop --policy a=cold": `--policy "a=cold": want NAME=VALUE, each name once`,
	} {
		var out bytes.Buffer
		args := append(strings.Fields("upgrade run --bundle none.hfb --yes --socket /nonexistent"), strings.Fields(flags)...)
		env := command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader("")}
		if code := Main(args, env); code != 2 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit code %d, %s", flags, code, &out)
		}
	}
}

// foreign are the programs of others whose flags our texts name.
var foreign = regexp.MustCompile(`(grubby|iscsiadm|systemctl|qemu-nbd|apt-get|dpkg) [^,;:()]*`)

// TestFlagsInTextsExist looks up every flag that errors, findings, remedies and known
// faults name. Those about upgrades must be flags of upgrade commands.
func TestFlagsInTextsExist(t *testing.T) {
	var has func(c *cobra.Command, flag string) bool
	has = func(c *cobra.Command, flag string) bool {
		return flag == "help" || c.LocalFlags().Lookup(flag) != nil || c.InheritedFlags().Lookup(flag) != nil ||
			slices.ContainsFunc(c.Commands(), func(sub *cobra.Command) bool { return has(sub, flag) })
	}
	all := New(command.Env{})
	upgrades, _, err := all.Find([]string{"upgrade"})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	look := func(path, text string) {
		if !strings.Contains(text, " ") {
			return // an argument of a program
		}
		for _, m := range regexp.MustCompile(`--([a-z][a-z-]*)`).FindAllStringSubmatch(foreign.ReplaceAllString(text, ""), -1) {
			named++
			c := all
			if strings.Contains(path, "/upgrade/") && !strings.HasPrefix(path, "../cli/") {
				c = upgrades
			}
			if !has(c, m[1]) {
				t.Errorf("%s names --%s: %s has no such flag", path, m[1], c.CommandPath())
			}
		}
	}
	for _, part := range []string{"api", "cli", "fleet", "inventory", "server", "upgrade"} {
		err := filepath.WalkDir(filepath.Join("..", part), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || strings.HasSuffix(path, "_test.go") {
				return err
			}
			switch filepath.Ext(path) {
			case ".yaml":
				text, err := os.ReadFile(path)
				look(path, string(text))
				return err
			case ".go":
				file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
				if err != nil {
					return err
				}
				ast.Inspect(file, func(n ast.Node) bool {
					if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
						look(path, l.Value)
					}
					return true
				})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if named < 40 {
		t.Errorf("only %d flags found", named)
	}
}
