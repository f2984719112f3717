package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/need"
)

// planted are secrets by the place where each lies. None may be in an archive.
var planted = map[string]string{
	"tls key": "UExBTlRFRC1UTFMtS0VZLTAxMjM0NTY3ODk", "bmc": "PlantedBmc-01", "vnc": "Plantvnc",
	"answers": "PlantedAnswer-02", "environment": "PlantedEnv-03",
	"domain": "PlantedDomain-04", "log": "PlantedLog-05", "database": "PlantedDb-06", "settings": "PlantedSetting-07",
	"client": "PlantedClient-11", "ceph": "AQBQbGFudGVkLUNlcGgtS2V5LTAwMDAwMDAwMA==",
	"event": "PlantedEvent-08", "label": "PlantedLabel-09", "hash": "PlantedHash0123456789", "program": "PlantedProgram-10",
}

// reportHost is a host whose every corner has a secret; programs of it are scripts.
func reportHost(t *testing.T, a *clitest.Agent) (dir string, args []string) {
	t.Helper()
	dir = t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	s := planted
	key := put("pki/host.key", "-----BEGIN PRIVATE KEY-----\n"+s["tls key"]+"\n-----END PRIVATE KEY-----\n", 0o600)
	vnc, bmc := put("vnc", s["vnc"]+"\n", 0o600), put("bmc", s["bmc"]+"\n", 0o600)
	answers := put("answers", "secrets:\n  root: "+s["answers"]+"\n", 0o600)
	settings := fmt.Sprintf(`{"host": "node1", "addr": "10.0.0.11", "cluster": "prod", "run_dir": %q, "store": {"endpoints": ["https://10.0.0.11:2379"]},
		"process": {"command": ["/bin/vm", "--password", %q]}, "upgrade": {"credentials_file": %q}, "tls": {"ca": "/ca", "cert": "/cert", "key": %q}}`,
		dir, s["settings"], answers, key)
	file := put("agent.json", settings, 0o600)
	known := strings.Join([]string{s["tls key"], s["bmc"], s["vnc"], s["answers"], s["environment"], s["client"]}, " and ")
	lines := `{"msg":"it was ` + known + `","password":"` + s["log"] + `"}` + "\n" + `{"dsn":"root:` +
		s["database"] + `@tcp(10.0.0.1:3306)/nova","ceph":"` + s["ceph"] + `"}` + "\n" +
		"root:$6$abcdefgh$" + s["hash"] + ":19000\n"
	put("log/agent.log", lines, 0o640)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := io.WriteString(z, lines); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	put("log/agent-20260101T000000.000000000.log.gz", zipped.String(), 0o640)
	put("store/store.log", lines, 0o640)

	put("bin/virsh", "#!/bin/sh\n/bin/cat <<'X'\n<domain><name>holdfast-mnvm</name><graphics type='vnc' passwd='"+
		s["domain"]+"'/><qemu:arg value='"+s["vnc"]+"'/></domain>\nX\n", 0o700)
	put("bin/journalctl", "#!/bin/sh\necho 'bmc_secret="+s["program"]+" "+s["bmc"]+"'\n", 0o700)
	put("bin/nft", "#!/bin/sh\nexit 1\n", 0o700)
	t.Setenv("PATH", filepath.Join(dir, "bin")) // no program of this machine
	put("root/proc/meminfo", "MemTotal: 1 kB\n", 0o600)
	put("root/etc/mysql/debian.cnf", "[client]\nhost = localhost\nuser = root\npassword = "+s["client"]+"\n", 0o600)
	t.Setenv("PLANTED_PASSWORD", s["environment"])

	a.SetConfig(fmt.Sprintf(`{"VNC": {"Credential": "file:%s"}, "Labels": {"password": %q}, "Fencing": {"node1": {"Devices": [{"Type": "ipmi", "Address": "10.0.1.1", "User": "op", "Credential": "file:%s"}]}}}`,
		vnc, s["label"], bmc), "", time.Time{})
	a.Log(cluster.Event{Kind: cluster.EvWant, Detail: "token=" + s["event"] + ", and " + s["bmc"]})
	return dir, []string{"report", "--config", file, "--log-dir", filepath.Join(dir, "log"), "-O",
		filepath.Join(dir, "r.tar.gz"), "--timeout", "2m", "--socket", a.Socket}
}

// runReport runs the command, and returns what it says.
func runReport(ctx context.Context, root string, args ...string) (string, error) {
	var out bytes.Buffer
	facts := func(context.Context, install.Query) (*install.Facts, error) {
		return nil, errors.New("libvirt says " + planted["vnc"])
	}
	cmd := New(command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader(""), Version: "1.2.3", Facts: facts,
		Root: filepath.Join(root, "root")})
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

// TestReport searches the unpacked archive of a host with a secret in every corner.
func TestReport(t *testing.T) {
	a := clitest.NewAgent(t)
	dir, args := reportHost(t, a)
	said, err := runReport(t.Context(), dir, append(args, "-o", "json")...)
	if err != nil {
		t.Fatal(said, err)
	}
	var res struct {
		File    string
		Missing []struct{ Part, Why string }
	}
	if err := json.Unmarshal([]byte(said), &res); err != nil || res.File != filepath.Join(dir, "r.tar.gz") {
		t.Fatalf("%v: %s", err, said)
	}
	info, err := os.Stat(res.File)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	files := unpackReport(t, res.File)
	var all strings.Builder
	for name, text := range files {
		all.WriteString(name + "\n" + text)
	}
	for where, s := range planted {
		if strings.Contains(all.String(), s) || strings.Contains(said, s) {
			for name, text := range files {
				if i := strings.Index(text, s); i >= 0 {
					t.Errorf("the secret of %s is in %s: ...%s", where, name, text[max(0, i-60):i+len(s)])
				}
			}
			t.Errorf("the secret of %s was told", where)
		}
	}
	// What helps is there.
	for name, want := range map[string]string{
		"status.txt": "running on node1", "status.json": `"cluster": "prod"`,
		"events.json": `"detail":"token=[removed]"`, "config.json": "file:" + dir + "/vnc", "version.json": `"1.2.4"`, "store.json": "{",
		"agent.json": `"host": "node1"`, "log/agent.log": `"password":"[removed]"`,
		"log/agent-20260101T000000.000000000.log": "[removed]", "log/store/store.log": "[removed]",
		"libvirt/holdfast-mnvm.xml": "<name>holdfast-mnvm</name>", "journal.txt": "bmc_secret=[removed]", "system/memory.txt": "MemTotal",
		"index.txt": "nftables.txt: not available: ",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s has no %q: %.300q", name, want, files[name])
		}
	}
	if !slices.ContainsFunc(res.Missing, func(m struct{ Part, Why string }) bool {
		return m.Part == "doctor.txt" && strings.Contains(m.Why, "look at this host")
	}) {
		t.Errorf("missing: %+v", res.Missing)
	}
}

// TestReportToStandardOutput writes the archive there, and no file.
func TestReportToStandardOutput(t *testing.T) {
	a := clitest.NewAgent(t)
	dir, args := reportHost(t, a)
	before := names(t, dir)
	said, err := runReport(t.Context(), dir, append(args, "--out", "-")...)
	if err != nil {
		t.Fatal(said, err)
	}
	if now := names(t, dir); !slices.Equal(now, before) {
		t.Errorf("left behind: %v, were %v", now, before)
	}
	file := filepath.Join(t.TempDir(), "r.tar.gz")
	if err := os.WriteFile(file, []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
	if files := unpackReport(t, file); !strings.Contains(files["status.txt"], "running on node1") {
		t.Errorf("%d files", len(files))
	}
	for where, s := range planted {
		for name, text := range unpackReport(t, file) {
			if strings.Contains(text, s) {
				t.Errorf("the secret of %s is in %s", where, name)
			}
		}
	}
}

// TestReportOverwritesNothing and leaves nothing behind when it is refused or ended.
func TestReportOverwritesNothing(t *testing.T) {
	a := clitest.NewAgent(t)
	dir, args := reportHost(t, a)
	out := filepath.Join(dir, "r.tar.gz")
	if err := os.WriteFile(out, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		args []string
		want string
	}{
		{t.Context(), args, "the file exists, and is not overwritten"},
		{t.Context(), append(slices.Clone(args), "--days", "0"), "--days 0: want 1 to 365"},
		{t.Context(), append(slices.Clone(args), "-O", filepath.Join(dir, "no", "r")), "is no directory"},
	} {
		_, err := runReport(c.ctx, dir, c.args...)
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != fail.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %q", c.args, err, c.want)
		}
	}
	if _, err := runReport(ended, dir, append(slices.Clone(args), "-O", filepath.Join(dir, "other"))...); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
	if now := names(t, dir); !slices.Equal(now, before) {
		t.Errorf("left behind: %v, were %v", now, before)
	}
}

// TestReportWithoutAnAgent has what the host has, and says what is missing.
func TestReportWithoutAnAgent(t *testing.T) {
	a := clitest.NewAgent(t)
	dir, args := reportHost(t, a)
	args[len(args)-1] = filepath.Join(dir, "nobody.sock")
	if err := os.Remove(filepath.Join(dir, "bin", "nft")); err != nil {
		t.Fatal(err)
	}
	said, err := runReport(t.Context(), dir, args...)
	if err != nil || !strings.Contains(said, "status.json: not available:") {
		t.Fatalf("%s, %v", said, err)
	}
	files := unpackReport(t, filepath.Join(dir, "r.tar.gz"))
	if !strings.Contains(files["index.txt"], "the configuration is not known") ||
		!strings.Contains(files["agent.json"], "node1") || files["status.json"] != "" {
		t.Errorf("%q", files["index.txt"])
	}
}

// TestReportWithoutAQuorum ends with what this host knows. What keeps it waiting is told until then.
func TestReportWithoutAQuorum(t *testing.T) {
	need.Seconds(t)
	a := clitest.NewAgent(t)
	dir, args := reportHost(t, a)
	waits := a.Hang()
	said := awaited{what: "waits for events.json\n", until: make(chan struct{}, 1)}
	cmd := New(command.Env{Stdout: &said, Stderr: &said, Version: "1.2.3", Root: filepath.Join(dir, "root"),
		Facts: func(context.Context, install.Query) (*install.Facts, error) {
			return &install.Facts{Name: "node1"}, nil
		}})
	cmd.SetArgs(args)
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(t.Context()) }()
	<-waits // the store stands still, and nobody knows yet
	select {
	case <-said.until:
	case err := <-done:
		t.Fatalf("it ended before anything was told of what it waits for: %v\n%s", err, said.text())
	}
	lost := func(s *cluster.Status) { s.Connected, s.StoreError, s.AsOf = false, "no leader", s.Time }
	a.Update(lost)
	if err := <-done; err != nil {
		t.Fatal(err, said.text())
	}
	for round := range 2 { // the second time it is known from the beginning
		out := said.text()
		files := unpackReport(t, filepath.Join(dir, "r.tar.gz"))
		for name, want := range map[string]string{
			"events.json": `"detail":"token=[removed]"`, "config.json": "file:" + dir + "/vnc",
			"status.txt": []string{"running on node1", "no quorum: no leader"}[round],
			"jobs.json":  "[", "upgrade.json": "{", "hosts.json": "[",
		} {
			if !strings.Contains(files[name], want) {
				t.Errorf("%s has no %q: %.300q", name, want, files[name])
			}
		}
		if n := strings.Count(out, "no quorum of the store: this is what a member knew"); n != 1 ||
			strings.Contains(out, "events.json: not available") {
			t.Errorf("the age of what is in it is told %d times, want 1:\n%s", n, out)
		}
		if round == 1 {
			break
		}
		if err := os.Remove(filepath.Join(dir, "r.tar.gz")); err != nil {
			t.Fatal(err)
		}
		more, err := runReport(t.Context(), dir, args...)
		if err != nil {
			t.Fatal(more, err)
		}
		said.put(more)
	}
}

// awaited is a text that grows, and tells when something has come.
type awaited struct {
	mu    sync.Mutex
	all   string
	what  string
	until chan struct{}
}

func (a *awaited) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all += string(b)
	if strings.Contains(a.all, a.what) {
		select {
		case a.until <- struct{}{}:
		default:
		}
	}
	return len(b), nil
}

func (a *awaited) put(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = text
}

func (a *awaited) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all
}

// TestReportOfAHostWithThePackageOnly: nothing that such a host does not have is told to be missing.
func TestReportOfAHostWithThePackageOnly(t *testing.T) {
	a := clitest.NewAgent(t)
	dir, _ := reportHost(t, a)
	for name, does := range map[string]string{
		"journalctl": "echo 'No journal files were found.' >&2; exit 1", "systemctl": "echo 'holdfast.service: inactive'; exit 3",
		"virsh": "case $* in *dumpxml*) echo \"error: failed to get domain 'x'\" >&2; exit 1;; esac; echo ' Id " +
			"Name State'", "nft": "exit 0", "uname": "echo Linux",
	} {
		if err := os.WriteFile(filepath.Join(dir, "bin", name), []byte("#!/bin/sh\n"+does+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"etc/os-release", "proc/pressure/memory", "proc/loadavg", "proc/self/mountinfo"} {
		p := filepath.Join(dir, "root", f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte("x\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	alone := func(file, logs string) map[string]string {
		var out bytes.Buffer
		cmd := New(command.Env{Stdout: &out, Stderr: &out, Root: filepath.Join(dir, "root"),
			Facts: func(context.Context, install.Query) (*install.Facts, error) {
				return &install.Facts{Name: "h"}, nil
			}})
		file = filepath.Join(dir, file)
		cmd.SetArgs([]string{"report", "-O", file, "--log-dir", filepath.Join(dir, logs), "--timeout",
			"2m", "--socket", filepath.Join(dir, "nobody")})
		if err := cmd.ExecuteContext(t.Context()); err != nil || out.String() != "written: "+file+"\n" {
			t.Errorf("%v: %s", err, out.String())
		}
		return unpackReport(t, file)
	}
	files := alone("alone.tar.gz", "no-logs")
	if i := files["index.txt"]; !strings.Contains(i, "log: not there: ") || !strings.Contains(i, "agent.json: not there: ") {
		t.Errorf("what is missing is not listed:\n%s", i)
	}
	if files := alone("logs.tar.gz", "log"); !strings.Contains(files["log/agent.log"], "[removed]") ||
		strings.Contains(files["index.txt"], "log: not there") {
		t.Errorf("the logs of a host that was of a cluster are left out:\n%s", files["index.txt"])
	}
	if i := files["index.txt"]; !strings.Contains(i, "this host is of no cluster: there is no "+install.SettingsFile) ||
		!strings.Contains(i, "system/clock.txt: not there: the program chronyc") {
		t.Errorf("%s", i)
	}
	if !strings.Contains(files["doctor.txt"], "this host is of no cluster yet") || !strings.Contains(files["system/units.txt"], "inactive") {
		t.Errorf("%q, %q", files["doctor.txt"], files["system/units.txt"])
	}
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		out = append(out, e.Name())
	}
	return out
}

// unpackReport reads an archive: text by name.
func unpackReport(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		out[name] = string(text)
	}
}
