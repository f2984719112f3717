package remote

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"holdfast/internal/install"
	"holdfast/testbed/need"
)

const password = "a & # @ $ 'b' \"c\""

// sshd is a server in this process that runs commands by sh. e2e speaks with a real one.
func sshd(t *testing.T, keys ...any) Options {
	t.Helper()
	return sshdOf(t, &ssh.ServerConfig{}, keys...)
}

// sshdOf is such a server with more ways to log in.
func sshdOf(t *testing.T, conf *ssh.ServerConfig, keys ...any) Options {
	t.Helper()
	conf.PasswordCallback = func(_ ssh.ConnMetadata, pw []byte) (*ssh.Permissions, error) {
		if string(pw) != password {
			return nil, errors.New("no")
		}
		return nil, nil
	}
	for _, k := range keys {
		s, err := ssh.NewSignerFromKey(k)
		if err != nil {
			t.Fatal(err)
		}
		conf.AddHostKey(s)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c, conf)
		}
	}()
	t.Setenv("HOME", t.TempDir()) // no keys of whoever runs this
	t.Setenv("SSH_AUTH_SOCK", "")
	at := netip.MustParseAddrPort(ln.Addr().String())
	return Options{Port: int(at.Port()), Password: password, KnownHosts: filepath.Join(t.TempDir(), "known_hosts"),
		Pinned: map[string]string{}}
}

func serve(c net.Conn, conf *ssh.ServerConfig) {
	defer c.Close()
	_, chans, reqs, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for n := range chans {
		ch, reqs, err := n.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range reqs {
				if r.Type != "exec" {
					continue
				}
				_ = r.Reply(true, nil)
				cmd := exec.Command("sh", "-c", string(r.Payload[4:]))
				cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
				code := uint32(1)
				// A command may end before its input does.
				if in, err := cmd.StdinPipe(); err == nil {
					go func() {
						_, _ = io.Copy(in, ch)
						in.Close()
					}()
					if cmd.Run() == nil {
						code = 0
					}
				}
				_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ C uint32 }{code}))
				ch.Close()
			}
		}()
	}
}

func key(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysOfHosts(t *testing.T) {
	k := key(t)
	opt := sshd(t, k)
	_, err := Connect(t.Context(), "h", "127.0.0.1", opt)
	var unknown *UnknownKey
	if !errors.As(err, &unknown) || !strings.HasPrefix(unknown.Fingerprint, "SHA256:") ||
		!strings.Contains(unknown.Remedy(), unknown.Fingerprint) {
		t.Fatalf("a key that nobody knows: %v", err)
	}
	opt.Pinned[unknown.At] = "SHA256:another"
	if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.As(err, &unknown) {
		t.Errorf("another key was confirmed: %v", err)
	}
	opt.Pinned[unknown.At] = unknown.Fingerprint
	h, err := Connect(t.Context(), "h", "127.0.0.1", opt)
	if err != nil {
		t.Fatalf("a key that was confirmed: %v", err)
	}
	if err := errors.Join(h.Close(), opt.Remember([]*UnknownKey{unknown})); err != nil {
		t.Fatal(err)
	}
	opt.Pinned = nil
	if h, err = Connect(t.Context(), "h", "127.0.0.1", opt); err != nil {
		t.Fatalf("a key that is in known_hosts: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	// Another server at the same address.
	other := sshd(t, key(t))
	text, err := os.ReadFile(opt.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.ReplaceAll(string(text), portOf(opt), portOf(other))
	if err := os.WriteFile(other.KnownHosts, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	var changed *ChangedKey
	if _, err := Connect(t.Context(), "h", "127.0.0.1", other); !errors.As(err, &changed) ||
		!strings.Contains(changed.Where, "known_hosts:1") {
		t.Fatalf("a key that has changed: %v", err)
	}
	if said := changed.Error(); !strings.Contains(said, unknown.Fingerprint) ||
		!strings.Contains(said, changed.Fingerprint) || changed.Fingerprint == unknown.Fingerprint {
		t.Errorf("both keys are to be named: %s", said)
	}
}

// TestAHostThatWasInstalledAnew: the remedy is a command that helps, also where the new key is of another kind; and what was
// confirmed takes the place of what was known.
func TestAHostThatWasInstalledAnew(t *testing.T) {
	need.Real(t, need.Programs("openssh-client", "ssh-keygen"))
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, before := range []any{key(t), old} {
		first := sshd(t, before)
		var unknown *UnknownKey
		if _, err := Connect(t.Context(), "h", "127.0.0.1", first); !errors.As(err, &unknown) {
			t.Fatal(err)
		}
		opt := sshd(t, key(t))
		known := strings.ReplaceAll(unknown.line, portOf(first), portOf(opt)) + "\n" +
			strings.ReplaceAll(unknown.line, "127.0.0.1", "127.0.0.2") + "\n"
		again := func() (changed *ChangedKey) {
			t.Helper()
			if err := os.WriteFile(opt.KnownHosts, []byte(known), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.As(err, &changed) {
				t.Fatalf("a key that has changed: %v", err)
			}
			return changed
		}
		_, command, _ := strings.Cut(again().Remedy(), "done): ")
		command, _, _ = strings.Cut(command, "; then")
		if out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.As(err, &unknown) {
			t.Errorf("after %s: %v", command, err)
		}
		if err := opt.Replace(t.Context(), again()); err != nil {
			t.Fatal(err)
		}
		h, err := Connect(t.Context(), "h", "127.0.0.1", opt)
		if err != nil {
			t.Fatalf("a key that was replaced: %v", err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(opt.KnownHosts); err != nil || !strings.Contains(string(text), "127.0.0.2") ||
			strings.Count(string(text), "\n") != 2 {
			t.Errorf("another host's key is to stay: %s, %v", text, err)
		}
	}
}

// portOf is the server's port as known_hosts has it.
func portOf(o Options) string { return "]:" + strconv.Itoa(o.Port) + " " }

// TestTheKnownKindOfKeyIsAskedFor: a server with keys of two kinds, of which one is known.
func TestTheKnownKindOfKeyIsAskedFor(t *testing.T) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	only := sshd(t, k)
	var unknown *UnknownKey
	if _, err := Connect(t.Context(), "h", "127.0.0.1", only); !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	both := sshd(t, key(t), k)
	line := strings.ReplaceAll(unknown.line, portOf(only), portOf(both))
	if err := os.WriteFile(both.KnownHosts, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := Connect(t.Context(), "h", "127.0.0.1", both)
	if err != nil {
		t.Fatalf("the RSA key is known: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestLoginIsDenied(t *testing.T) {
	opt := sshd(t, key(t))
	opt.Password = "wrong"
	var unknown *UnknownKey
	if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	opt.Pinned[unknown.At] = unknown.Fingerprint
	var denied *Denied
	if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.As(err, &denied) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("a wrong password: %v", err)
	}
	opt.Identity = filepath.Join(t.TempDir(), "none")
	if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such key: %v", err)
	}
}

// TestLoginOfAServerThatAsks: PAM's servers ask for the password themselves, or refuse before they ask.
func TestLoginOfAServerThatAsks(t *testing.T) {
	for name, ask := range map[string]func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error){
		"it asks": func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			said, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(said) != 1 || said[0] != password {
				return nil, errors.New("no")
			}
			return nil, nil
		},
		"it refuses before it asks": func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			return nil, errors.New("no")
		},
	} {
		t.Run(name, func(t *testing.T) {
			opt := sshdOf(t, &ssh.ServerConfig{KeyboardInteractiveCallback: ask}, key(t))
			opt.Password = "wrong"
			var unknown *UnknownKey
			if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.As(err, &unknown) {
				t.Fatal(err)
			}
			opt.Pinned[unknown.At] = unknown.Fingerprint
			var denied *Denied
			if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.As(err, &denied) ||
				strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "message type") {
				t.Errorf("a wrong password: %v", err)
			}
			opt.Password = password
			h, err := Connect(t.Context(), "h", "127.0.0.1", opt)
			if err != nil {
				t.Fatalf("the right one: %v", err)
			}
			h.Close()
		})
	}
}

func TestRun(t *testing.T) {
	opt := sshd(t, key(t))
	var unknown *UnknownKey
	if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	opt.Pinned[unknown.At] = unknown.Fingerprint
	h, err := Connect(t.Context(), "h", "127.0.0.1", opt)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if out, err := h.Run(t.Context(), "cat; printf %s "+quote("it's"), strings.NewReader("in ")); err != nil || out != "in it's" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := h.Run(t.Context(), "echo why >&2; exit 3", nil); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a command that fails: %v", err)
	}
}

// TestAProgramThatEndsAtOnce: what it said is the error, and the connection ends.
func TestAProgramThatEndsAtOnce(t *testing.T) {
	if err := need.Root(); err != nil {
		t.Skip("missing:", err) // the program's folder is root's
	}
	script := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nread line\n[ -z \"$2\" ] || rm -r \"$2\"\necho 'holdfast: why' "+
		">&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := ReadProgram(script)
	if err != nil {
		t.Fatal(err)
	}
	opt := sshd(t, key(t))
	var unknown *UnknownKey
	if _, err := Connect(t.Context(), "h", "127.0.0.1", opt); !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	opt.Pinned[unknown.At] = unknown.Fingerprint
	there, err := Connect(t.Context(), "h", "127.0.0.1", opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := there.Begin(t.Context(), p); err != nil {
		t.Fatal(errors.Join(err, there.Close()))
	}
	here, err := BeginHere(p)
	if err != nil {
		t.Fatal(errors.Join(err, there.Close()))
	}
	for name, c := range map[string]install.Conn{"there": there, "here": here} {
		if _, err := c.Ask(t.Context(), install.Request{Do: install.DoNow}); err == nil || err.Error() != "why" {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Close(); err == nil {
			t.Errorf("%s: its end was no error", name)
		}
	}
}

// TestHere asks a program on this host, which ends with its input.
func TestHere(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "program")
	text := "#!/bin/sh\n[ \"$1\" = on-host ] || exit 3\nwhile read line; do echo '{\"output\": \"it answers\"}'; " +
		"done\ntouch " + dir + "/ended\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := need.Root(); err != nil && exec.Command("sudo", "-n", "true").Run() != nil {
		t.Skip("missing:", err) // or sudo without a password
	}
	h, err := BeginHere(Program{File: script})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a, err := h.Ask(t.Context(), install.Request{Do: install.DoNow}); err != nil || a.Output != "it answers" {
			t.Errorf("%+v, %v", a, err)
		}
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/ended"); err != nil {
		t.Errorf("the program has not ended by its input: %v", err)
	}
	if _, err := BeginHere(Program{File: dir + "/none"}); err == nil && os.Geteuid() == 0 {
		t.Error("a program that is not there was started")
	}
}
