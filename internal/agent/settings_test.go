package agent

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/config"
	"holdfast/testbed/try"
)

// settings writes the files of a host and returns its agent.json, changed by edit.
func settings(t *testing.T, dir string, edit func(*config.Node)) string {
	t.Helper()
	cl := config.Cluster{
		Node: []string{"192.0.2.1 h1", "192.0.2.2 h2", "192.0.2.3 h3"}, CPU: 1, MemorySizeInMB: 128,
		Type: config.FileConf, ImageFolder: "/images",
		Network: []config.Network{{Bridge: "br0", MacAddress: "02:00:5e:10:00:01", Ipaddr: "192.0.2.9",
			Netmask: "255.255.255.0", Gateway: "192.0.2.8", IsMgmt: true, IsDefRoute: true}},
	}
	n := config.Node{
		Host: "h1", Addr: "127.0.0.1", Cluster: "test", DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"),
		ConfigFile: filepath.Join(dir, "cluster.json"), Driver: "process", Undersized: true,
		Process:  config.Process{Command: []string{"/bin/false"}, Dir: dir},
		Store:    config.Store{Endpoints: []string{"http://127.0.0.1:1"}},
		Watchdog: config.Watchdog{Device: config.NoWatchdog},
	}
	edit(&n)
	file := filepath.Join(dir, "agent.json")
	for path, v := range map[string]any{filepath.Join(dir, "cluster.json"): cl, file: n} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

func options(file string) Options {
	return Options{NodeFile: file, Exe: "/proc/self/exe", Log: slog.New(slog.DiscardHandler)}
}

func TestGoodSettingsAreLoaded(t *testing.T) {
	dir := try.ShortDir(t)
	settings(t, dir, func(*config.Node) {})
	t.Chdir(dir)
	nd, err := load(options("agent.json"))
	if err != nil {
		t.Fatal(err)
	}
	if nd.NodeFile != filepath.Join(dir, "agent.json") {
		t.Errorf("settings %q: the children run elsewhere and need the whole path", nd.NodeFile)
	}
}

// TestBadSettingsChangeNothing: each is one error that names file, field and
// value, and not even a directory is made.
func TestBadSettingsChangeNothing(t *testing.T) {
	cases := map[string]struct {
		edit func(*config.Node)
		want []string
	}{
		"no config_file": {func(n *config.Node) { n.ConfigFile = "" }, []string{"config_file", "want the path"}},
		"config_file missing": {func(n *config.Node) { n.ConfigFile = "/nonexistent/c.json" },
			[]string{"config_file", "/nonexistent/c.json", "no such file"}},
		"config_file is a directory": {func(n *config.Node) { n.ConfigFile = n.Process.Dir },
			[]string{"config_file", "is a directory"}},
		"config_file is a device": {func(n *config.Node) { n.ConfigFile = "/dev/zero" }, []string{"config_file", "is a device"}},
		"boot id": {func(n *config.Node) { n.BootIDFile = "/nonexistent/boot" },
			[]string{"boot_id_file", "/nonexistent/boot"}},
		"unknown host":                         {func(n *config.Node) { n.Host = "h9" }, []string{"host", `"h9"`, "192.0.2.1 h1", "guests_only"}},
		"guests_only with a member's settings": {func(n *config.Node) { n.GuestsOnly = true }, []string{"config_file", "driver", "guests_only"}},
		"run_dir long": {func(n *config.Node) { n.RunDir += strings.Repeat("/r", 60) },
			[]string{"run_dir", "at most 93 bytes"}},
		"listen plain": {func(n *config.Node) { n.API.Listen = ":7443" }, []string{"tls", "api.listen", ":7443"}},
		"plain endpoint": {func(n *config.Node) { n.Store.Endpoints = append(n.Store.Endpoints, "http://192.0.2.1:2379") },
			[]string{"store.endpoints[1]", "http://192.0.2.1:2379", "https://HOST:PORT", "loopback", "--insecure"}},
		"plain endpoint by name": {func(n *config.Node) { n.Store.Endpoints[0] = "http://h1:2379" },
			[]string{"store.endpoints[0]", "http://h1:2379", "--insecure"}},
		"plain listen_peer": {plainMember(func(m *config.Member) { m.ListenPeer = "http://192.0.2.1:2" }),
			[]string{"store.member.listen_peer", "http://192.0.2.1:2", "--insecure"}},
		"plain listen_client": {plainMember(func(m *config.Member) { m.ListenClient = "http://[2001:db8::1]:2" }),
			[]string{"store.member.listen_client", "http://[2001:db8::1]:2", "--insecure"}},
		"plain peer_url": {plainMember(func(m *config.Member) { m.PeerURL, m.Initial["h1"] = "http://192.0.2.1:2", "http://192.0.2.1:2" }),
			[]string{"store.member.initial.h1", "http://192.0.2.1:2", "--insecure"}},
		"plain client_url": {plainMember(func(m *config.Member) { m.ClientURL = "http://192.0.2.1:2" }),
			[]string{"store.member.client_url", "http://192.0.2.1:2", "--insecure"}},
		"plain initial": {plainMember(func(m *config.Member) { m.Initial["h2"] = "http://192.0.2.2:2" }),
			[]string{"store.member.initial.h2", "http://192.0.2.2:2", "--insecure"}},
		"https plain": {func(n *config.Node) { n.Store.Endpoints[0] = "https://127.0.0.1:1" },
			[]string{"store.endpoints[0]", "http://HOST:PORT", "no tls files"}},
		"http with tls": {func(n *config.Node) { n.TLS = config.TLS{CA: "/a", Cert: "/b", Key: "/c"} },
			[]string{"store.endpoints[0]", "https://HOST:PORT"}},
		"tls missing": {func(n *config.Node) {
			n.Store.Endpoints[0] = "https://127.0.0.1:1"
			n.TLS = config.TLS{CA: "/nonexistent/ca", Cert: "/nonexistent/b", Key: "/nonexistent/c"}
		}, []string{"tls.ca", "/nonexistent/ca", "no such file"}},
		"member with https": {func(n *config.Node) {
			u := "https://127.0.0.1:2"
			n.Store.Member = &config.Member{ListenPeer: u, ListenClient: u, PeerURL: u, ClientURL: u, Initial: map[string]string{"h1": u}}
		}, []string{"store.member.client_url", "https://127.0.0.1:2", "http://HOST:PORT"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := try.ShortDir(t)
			file := settings(t, dir, c.edit)
			_, err := load(options(file))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range append(c.want, file) {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not name %q", err, w)
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
				t.Errorf("something was made: %v, %v", left, err)
			}
		})
	}
}

// plainMember gives a host a member without TLS at its loopback address.
func plainMember(edit func(*config.Member)) func(*config.Node) {
	return func(n *config.Node) {
		const peer, client = "http://127.0.0.1:2", "http://[::1]:3"
		n.Store.Member = &config.Member{ListenPeer: peer, ListenClient: client, PeerURL: peer, ClientURL: client,
			Initial: map[string]string{"h1": peer}}
		edit(n.Store.Member)
	}
}

// TestPlainStoresAreForLoopback, and for those who say that they know it.
func TestPlainStoresAreForLoopback(t *testing.T) {
	local := settings(t, try.ShortDir(t), plainMember(func(m *config.Member) { m.ClientURL = "http://localhost:3" }))
	if err := CheckNode(options(local)); err != nil {
		t.Error(err)
	}
	open := settings(t, try.ShortDir(t), plainMember(func(m *config.Member) { m.ListenClient = "http://192.0.2.1:3" }))
	if err := CheckNode(options(open)); err == nil {
		t.Error("accepted")
	}
	o := options(open)
	o.Insecure = true
	if err := CheckNode(o); err != nil {
		t.Error(err)
	}
}

func TestAPipeIsNotReadAsSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.json")
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(options(file)); err == nil || !strings.Contains(err.Error(), "is a pipe: want a file") {
		t.Errorf("got %v", err)
	}
}

func TestClaimNamesTheField(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*config.Node)
		want []string
	}{
		"data_dir is a file": {func(n *config.Node) { n.DataDir = n.ConfigFile }, []string{"data_dir", "cluster.json", "not a directory"}},
		"run_dir is a file":  {func(n *config.Node) { n.RunDir = n.ConfigFile }, []string{"run_dir", "cluster.json", "not a directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			nd, err := load(options(settings(t, try.ShortDir(t), c.edit)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = nd.claim()
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want it to name %q", err, w)
				}
			}
		})
	}
}

// TestDataOfAnotherClusterIsLeftAlone, and data that a living agent uses.
func TestDataOfAnotherClusterIsLeftAlone(t *testing.T) {
	dir := try.ShortDir(t)
	claim := func(cluster string) (func(), error) {
		nd, err := load(options(settings(t, dir, func(n *config.Node) { n.Cluster = cluster })))
		if err != nil {
			t.Fatal(err)
		}
		return nd.claim()
	}
	unlock, err := claim("one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim("one"); err == nil || !strings.Contains(err.Error(), "in use by another running agent") {
		t.Errorf("a second agent: %v", err)
	}
	unlock()
	for range 2 { // the refusal does not make it the other's
		if _, err := claim("two"); err == nil || !strings.Contains(err.Error(), `it belongs to cluster "one", not to "two"`) {
			t.Errorf("another cluster: %v", err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "run")); err != nil {
		t.Fatal(err)
	}
	if _, err := claim("two"); err == nil {
		t.Error("accepted")
	}
	if _, err := os.Stat(filepath.Join(dir, "run")); !os.IsNotExist(err) {
		t.Errorf("a refused agent made its run_dir: %v", err)
	}
	unlock, err = claim("one")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

// TestQEMUReachesTheSeed: distributions run it as a user of its own.
func TestQEMUReachesTheSeed(t *testing.T) {
	if !try.UnderUmask(t) {
		return
	}
	for name, mode := range map[string]os.FileMode{"made": 0, "of an earlier version": 0o700, "open": 0o755} {
		above := filepath.Join(t.TempDir(), "new")
		dir := filepath.Join(above, "data")
		if mode != 0 {
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(above, 0o711), os.Chmod(dir, mode)); err != nil {
				t.Fatal(err)
			}
		}
		err := makeDataDir(dir)
		info, serr := os.Stat(dir)
		if err != nil || serr != nil {
			t.Fatal(err, serr)
		}
		if want := max(mode, 0o700) | 0o011; info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v", name, info.Mode().Perm(), want)
		}
		if info, err = os.Stat(above); err != nil || info.Mode().Perm() != 0o711 {
			t.Errorf("%s: above it: %v, %v", name, info.Mode().Perm(), err)
		}
	}
}
