package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestLoadNodeFillsInTheDefaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.json")
	const text = `{"host": "h1", "addr": "192.0.2.11", "cluster": "c-1", "store": {"endpoints": ["http://127.0.0.1:2379"]}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := LoadNode(file)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{n.DataDir, n.RunDir, n.BootIDFile, n.Driver, n.Libvirt.Socket, n.Libvirt.MigrateURI,
		n.Libvirt.MigrateTLS, n.Watchdog.Device}
	want := []string{"/var/lib/holdfast", "/run/holdfast", "/proc/sys/kernel/random/boot_id", "libvirt",
		"/run/libvirt/libvirt-sock", "qemu+tls://%s/system", "auto", "/dev/watchdog0"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("default %q, want %q", got[i], want[i])
		}
	}
}

func TestLoadNodeReportsTheFaultsOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.json")
	if _, err := LoadNode(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(file, []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := LoadNode(file)
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatalf("%v, want Faults", err)
	}
	wantFaults(t, faults, "host: RFC 1123", "addr: IP address", "cluster: id", "store.endpoints: URLs")
}

func TestAgentSettings(t *testing.T) {
	base := fixture(t, "agent.json")
	for _, tc := range []faultCase{
		{"the base settings have no faults", nil, nil},
		one("an unknown field is refused", `"addr"`, `"adr"`, `adr: nearest known one is "addr"`),
		one("field names are exact", `"cluster"`, `"Cluster"`, `Cluster: nearest known one is "cluster"`),
		one("a duplicate key is refused", `"host": "h1"`, `"host": "h1", "host": "h1"`, `host: duplicate key`),
		one("a missing comma before a comment is refused here", `"host": "h1",`, `"host": "h1" // me`, `2:15: want ','`),
		one("a bad host name is refused", `"host": "h1"`, `"host": "h1-"`, `host: RFC 1123`, `store.member.initial: "h1-" is missing`),
		one("a name as address is refused", `"addr": "192.0.2.11"`, `"addr": "h1"`, `addr: IP address`),
		one("a blank in the cluster's id is refused", `"c-1"`, `"c 1"`, `cluster: id`),
		one("relative directories are refused", `"data_dir": "/srv/data"`, `"data_dir": "data"`, `data_dir: absolute`),
		one("a relative run directory is refused", `"run_dir": "/srv/run"`, `"run_dir": "./run"`, `run_dir: absolute`),
		one("a relative configuration file is refused", `"/etc/holdfast/cluster.json"`, `"cluster.json"`, `config_file: absolute`),
		one("a relative boot id file is refused", `"run_dir": "/srv/run"`, `"run_dir": "/srv/run", "boot_id_file": "x"`,
			`boot_id_file: absolute`),
		one("an unknown driver is refused", `"run_dir": "/srv/run"`, `"run_dir": "/srv/run", "driver": "xen"`, `driver: libvirt or process`),
		one("the process driver needs a command and a directory", `"run_dir": "/srv/run"`,
			`"run_dir": "/srv/run", "driver": "process"`, `process.command: a program`, `process.dir: absolute`),
		one("a migration URI without a place for the host is refused", `"run_dir": "/srv/run"`,
			`"run_dir": "/srv/run", "libvirt": {"socket": "x", "migrate_uri": "qemu+tls://h/system"}`,
			`libvirt.socket: absolute`, `libvirt.migrate_uri: %s in place`),
		one("an unknown way to encrypt migrations is refused", `"run_dir": "/srv/run"`,
			`"run_dir": "/srv/run", "libvirt": {"migrate_tls": "yes"}`,
			`libvirt.migrate_tls: auto, required or off`),
		one("a migration URI with a port is accepted", `"run_dir": "/srv/run"`,
			`"run_dir": "/srv/run", "libvirt": {"migrate_uri": "qemu+tcp://%s:16509/system"}`),
		one("an endpoint without a port is refused", `"endpoints": ["https://192.0.2.11:2379"`,
			`"endpoints": ["https://192.0.2.11"`, `store.endpoints[0]: want http://HOST:PORT`),
		one("an endpoint without a scheme is refused", `"endpoints": ["https://192.0.2.11:2379"`,
			`"endpoints": ["192.0.2.11:2379"`, `store.endpoints[0]: want http://HOST:PORT`),
		one("an empty list of endpoints is refused", `["https://192.0.2.11:2379", "https://192.0.2.12:2379", "https://192.0.2.13:2379"]`,
			`[]`, `store.endpoints: client URLs`),
		one("a member's URL must parse", `"listen_peer": "https://192.0.2.11:2380"`,
			`"listen_peer": "https://[::1:2380"`, `store.member.listen_peer: want http`),
		one("this host must be among the first members", `{"h1": "https://192.0.2.11:2380", `, `{`, `store.member.initial: "h1" is missing`),
		one("this host's peer URL must be one", `"h1": "https://192.0.2.11:2380"`, `"h1": "https://192.0.2.11:2390"`,
			`store.member.initial.h1: must equal peer_url`),
		one("another member's peer URL must parse", `"h2": "https://192.0.2.12:2380"`,
			`"h2": "x", "h_4": "http://192.0.2.14:1"`, `store.member.initial.h2: want http`, `store.member.initial.h_4: RFC 1123`),
		one("a listen address without a port is refused", `192.0.2.11:8443`, `192.0.2.11`, `api.listen: want IP:PORT`),
		one("a port chosen by the system is accepted", `192.0.2.11:8443`, `127.0.0.1:0`),
		one("a key that is missing is refused", `, "key": "/etc/holdfast/key.pem"`, ``, `tls.key: set all of ca, cert and key, or none of them`),
		one("a relative certificate is refused", `"/etc/holdfast/cert.pem"`, `"cert.pem"`, `tls.cert: absolute`),
		one("a simulated watchdog is accepted", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "watchdog": {"device": "unix:/run/wd.sock"}`),
		one("no watchdog is accepted", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "watchdog": {"device": "none"}`),
		one("a host with guests only has nothing of a member", `"addr": "192.0.2.11"`,
			`"addr": "192.0.2.11", "guests_only": true, "driver": "process", "process": {"command": ["x"], "dir": "/x"}, "watchdog": {"device": "/dev/watchdog0"}`,
			`driver: want libvirt`, `watchdog.device: want none`, `config_file: want none`, `store.member: want none`),
		one("traces to a collector are accepted", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "traces": {"endpoint": "https://192.0.2.9:4318", "token_file": "/t", "ca": "/ca.pem", "sample": 0.5}`),
		one("traces with another path, in clear, are accepted", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "traces": {"endpoint": "http://collector:4318/custom/path"}`),
		one("traces to nowhere are refused", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "traces": {}`, `traces.endpoint: want where the collector takes OTLP by HTTP`),
		one("traces by gRPC are refused", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "traces": {"endpoint": "grpc://c:4317"}`, `traces.endpoint: OTLP by HTTP`),
		one("a user in the address of a collector is refused", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "traces": {"endpoint": "https://u:hunter2@c:4318"}`, `traces.endpoint: OTLP by HTTP`),
		one("a port that there is not is refused", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "traces": {"endpoint": "https://c:99999"}`, `traces.endpoint: OTLP by HTTP`),
		one("a token in clear is refused", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "traces": {"endpoint": "http://c:4318", "token_file": "/t"}`, `traces.endpoint: want https://`),
		one("traces by relative names are refused", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "traces": {"endpoint": "https://c", "token_file": "t", "ca": "c"}`, `traces.token_file: absolute`, `traces.ca: absolute`),
		one("more than all requests are refused", `"addr": "192.0.2.11"`, `"addr": "192.0.2.11", "traces": {"endpoint": "https://c", "sample": 2}`, `traces.sample: want a share from 0 to 1`),
		one("a provider to log in by is accepted", consoleBefore, consoleWith(goodOIDC)),
		one("a provider without a console is refused", `"addr": "192.0.2.11"`,
			`"addr": "192.0.2.11", "console": {"oidc": `+goodOIDC+`}`, `console.oidc: want none without console.listen`,
			`console.oidc.url: https://HOST`),
		one("a provider of which nothing is said is refused", consoleBefore, consoleWith(`{}`), `console.oidc.issuer: https://HOST`,
			`console.oidc.client_id: printable`, `console.oidc.client_secret_file: absolute`, `console.oidc.roles: 1 to 100 groups`),
		one("a provider without TLS is refused", consoleBefore, consoleWith(strings.Replace(goodOIDC, "https://login", "http://login", 1)),
			`console.oidc.issuer: https://HOST`),
		one("a role that there is not is refused", consoleBefore, consoleWith(strings.Replace(goodOIDC, `"viewer"`, `"root"`, 1)),
			`console.oidc.roles.g: want viewer, operator or admin`),
		one("an address with a path is refused", consoleBefore, consoleWith(strings.Replace(goodOIDC, `{`,
			`{"url": "https://h1:8443/console", "claim": "a b", "name": "a\tb", "ca": "ca.pem", `, 1)), `console.oidc.url: https://HOST`,
			`console.oidc.claim: printable`, `console.oidc.name: control characters`, `console.oidc.ca: absolute`),
		one("a watchdog that is no device is refused", `"addr": "192.0.2.11"`,
			`"addr": "192.0.2.11", "watchdog": {"device": "watchdog0"}`, `watchdog.device: want a device`),
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := base
			for _, e := range tc.edits {
				text = change(t, text, e.old, e.with)
			}
			_, faults := ParseNode("agent.json", []byte(text))
			wantFaults(t, faults, tc.want...)
		})
	}
}

// Settings of a provider to log in by.
const (
	goodOIDC = `{"issuer": "https://login.example.org/realms/a", "client_id": "holdfast", "client_secret_file": "/etc/holdfast/oidc",
		"roles": {"g": "viewer", "holdfast-admins": "admin"}}`
	consoleBefore = `"addr": "192.0.2.11"`
)

func consoleWith(oidc string) string {
	return consoleBefore + `, "console": {"listen": ":8443", "oidc": ` + oidc + `}`
}

// TestDefaultsOfAProvider: the console is reached at the host's address.
func TestDefaultsOfAProvider(t *testing.T) {
	n, faults := ParseNode("agent.json", []byte(change(t, fixture(t, "agent.json"), consoleBefore, consoleWith(goodOIDC))))
	if o := n.Console.OIDC; len(faults) > 0 || o.URL != "https://192.0.2.11:8443" || o.Claim != "groups" ||
		!slices.Equal(o.Names(), []string{"preferred_username", "email", "sub"}) {
		t.Errorf("%+v, %v", o, Faults(faults))
	}
}

// TestTheGuidesSettings: the examples are valid, and every field is explained.
func TestTheGuidesSettings(t *testing.T) {
	data, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json agent\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d examples, want 2", len(blocks))
	}
	for i, b := range blocks {
		n, faults := ParseNode("configuration.md", []byte(b[1]))
		if len(faults) > 0 || n.GuestsOnly != (i == 1) {
			t.Errorf("example %d: %+v, %v", i+1, n, Faults(faults))
		}
	}
	for f := range reflect.TypeFor[Node]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.Contains(string(data), "`"+name) {
			t.Errorf("docs/configuration.md does not name the field %s", name)
		}
	}
}

// TestTheConsoleOfAllHosts: where they serve it is said once, or that they serve none.
func TestTheConsoleOfAllHosts(t *testing.T) {
	for at, wrong := range map[string]bool{
		"": false, "none": false, ":443": false, "192.0.2.1:8443": false, "8443": true, "None": true, "https://h1:8443": true, ":70000": true,
	} {
		n, faults := ParseBase("all.json", []byte(`{"console": {"listen": "`+at+`"}}`))
		if (len(faults) > 0) != wrong || n.Console.Listen != at {
			t.Errorf("%q: %v", at, faults)
		}
		if wrong && !strings.Contains(Faults(faults).Error(), "want IP:PORT, HOST:PORT, :PORT, none, or nothing for :8443") {
			t.Errorf("%q: %v", at, faults)
		}
	}
}
