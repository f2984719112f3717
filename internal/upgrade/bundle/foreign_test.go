package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/inventory/manifest"
	"holdfast/testbed/try"
)

const (
	envText = `#!/bin/bash
set +x
CURRENT_FILE_PATH=$(dirname $(readlink -f $0))
INSTALL_PATH=/opt/engine
NFS_PORT=36729
UPGRADE_ORDER=("om" $(ls) "engine")  # the scripts' own business`
	whiteText = `SOURCE-VERSION    UPGRADE-MODE     CHANGE_SYSTEM
2.0.0.*           offline          true

3.0.0.B010-B038   offline,rollup   false
`
	versionsText = "Name:  Storage software\nSYS:\n  Name: Engine for DB\n  Version: 3.0.0.B039\n  Product: Engine " +
		"for DB\nChangeVersionTime: 2023/11/16 09:41\n"
)

// appctlFiles is a package of the appctl layout.
func appctlFiles(root string) map[string]string {
	files := map[string]string{
		"versions.yml": versionsText, "action/white_list.txt": whiteText, "action/env.sh": envText,
		"action/appctl.sh": "#!/bin/bash\n", "action/config_params.json": "{}", "repo/engine.rpm": "rpm",
	}
	for _, m := range []string{"cms", "dss", "engine", "om"} {
		files["action/"+m+"/appctl.sh"] = "#!/bin/bash\necho " + m + " $1\n"
	}
	out := map[string]string{}
	for name, text := range files {
		out[root+name] = text
	}
	return out
}

// plainTar writes files as tar does, with directories.
func plainTar(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var entries []entry
	dirs := map[string]bool{}
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if dir := filepath.Dir(n) + "/"; !dirs[dir] {
			dirs[dir] = true
			entries = append(entries, entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}})
		}
		f := file(n, files[n])
		f.Uid, f.Uname, f.Format = 1000, "builder", tar.FormatGNU
		entries = append(entries, f)
	}
	return append(archive(t, entries...), make([]byte, 8192)...) // as tar pads its last record
}

func TestAppctl(t *testing.T) {
	const root = "engine_connector/"
	data := packed(t, plainTar(t, appctlFiles(root)), Gzip)
	rep, err := Verify(context.Background(), bytes.NewReader(data), Options{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	m := rep.Manifest
	if rep.Layout != Appctl || rep.Signed || rep.Files != 10 || m.Name != "engine-for-db" || m.Version != "3.0.0.B039" {
		t.Errorf("%+v %+v", rep, m)
	}
	sources := []manifest.Source{
		{Version: "2.0.0.*", Modes: []manifest.Mode{manifest.Offline}, ChangeSystemTables: true},
		{Version: "3.0.0.B010-B038", Modes: []manifest.Mode{manifest.Offline, manifest.Rolling}},
	}
	if !reflect.DeepEqual(m.UpgradeFrom, sources) {
		t.Errorf("upgradeFrom %+v", m.UpgradeFrom)
	}
	status, engine := m.Module(statusModule), m.Module(engineModule)
	for phase, want := range map[manifest.Phase]string{
		manifest.PreCheck: "P pre_upgrade {appctlMode}", manifest.Checkpoint: "I check_point", manifest.Stop: "I stop",
		manifest.Install: "P upgrade {appctlMode} {array}",
		manifest.Start:   "I start", manifest.Rollback: "P rollback {appctlMode} {array}", manifest.Commit: "P upgrade_commit {appctlMode}",
	} {
		a := engine.Actions.Get(phase).Appctl
		got := map[bool]string{true: "I ", false: "P "}[a.Installed] + strings.Join(a.Call, " ")
		if got != want || a.Home != "/opt/engine" || !a.Installed && a.Package != root || a.Offline != (phase == manifest.Stop) {
			t.Errorf("%s: %+v, want %s", phase, a, want)
		}
	}
	if a := engine.Actions; !a.Commit.Once || !a.Checkpoint.Once || a.Install.Idempotent || a.Rollback.Idempotent ||
		a.Backup != nil || a.PostCheck != nil {
		t.Errorf("engine %+v", a)
	}
	for _, phase := range []manifest.Phase{manifest.PreCheck, manifest.PostCheck} {
		if a := status.Actions.Get(phase).Appctl; !a.Installed || !slices.Equal(a.Call, []string{"check_status"}) {
			t.Errorf("%s: %+v", phase, a)
		}
	}
	if m.Engine() != "/opt/engine" || !slices.Equal(m.Requires.Commands, []string{"tree"}) ||
		!slices.Equal(m.Requires.PythonModules, []string{"requests", "paramiko"}) || m.MinSpace() != 5<<30 {
		t.Errorf("%+v", m)
	}
}

func TestAppctlUnpacksAndReadsBack(t *testing.T) {
	data := packed(t, plainTar(t, appctlFiles("./")), Gzip)
	dir := filepath.Join(t.TempDir(), "new")
	rep, err := Unpack(context.Background(), bytes.NewReader(data), dir, Options{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	m, faults := decode([]byte(readFile(t, dir, manifest.FileManifest)))
	if len(faults) > 0 || !reflect.DeepEqual(m, rep.Manifest) {
		t.Errorf("the manifest reads back as %+v, %v", m, faults)
	}
	for name, want := range map[string]os.FileMode{"action/cms/appctl.sh": 0o644, "versions.yml": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		try.Must(t, err)
		if info.Mode() != want {
			t.Errorf("%s: %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestCAS(t *testing.T) {
	for _, c := range []struct{ root, version string }{{"upgrade.e0303/", "E0303"}, {"", "unknown"}} {
		data := plainTar(t, map[string]string{c.root + "upgrade.sh": "#!/bin/sh\n", c.root + "pkg/x.deb": "deb"})
		rep, err := Verify(context.Background(), bytes.NewReader(data), Options{AllowUnsigned: true})
		if err != nil {
			t.Fatal(err)
		}
		m := rep.Manifest
		if rep.Layout != CAS || len(m.Modules) != 1 || m.Modules[0].Actions.Install.Run[0] != c.root+"upgrade.sh" ||
			m.Version != c.version || rep.Files != 2 ||
			m.AllHosts() != &m.Modules[0] || m.DefaultMode() != manifest.Reboot {
			t.Errorf("%+v", m)
		}
	}
}

func TestWholeFileSignature(t *testing.T) {
	secret, public := testKey(t)
	_, other := testKey(t)
	data := packed(t, plainTar(t, appctlFiles("")), Gzip)
	sig, err := SignWhole(context.Background(), bytes.NewReader(data), secret)
	try.Must(t, err)
	rep, err := verify(data, Options{Keys: []PublicKey{public}, Signature: sig})
	if err != nil || !rep.Signed || rep.KeyID != keyID(public.ID()) {
		t.Fatalf("%+v, %v", rep, err)
	}
	recompressed := packed(t, plainTar(t, appctlFiles("")), Zstd)
	for name, c := range map[string]struct {
		data []byte
		o    Options
		want string
	}{
		"unsigned":    {data, Options{Keys: []PublicKey{public}}, "it is not signed: its first member is"},
		"no key":      {data, Options{Signature: sig}, "no public key is given"},
		"other key":   {data, Options{Signature: sig, Keys: []PublicKey{other}}, "none of those given"},
		"other bytes": {recompressed, Options{Signature: sig, Keys: []PublicKey{public}}, "the signature is wrong"},
		"no form":     {data, Options{Signature: []byte("x"), Keys: []PublicKey{public}, AllowUnsigned: true}, "the signature can not be read"},
	} {
		_, err := verify(c.data, c.o)
		if got := refusal(t, err).Error(); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		dir := filepath.Join(t.TempDir(), "new")
		_, err = Unpack(context.Background(), bytes.NewReader(c.data), dir, c.o)
		refusal(t, err)
		if left := ls(t, filepath.Dir(dir)); len(left) > 0 {
			t.Errorf("%s: left behind: %q", name, left)
		}
	}
	_, err = Sign(context.Background(), bytes.NewReader(data), &bytes.Buffer{}, secret, None)
	if err == nil || !strings.Contains(err.Error(), ErrForeign.Error()) {
		t.Errorf("signing inside: %v", err)
	}
}

func TestForeignRefusals(t *testing.T) {
	with := func(name, text string) []byte {
		files := appctlFiles("")
		files[name] = text
		return plainTar(t, files)
	}
	without := func(name string) []byte {
		files := appctlFiles("")
		delete(files, name)
		return plainTar(t, files)
	}
	env := func(old, new string) []byte {
		if !strings.Contains(envText, old) {
			t.Fatalf("env.sh has no %q", old)
		}
		return with("action/env.sh", strings.Replace(envText, old, new, 1))
	}
	link := entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/etc"}}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"no versions":      {without("versions.yml"), "versions.yml: it is missing"},
		"no white list":    {without("action/white_list.txt"), "action/white_list.txt: it is missing"},
		"no env":           {without("action/env.sh"), "action/env.sh: it is missing"},
		"no install path":  {env("INSTALL_PATH=/opt/engine", "INSTALL_PATH=$(pwd)"), "env.sh: it does not say where the engine is installed"},
		"odd install path": {env("INSTALL_PATH=/opt/engine", "INSTALL_PATH=/opt/../etc"), "want an absolute path"},
		"root":             {env("INSTALL_PATH=/opt/engine", "INSTALL_PATH=/opt"), "want an absolute path"},
		"no version":       {with("versions.yml", "Name: x\n"), "it has no line Version"},
		"two versions":     {with("versions.yml", "Version: 1\nVersion: 2\n"), `it has the versions "1" and "2"`},
		"odd version":      {with("versions.yml", "Version: $(reboot)\n"), "want a version"},
		"white list head":  {with("action/white_list.txt", "2.0.0.* offline false\n"), "line 1"},
		"white list mode": {with("action/white_list.txt", strings.Replace(whiteText, "rollup", "rolling", 1)),
			`line 4: mode "rolling": want offline, rollup`},
		"white list bool":   {with("action/white_list.txt", strings.Replace(whiteText, "true", "ture", 1)), `line 2: CHANGE_SYSTEM "ture"`},
		"white list row":    {with("action/white_list.txt", whiteText+"1.0 offline\n"), "line 5: \"1.0 offline\": want three columns"},
		"white list remark": {with("action/white_list.txt", whiteText+"# patches\n"), "line 5: \"# patches\": want three columns"},
		"white list empty":  {with("action/white_list.txt", "SOURCE-VERSION UPGRADE-MODE CHANGE_SYSTEM\n"), "upgradeFrom"},
		"large env":         {with("action/env.sh", strings.Repeat("#", maxText+1)), "action/env.sh: it has 65537 bytes"},
		"two packages":      {plainTar(t, merge(appctlFiles("a/"), appctlFiles("b/"))), "it has action/appctl.sh in 2 places: a/, b/"},
		"unknown":           {plainTar(t, map[string]string{"x": "y"}), "its layout is not known"},
		"two scripts":       {plainTar(t, map[string]string{"a/upgrade.sh": "y", "b/upgrade.sh": "x"}), "its layout is not known"},
		"link":              {archive(t, file("upgrade.sh", "x"), link), `l: it is a symbolic link to "/etc"`},
		"parent":            {archive(t, file("upgrade.sh", "x"), file("../x", "x")), "../x: the name leads out"},
		"parent directory": {archive(t, file("upgrade.sh", "x"),
			entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "../x/"}}), "../x/: the name leads out"},
		"absolute": {archive(t, file("upgrade.sh", "x"), file("/x", "x")), "/x: the name is absolute"},
		"twice":    {archive(t, file("upgrade.sh", "x"), file("./upgrade.sh", "x")), "upgrade.sh: it is there twice"},
		"other case": {archive(t, file("upgrade.sh", "x"), file("Upgrade.sh", "x")),
			"Upgrade.sh: the name can be taken for that of upgrade.sh"},
		"odd slash": {archive(t, file("upgrade.sh", "x"), file("d/x", "x"), file("d\uff0fx", "x")),
			"the name can be taken for that of d/x"},
		"odd root": {archive(t, file("upgrade.sh", "x"), file("\uff0fx", "x"), file("\uff0fx", "x")), "it is there twice"},
		"below a file": {archive(t, file("upgrade.sh", "x"), file("upgrade.sh/x", "x")),
			"upgrade.sh/x: it is below upgrade.sh, which is a file"},
		"file and parent": {archive(t, file("d/upgrade.sh", "x"), file("d", "x")), "d: it is a file, and d/upgrade.sh is below it"},
		"data after":      {append(plainTar(t, appctlFiles("")), 'x'), "there is more data after the end"},
		"more than allowed": {plainTar(t, map[string]string{"upgrade.sh": "x", "big": strings.Repeat("x", 1<<20)}),
			"its files have more than 524288 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verify(c.data, Options{AllowUnsigned: true, MaxBytes: 512 << 10, MaxFiles: 40})
			got := refusal(t, err).Error()
			if !strings.Contains(got, c.want) {
				t.Errorf("got %s\nwant %s", got, c.want)
			}
		})
	}
	var many []entry
	for i := range 45 {
		many = append(many, file("f"+itoa(int64(i)), ""))
	}
	_, err := verify(archive(t, many...), Options{AllowUnsigned: true, MaxFiles: 40})
	if got := refusal(t, err).Error(); got != "it has more than 40 files" {
		t.Error(got)
	}
}

// TestNamesAreBounded: names that fill the memory are refused.
func TestNamesAreBounded(t *testing.T) {
	var n names
	for i := range 1500 {
		err := n.add(itoa(int64(i)) + strings.Repeat("/fifteen letters", 60))
		if err != nil {
			if got := refusal(t, err).Reason; got != "the names have more than 32 MiB in all" {
				t.Error(got)
			}
			return
		}
	}
	t.Error("all names were taken")
}

func merge(a, b map[string]string) map[string]string {
	for k, v := range b {
		a[k] = v
	}
	return a
}
