package pair

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/installer"
	"holdfast/internal/install"
	"holdfast/internal/install/remote"
	"holdfast/internal/install/setup"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestAChangedKeyIsAskedFor: a person says whether a host that was installed anew has this key, by its fingerprint; nothing is
// taken without such a word, and nobody is asked for another host's.
func TestAChangedKeyIsAskedFor(t *testing.T) {
	need.Real(t, need.Programs("openssh-client", "ssh-keygen"))
	newKey := func() ssh.Signer {
		t.Helper()
		_, k, err := ed25519.GenerateKey(rand.Reader)
		try.Must(t, err)
		s, err := ssh.NewSignerFromKey(k)
		try.Must(t, err)
		return s
	}
	before, now := newKey(), newKey()
	conf := &ssh.ServerConfig{NoClientAuth: true}
	conf.AddHostKey(now)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				if s, _, _, err := ssh.NewServerConn(c, conf); err == nil {
					_ = s.Wait() // the client ends it
				}
			}()
		}
	}()
	t.Setenv("HOME", t.TempDir()) // no keys of whoever runs this
	at := ln.Addr().String()
	file := filepath.Join(t.TempDir(), "known_hosts")
	line := knownhosts.Line([]string{knownhosts.Normalize(at)}, before.PublicKey()) + "\n"
	print := ssh.FingerprintSHA256(now.PublicKey())
	const question = "Take it in place of the one before? (yes/no): "
	for _, c := range []struct {
		name, anew, answer string
		trusted            []string
		taken              bool
		code               int
	}{
		{"yes", "127.0.0.1", "yes\n", nil, true, 0},
		{"no", "127.0.0.1", "no\n", nil, false, fail.ExitInvalid},
		{"an empty line", "127.0.0.1", "\n", nil, false, fail.ExitInvalid},
		{"another host's", "", "", nil, false, 0},
		{"its fingerprint was given", "", "", []string{print}, true, 0},
		{"another fingerprint was given", "", "", []string{ssh.FingerprintSHA256(before.PublicKey())}, false, 0},
	} {
		try.Must(t, os.WriteFile(file, []byte(line), 0o600))
		s := installer.SSHFlags{Opt: remote.Options{Port: int(netip.MustParseAddrPort(at).Port()), KnownHosts: file,
			Pinned: map[string]string{}}, Parallel: 1, Anew: c.anew, Trusted: c.trusted}
		var says []string
		if c.answer != "" {
			says = []string{question, c.answer}
		}
		hosts := []install.Host{{Name: "node2", Addr: "127.0.0.1"}}
		text, _, err := clitest.Dialogue(t, func(a *command.App) error { return s.Confirm(t.Context(), a, hosts) }, says...)
		if fail.ExitCode(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.answer != "" && (!strings.Contains(text, print) ||
			!strings.Contains(text, ssh.FingerprintSHA256(before.PublicKey()))) || c.answer == "" && text != "" {
			t.Errorf("%s: it said %s", c.name, text)
		}
		known, err := os.ReadFile(file)
		try.Must(t, err)
		if taken := string(known) != line; taken != c.taken || taken && strings.Count(string(known), "\n") != 1 {
			t.Errorf("%s: known_hosts has\n%s", c.name, known)
		}
		h, err := remote.Connect(t.Context(), "node2", "127.0.0.1", s.Opt)
		if (err == nil) != c.taken {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			try.Must(t, h.Close())
		} else if e := setup.NotReached("127.0.0.1", err); !strings.Contains(e.Error(), "its key has changed") ||
			!strings.Contains(install.RemedyOf(e), "ssh-keygen -f "+file+" -R '[127.0.0.1]:") {
			t.Errorf("%s: %v: %s", c.name, e, install.RemedyOf(e))
		}
	}
}
