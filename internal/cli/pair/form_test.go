package pair

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/config"
	"holdfast/internal/install/setup"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

const (
	askVIP     = "  --vip, for example 172.16.60.55/16: "
	askPeer    = "  --peer, for example 172.16.60.52: "
	askArbiter = "  --arbiter, for example quorum:172.16.60.53: "
	askHosts   = "  --hosts, for example 4: "
	askVMs     = "  --vms, for example 20: "
)

// filled is a set-up whose command has these arguments, after the form.
func filled(t *testing.T, note string, args []string, says ...string) (s *pairSetup, cmd *cobra.Command, text string, err error) {
	t.Helper()
	s, cmd = &pairSetup{}, &cobra.Command{}
	s.flags(cmd)
	cmd.SetContext(t.Context())
	try.Must(t, cmd.ParseFlags(args))
	text, _, err = clitest.Dialogue(t, func(a *command.App) error { return form(a, cmd, s, note) }, says...)
	return s, cmd, text, err
}

// TestForm: what is missing is asked for, wrong answers are refused at once, as the flags would be.
func TestForm(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	s, cmd, text, err := filled(t, none, nil, askVIP, "172.16.60.55\n", askVIP, " 172.16.60.55/16 \n", askPeer,
		"node2\n", askPeer, "172.16.60.52\n",
		askArbiter, "\n", askArbiter, "quorum:172.16.60.53\n",
		askHosts, "four\n", askHosts, "0\n", askHosts, "4\n", askVMs, "20\n", "  --db-size, for example 20 [15]: ", "\n")
	try.Must(t, err)
	const want = `What is missing is asked for. [In brackets] is what an empty line means.
Address at which the services are reached, with its subnet's prefix length
  --vip, for example 172.16.60.55/16: holdfast: --vip: value "172.16.60.55": want ADDRESS/LENGTH, for example 172.16.60.55/16, with or without " dev INTERFACE"
Address at which the services are reached, with its subnet's prefix length
  --vip, for example 172.16.60.55/16: Address of the other node, whose data are replaced
  --peer, for example 172.16.60.52: holdfast: --peer: value "node2": want an IP address
Address of the other node, whose data are replaced
  --peer, for example 172.16.60.52: Who decides when the nodes do not see each other: a third host, fence, a disk, or addresses to ping
  --arbiter, for example quorum:172.16.60.53: holdfast: --arbiter: value "": want quorum:IP, ping:IP,IP, fence or disk:/dev/DEVICE
Who decides when the nodes do not see each other: a third host, fence, a disk, or addresses to ping
  --arbiter, for example quorum:172.16.60.53: Number of hosts that the platform will have
  --hosts, for example 4: holdfast: --hosts "four": want a whole number
Number of hosts that the platform will have
  --hosts, for example 4: holdfast: --hosts: value 0: want a number from 1 to 100000
Number of hosts that the platform will have
  --hosts, for example 4: Number of VMs that the platform will have
  --vms, for example 20: Size of the database's partition, in GB
  --db-size, for example 20 [15]: Answered:
  --vip      172.16.60.55/16
  --peer     172.16.60.52
  --arbiter  quorum:172.16.60.53
  --hosts    4
  --vms      20
  --db-size  15
With an empty password the keys in ~/.ssh are used.
`
	if text != want {
		t.Errorf("it said\n%s\nwant\n%s", text, want)
	}
	if o, err := s.options(cmd); err != nil || setup.OneArbiter(o.Arbiters...) != nil || o.Database != 15 ||
		o.VIP.String() != "172.16.60.55/16" || !s.ssh.Ask {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestFormGoesOn: what was given is not asked for, and an empty line means what a set-up that was
// begun has. Without a terminal, and with nothing missing, nobody is asked.
func TestFormGoesOn(t *testing.T) {
	begun := filepath.Join(t.TempDir(), "begun")
	try.Must(t, os.WriteFile(begun, []byte(`{"vip": "10.0.0.9/24 dev eth1", "peer": "10.0.0.2", "arbiter": ["quorum:10.0.0.3"], "hosts": 7, "vms": 0}`), 0o600))
	s, cmd, text, err := filled(t, begun, []string{"--peer", "10.0.0.8", "--identity", "key"},
		"  --vip, for example 172.16.60.55/16 [10.0.0.9/24 dev eth1]: ", "\n", " [quorum:10.0.0.3]: ", "\n", " [7]: ",
		"8\n", "--vms, for example 20 [0]: ", "\n", "--db-size, for example 20 [12]: ", "33\n")
	try.Must(t, err)
	o, err := s.options(cmd)
	if err != nil || o.Dev != "eth1" || o.Peer.String() != "10.0.0.8" || len(o.Arbiters) != 1 || o.Hosts != 8 ||
		o.VMs != 0 || o.Database != 33 || s.ssh.Ask || strings.Contains(text, "password") {
		t.Errorf("%+v, %v: %s", o, err, text)
	}
	all := []string{"--vip", "10.0.0.9/24", "--peer", "10.0.0.2", "--arbiter", "quorum:10.0.0.3", "--hosts", "1", "--vms", "1"}
	if _, _, text, err = filled(t, begun, all); err != nil || text != "" {
		t.Errorf("nothing is missing: %q, %v", text, err)
	}
	if _, _, text, err = filled(t, begun, nil, ": ", "\x04"); err == nil ||
		!strings.Contains(err.Error(), "were not answered") || !strings.Contains(text, "--vip") {
		t.Errorf("the end of the input: %q, %v", text, err)
	}
	s, cmd = &pairSetup{}, &cobra.Command{}
	s.flags(cmd)
	var said strings.Builder
	a := &command.App{Env: command.Env{Stdout: &said, Stderr: &said, Stdin: strings.NewReader("10.0.0.9/24\n")}}
	if err := form(a, cmd, s, begun); err != nil || said.Len() > 0 {
		t.Errorf("without a terminal: %v, %q", err, said.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err = clitest.Dialogue(t, func(a *command.App) error {
		s, cmd := &pairSetup{}, &cobra.Command{}
		s.flags(cmd)
		cmd.SetContext(ctx)
		cancel()
		return form(a, cmd, s, begun)
	})
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Canceled {
		t.Errorf("interrupted: %v", err)
	}
}

// TestTheWordIsTyped: nothing else will do.
func TestTheWordIsTyped(t *testing.T) {
	cl := config.Cluster{Type: config.PairConf, Pair: &config.Pair{Nodes: []string{"n1", "n2"}, Database: &config.PairDatabase{}}}
	for _, word := range []string{"CONFIRM", "confirm", "yes", ""} {
		text, _, err := clitest.Dialogue(t,
			func(a *command.App) error { return confirmPair(t.Context(), a, &pairSetup{}, cl) },
			"Type CONFIRM to go on: ", word+"\n")
		if ok := err == nil; ok != (word == "CONFIRM") || !ok && fail.ExitCode(err) != fail.ExitInvalid {
			t.Errorf("%q: %v", word, err)
		}
		if lines := strings.Split(text, "\n"); !slices.Contains(lines,
			"The data of n2 are moved aside there, and replaced by a copy: /var/lib/mysql") {
			t.Errorf("it said %s", text)
		}
	}
}

// TestASetUpGoesOnWithTheSameValuesOnly: each value that is another one is refused and named; what is the same in other
// words is not.
func TestASetUpGoesOnWithTheSameValuesOnly(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		try.Must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	group := file("group.json", `{"Group": [{"Unit": "web.service"}]}`)
	fencing := file("fencing.json", `{"n1": {"Watchdog": "none"}}`)
	settings := file("settings.json", `{"watchdog": {"device": "/dev/watchdog1"}}`)
	begun := []string{"--vip", "10.0.0.9/24", "--peer", "10.0.0.2", "--arbiter", "quorum:10.0.0.3", "--hosts", "4",
		"--vms", "20", "--group", group, "--fencing", fencing, "--settings", settings}
	values := func(args []string) setup.Values {
		t.Helper()
		s, cmd := &pairSetup{}, &cobra.Command{}
		s.flags(cmd)
		s.add(cmd)
		try.Must(t, cmd.ParseFlags(args))
		o, err := s.options(cmd)
		try.Must(t, err)
		v, err := s.planned(s.placeFlags, &o)
		try.Must(t, err)
		return v
	}
	text, err := json.Marshal(setup.Note{Values: values(begun)})
	try.Must(t, err)
	note, err := setup.ReadNote(file("note.json", string(text)))
	try.Must(t, err)
	for _, c := range []struct {
		args []string
		want string // in the refusal; "": it goes on
	}{
		{nil, ""},
		{[]string{"--db-size", "15"}, ""},
		{[]string{"--group", file("same.json", "{\"Group\":   [{\"Unit\": \"web.service\"}]}\n")}, ""},
		{[]string{"--vip", "10.0.0.8/24"}, `--vip: value "10.0.0.8/24": it was "10.0.0.9/24"`},
		{[]string{"--peer", "10.0.0.7"}, "--peer: "},
		{[]string{"--hosts", "5"}, `--hosts: value "5": it was "4"`},
		{[]string{"--vms", "21"}, `--vms: value "21": it was "20"`},
		{[]string{"--db-size", "16"}, "--db-size: "},
		{[]string{"--device", "/dev/sdb"}, "--device: "},
		{[]string{"--second-path", "10.0.1.1,10.0.1.2"}, "--second-path: "},
		{[]string{"--version-file", "/v"}, "--version-file: "},
		{[]string{"--unmanaged-probe", "/p"}, "--unmanaged-probe: "},
		{[]string{"--no-firewall"}, "--no-firewall: "},
		{[]string{"--group", file("other.json", `{"Group": [{"Unit": "app.service"}]}`)}, "--service, --group: "},
		{[]string{"--group", "", "--service", "web.service", "--service", "app.service"}, "--service, --group: "},
		{[]string{"--fencing", file("f2.json", `{"n2": {"Watchdog": "none"}}`)}, "--fencing: "},
		{[]string{"--settings", file("s2.json", `{"watchdog": {"device": "/dev/watchdog2"}}`)}, "--settings: "},
	} {
		err := note.Same(values(append(slices.Clone(begun), c.args...)))
		if c.want == "" && err != nil || c.want != "" && (fail.ExitCode(err) != fail.ExitRefused || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
	other := values([]string{"--vip", "10.0.0.9/24", "--peer", "10.0.0.2", "--arbiter", "ping:10.0.0.3,10.0.0.4",
		"--hosts", "4", "--vms", "20"})
	if err := note.Same(other); err == nil || !strings.Contains(err.Error(),
		`--arbiter: value "ping:10.0.0.3,10.0.0.4": it was "quorum:10.0.0.3"`) {
		t.Errorf("another arbiter: %v", err)
	}
}
