package cli

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"holdfast/testbed/need"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/mapping"
)

// TestMappingPage carries the example of docs/mapping.md out with the commands there.
func TestMappingPage(t *testing.T) {
	rig := aligntest.MariaDB(t)
	page := clitest.Blocks(t, "../../docs/mapping.md")
	if len(page["yaml"]) != 2 || len(page["sql"]) != 2 || len(page["csv"]) != 1 || len(page["sh"]) != 1 {
		t.Fatalf("docs/mapping.md has %d, %d, %d and %d blocks: want a mapping and a file of IDs, two schemas, IDs "+
			"and commands", len(page["yaml"]), len(page["sql"]), len(page["csv"]), len(page["sh"]))
	}
	for _, sql := range page["sql"] {
		rig.SQL(sql)
	}
	t.Chdir(t.TempDir())
	write(t, "example.yaml", page["yaml"][0])
	write(t, "ids/project.csv", page["csv"][0])
	for command := range strings.Lines(page["sh"][0]) {
		words := strings.Fields(strings.NewReplacer("$SOURCE", rig.DSN(), "$TARGET", rig.DSN()).Replace(command))
		got := commandLine(t, "", words[1:]...)
		if got.code != 0 {
			t.Fatalf("%s ended with %d:\n%s%s", command, got.code, got.out, got.err)
		}
	}
	want := strings.Join([]string{
		"1\tsmall\t512\t1\tNULL", "2\tlarge\t4096\t0\tNULL",
		"10\tweb\t6f70656e2d736f757263652d73686f70\t1", "11\tit's a \"db\"\ta2d9c1d1c8f14f0a8d1f0d3a1e9b7c55\t2",
		"10\tBOOLEAN\ttrue\tnull", "11\tBOOLEAN\tfalse\t\"{\\\"cells\\\": []}\"",
	}, "\n")
	got := rig.SQL("SELECT id, name, memory_mb, is_public, description FROM nova_api.flavors ORDER BY id; SELECT id, " +
		"display_name, project_id, flavor_id FROM nova.instances ORDER BY id; " +
		"SELECT id, JSON_TYPE(JSON_EXTRACT(spec, '$.is_bfv')), JSON_EXTRACT(spec, '$.is_bfv'), JSON_EXTRACT(spec, " +
		"'$.numa') FROM nova_api.request_specs ORDER BY id")
	if got != want {
		t.Errorf("the target has\n%s\nwant\n%s", got, want)
	}

	// The other form of a file of IDs.
	if err := os.Remove("ids/project.csv"); err != nil {
		t.Fatal(err)
	}
	write(t, "ids/project.yaml", page["yaml"][1])
	words := strings.Fields(strings.NewReplacer("$SOURCE", rig.DSN(), "$TARGET", rig.DSN(), " run ", " plan ").Replace(page["sh"][0]))
	got2 := commandLine(t, "", words[1:12]...)
	if strings.Contains(got2.out+got2.err, "project.yaml:") || strings.Contains(got2.out, "no line among the IDs") {
		t.Errorf("plan with project.yaml: %s%s", got2.out, got2.err)
	}
}

// TestMappingPageNamesAllFields holds the tables of docs/mapping.md against the fields
// that there are.
func TestMappingPageNamesAllFields(t *testing.T) {
	text, err := os.ReadFile("../../docs/mapping.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{mapping.Mapping{}, mapping.Kind{}, mapping.Check{}, mapping.Table{}, mapping.Join{}, mapping.Column{}} {
		for typ, i := reflect.TypeOf(v), 0; i < typ.NumField(); i++ {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name != "" && !strings.Contains(string(text), "`"+name+"`") && !strings.Contains(string(text), "`"+name+": ") {
				t.Errorf("docs/mapping.md does not name %s of %s", name, typ.Name())
			}
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestTransitionPages looks up the commands and flags that pages of docs name.
func TestTransitionPages(t *testing.T) {
	for group, page := range map[string]struct {
		commands int
		of       string // all flags of this one are named
	}{"db": {6, "run"}, "net": {4, "apply"}} {
		name := "docs/transition-" + group + ".md"
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		lines := regexp.MustCompile("(?m)holdfast transition "+group+" [^`\n]*").FindAllString(string(text), -1)
		if len(lines) < page.commands {
			t.Fatalf("%s has %d commands, want at least %d", name, len(lines), page.commands)
		}
		for _, line := range lines {
			line = strings.TrimSuffix(line, " ...")
			cmd, rest, err := New(command.Env{}).Find(strings.Fields(line)[1:])
			switch {
			case err != nil:
			case cmd.Name() == group && len(rest) > 0:
				err = errors.New("there is no such command")
			default:
				err = cmd.ParseFlags(rest)
			}
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		run, _, err := New(command.Env{}).Find([]string{"transition", group, page.of})
		if err != nil {
			t.Fatal(err)
		}
		for _, flag := range regexp.MustCompile("--[a-z-]+").FindAllString(run.LocalNonPersistentFlags().FlagUsages(), -1) {
			if !strings.Contains(string(text), flag) && flag != "--help" {
				t.Errorf("%s does not name %s", name, flag)
			}
		}
	}
}

// TestAccountsOfThePage: with the rights that docs/transition-db.md gives its accounts, and
// no other, a built-in mapping is planned and run.
func TestAccountsOfThePage(t *testing.T) {
	need.Drill(t, "P5: the rights that the page gives its accounts suffice, and no other is needed")
	rig := aligntest.MariaDB(t, logged...)
	page := clitest.Blocks(t, "../../docs/transition-db.md")["sql"]
	if len(page) != 2 {
		t.Fatalf("docs/transition-db.md has %d blocks of SQL: want those of two accounts", len(page))
	}
	rig.Load("liberty-schema.sql", "liberty_", "liberty_")
	rig.Load("zed-schema.sql", "zed_", "")
	rig.SQL(strings.Join(page, "") + "INSERT INTO nova_api.cell_mappings (id, uuid, name) VALUES (7, " +
		"'11111111-0000-4000-8000-000000000000', 'cell1')")
	as := func(account string) string {
		return strings.Replace(rig.DSN(), aligntest.User+":"+aligntest.Password, account, 1)
	}
	args := []string{"--profile", "openstack-liberty-zed", "--source", as("old_reader:one"), "--target",
		as("new_writer:two"), "--source-db", "nova=liberty_nova,glance=liberty_glance,cinder=liberty_cinder,neutron=liberty_neutron"}
	for _, command := range []string{"plan", "run", "verify"} {
		s := commandLine(t, "", db(command, args)...)
		if s.code != 0 || strings.Contains(s.out, "run --follow is not possible") {
			t.Fatalf("%s ended with %d: %s%s", command, s.code, s.out, s.err)
		}
	}
}
