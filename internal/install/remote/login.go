package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"holdfast/internal/lib/text"
)

// Denied: the host takes none of the keys and passwords that there are.
type Denied struct {
	User string
}

func (e *Denied) Error() string {
	return "the host denies the login of " + e.User + ": it takes neither the password nor a key that was offered"
}

// Remedy says what an operator can do.
func (e *Denied) Remedy() string {
	return "give the right password (--ask-password) or key (--identity), and see that sshd_config allows it (PermitRootLogin)"
}

// Options say how to log in.
type Options struct {
	User       string            // "": root. Another one must be allowed sudo without a password
	Port       int               // 0: 22
	Password   string            // "": none
	Identity   string            // file of a private key; "": the usual ones of this user, and those of the SSH agent
	Key        []byte            // a private key in place of all those; nil: none
	KnownHosts string            // file; "": the user's known_hosts, and the system's
	Pinned     map[string]string // fingerprints of keys that were confirmed, by IP:PORT
}

func (o Options) user() string { return cmp.Or(o.User, "root") }
func (o Options) port() int    { return cmp.Or(o.Port, 22) }

// UnknownKey: nobody has said yet that this key is the host's.
type UnknownKey struct {
	At          string // IP:PORT
	Fingerprint string // SHA256:...
	Type        string
	line        string // for known_hosts
}

func (e *UnknownKey) Error() string {
	return fmt.Sprintf("its key %s (%s) is not known", e.Fingerprint, e.Type)
}

// Remedy says what an operator can do.
func (e *UnknownKey) Remedy() string {
	return "compare it with what the host shows (for f in /etc/ssh/ssh_host_*.pub; do ssh-keygen -lf $f; done), then " +
		"run this on a terminal, or add --host-key " + e.Fingerprint
}

// ChangedKey: the host has another key than the one that is known.
type ChangedKey struct {
	UnknownKey
	Known string   // fingerprint of the known one
	Where string   // file and line of that
	files []string // that have keys of the host
}

func (e *ChangedKey) Error() string {
	return fmt.Sprintf("its key has changed: it is %s (%s), and %s in %s", e.Fingerprint, e.Type, e.Known, e.Where)
}

// Remedy says what an operator can do.
func (e *ChangedKey) Remedy() string {
	var forget []string
	for _, f := range e.files {
		forget = append(forget, "ssh-keygen -f "+f+" -R '"+knownhosts.Normalize(e.At)+"'")
	}
	return "if the host was installed anew, and its own console shows this key (for f in /etc/ssh/ssh_host_*.pub; do " +
		"ssh-keygen -lf $f; done): " +
		strings.Join(forget, "; ") + "; then run this again. Else somebody may stand between"
}

// Replace has known_hosts forget the keys of a host before, and adds the one that was confirmed.
func (o Options) Replace(ctx context.Context, k *ChangedKey) error {
	for _, f := range k.files {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-f", f, "-R", knownhosts.Normalize(k.At)).CombinedOutput(); err != nil {
			return fmt.Errorf("have %s forget the key of %s: %w: %s", f, k.At, err, text.Clean(string(out)))
		}
	}
	return o.Remember([]*UnknownKey{&k.UnknownKey})
}

// Check sees whether these options can be used, before any connection is tried.
func (o Options) Check() error {
	if o.Port < 0 || o.Port > 65535 {
		return fmt.Errorf("--ssh-port %d: want 1 to 65535", o.Port)
	}
	if _, err := o.known(); err != nil {
		return fmt.Errorf("--known-hosts: %w", err)
	}
	if _, err := o.auth(); err != nil {
		return fmt.Errorf("--identity: %w", err)
	}
	return nil
}

func (o Options) config(at string) (*ssh.ClientConfig, error) {
	known, err := o.known()
	if err != nil {
		return nil, err
	}
	auth, err := o.auth()
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		User: o.user(), Auth: auth, Timeout: dialWithin,
		HostKeyAlgorithms: algorithms(known, at),
		HostKeyCallback:   func(host string, addr net.Addr, key ssh.PublicKey) error { return o.check(known, at, addr, key) },
	}, nil
}

// check compares a host's key with those that are known.
func (o Options) check(known ssh.HostKeyCallback, at string, addr net.Addr, key ssh.PublicKey) error {
	print := ssh.FingerprintSHA256(key)
	seen := UnknownKey{At: at, Fingerprint: print, Type: key.Type(), line: knownhosts.Line([]string{knownhosts.Normalize(at)}, key)}
	err := known(at, addr, key)
	var differs *knownhosts.KeyError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &differs):
		return fmt.Errorf("check the host's key: %w", err) // a revoked one, too
	case len(differs.Want) > 0:
		first := differs.Want[0]
		changed := &ChangedKey{UnknownKey: seen, Known: ssh.FingerprintSHA256(first.Key), Where: first.Filename + ":" + strconv.Itoa(first.Line)}
		for _, w := range differs.Want {
			if !slices.Contains(changed.files, w.Filename) {
				changed.files = append(changed.files, w.Filename)
			}
		}
		return changed
	case o.Pinned[at] == print:
		return nil
	}
	return &seen
}

// algorithms are the kinds of keys that are known of a host, so that it does not
// show one of another kind; nil: all.
func algorithms(known ssh.HostKeyCallback, at string) (out []string) {
	var differs *knownhosts.KeyError
	if err := known(at, &net.TCPAddr{IP: net.IPv4zero}, noKey{}); !errors.As(err, &differs) {
		return nil
	}
	for _, w := range differs.Want {
		kinds := []string{w.Key.Type()}
		if kinds[0] == ssh.KeyAlgoRSA {
			kinds = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, k := range kinds {
			if !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	return out
}

// noKey is nobody's.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("nobody's key") }

// file is where confirmed keys are kept.
func (o Options) file() (string, error) {
	if o.KnownHosts != "" {
		return o.KnownHosts, nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".ssh", "known_hosts"), err
}

func (o Options) known() (ssh.HostKeyCallback, error) {
	own, err := o.file()
	if err != nil {
		return nil, fmt.Errorf("find known_hosts: %w", err)
	}
	files := []string{own}
	if o.KnownHosts == "" {
		files = append(files, "/etc/ssh/ssh_known_hosts")
	}
	files = slices.DeleteFunc(files, func(f string) bool {
		_, err := os.Stat(f)
		return errors.Is(err, fs.ErrNotExist)
	})
	known, err := knownhosts.New(files...)
	if err != nil {
		return nil, fmt.Errorf("read known_hosts: %w", err)
	}
	return known, nil
}

// Remember adds keys that were confirmed to known_hosts.
func (o Options) Remember(keys []*UnknownKey) (err error) {
	name, err := o.file()
	if err != nil {
		return fmt.Errorf("find known_hosts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("write known_hosts: %w", err)
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("write known_hosts: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var lines strings.Builder
	if st, err := f.Stat(); err == nil && st.Size() > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, st.Size()-1); err == nil && last[0] != '\n' {
			lines.WriteByte('\n')
		}
	}
	for _, k := range keys {
		lines.WriteString(k.line + "\n")
	}
	if _, err := f.WriteString(lines.String()); err != nil {
		return fmt.Errorf("write known_hosts: %w", err)
	}
	return nil
}

// auth are the ways to log in.
func (o Options) auth() ([]ssh.AuthMethod, error) {
	var signers []ssh.Signer
	if o.Key != nil {
		s, err := parsed(o.Key)
		if err != nil {
			return nil, fmt.Errorf("read the private key: %w", err)
		}
		signers = append(signers, s)
	} else if o.Identity != "" {
		s, err := signer(o.Identity)
		if err != nil {
			return nil, fmt.Errorf("read the private key %s: %w", o.Identity, err)
		}
		signers = append(signers, s)
	} else {
		signers = usual()
	}
	out := []ssh.AuthMethod{ssh.PublicKeys(signers...)}
	if sock := os.Getenv("SSH_AUTH_SOCK"); sock != "" && o.Identity == "" && o.Key == nil {
		out[0] = ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return append(fromAgent(sock), signers...), nil })
	}
	if o.Password != "" {
		out = append(out, ssh.Password(o.Password), ssh.KeyboardInteractive(func(_, _ string, questions []string,
			echos []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range questions {
				if !echos[i] {
					answers[i] = o.Password
				}
			}
			return answers, nil
		}))
	}
	return out, nil
}

func signer(file string) (ssh.Signer, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parsed(raw)
}

func parsed(raw []byte) (ssh.Signer, error) {
	s, err := ssh.ParsePrivateKey(raw)
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		return nil, errors.New("it has a passphrase: add it to an SSH agent (ssh-add)")
	}
	return s, err
}

// usual are the keys of this user that need no passphrase.
func usual() (out []ssh.Signer) {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		if s, err := signer(filepath.Join(home, ".ssh", name)); err == nil {
			out = append(out, s)
		}
	}
	return out
}

// fromAgent are the keys of the SSH agent; one that does not answer has none.
func fromAgent(sock string) []ssh.Signer {
	conn, err := net.Dial("unix", sock)
	if err != nil {
		return nil
	}
	keys, err := agent.NewClient(conn).Signers()
	if err != nil {
		conn.Close()
		return nil
	}
	return keys // they sign through the connection, which lives as long as this program
}
