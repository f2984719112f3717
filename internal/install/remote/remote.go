// Package remote reaches hosts by SSH: it sends this program there and speaks
// with it (package onhost). It decides nothing about an installation.
package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"holdfast/internal/install"
	"holdfast/internal/lib/text"
)

const (
	dialWithin = 15 * time.Second
	maxAnswer  = 64 << 20 // bytes
	maxSaid    = 4 << 10  // bytes of what a program says to its standard error
	aliveEvery = 5 * time.Second
	aliveTries = 3
)

// Host is a connection to a host, on which package onhost answers. It is for one
// goroutine at a time.
type Host struct {
	name   string
	client *ssh.Client
	sudo   string // before commands

	*talk // nil: the program was not started there
	stop  context.CancelFunc
}

// Connect opens the connection and proves the host's key. It fails with an
// *UnknownKey, a *ChangedKey, a *Denied, or as the network does.
func Connect(ctx context.Context, name, addr string, opt Options) (*Host, error) {
	at := net.JoinHostPort(addr, strconv.Itoa(opt.port()))
	conf, err := opt.config(at)
	if err != nil {
		return nil, err
	}
	h, err := connect(ctx, name, at, opt, conf)
	var none *ssh.AlgorithmNegotiationError
	if errors.As(err, &none) && conf.HostKeyAlgorithms != nil { // it has no key of a kind that is known: which has it?
		conf.HostKeyAlgorithms = nil
		return connect(ctx, name, at, opt, conf)
	}
	return h, err
}

// HostKey is a host whose key nobody has confirmed yet.
type HostKey struct {
	install.Host
	*UnknownKey
}

// HostChange is a host that has another key than the one that is known.
type HostChange struct {
	install.Host
	*ChangedKey
}

// Keys tries hosts, some at a time, and gives those of them whose keys somebody has to confirm, by their names. What else is
// wrong with a host it does not tell.
func Keys(ctx context.Context, hosts []install.Host, parallel int, opt Options) (unknown []HostKey, changed []HostChange) {
	var mu sync.Mutex
	// What else is wrong with a host is a finding of the checks.
	_ = install.Each(hosts, parallel, func(h install.Host) error {
		c, err := Connect(ctx, h.Name, h.Addr, opt)
		if err == nil {
			_ = c.Close() // nothing was begun there
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		var key *UnknownKey
		var other *ChangedKey
		if errors.As(err, &key) {
			unknown = append(unknown, HostKey{h, key})
		} else if errors.As(err, &other) {
			changed = append(changed, HostChange{h, other})
		}
		return nil
	})
	slices.SortFunc(unknown, func(x, y HostKey) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.At, y.At)) })
	slices.SortFunc(changed, func(x, y HostChange) int { return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.At, y.At)) })
	return unknown, changed
}

// Connector makes connections on which a host answers.
func Connector(opt Options, p Program) func(context.Context, install.Host) (install.Conn, error) {
	return func(ctx context.Context, h install.Host) (install.Conn, error) {
		c, err := Connect(ctx, h.Name, h.Addr, opt)
		if err != nil {
			return nil, err
		}
		if err := c.Begin(ctx, p); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	}
}

func connect(ctx context.Context, name, at string, opt Options, conf *ssh.ClientConfig) (*Host, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err // it names the address
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, chans, reqs, err := ssh.NewClientConn(conn, at, conf)
	if err != nil {
		conn.Close()
		var unknown *UnknownKey
		var changed *ChangedKey
		switch {
		case errors.As(err, &unknown):
			return nil, unknown
		case errors.As(err, &changed):
			return nil, changed
		case ctx.Err() != nil:
			return nil, fmt.Errorf("log in: %w", context.Cause(ctx))
		// The second is how the library tells of a server that offers
		// keyboard-interactive and refuses it before it asks.
		case strings.Contains(err.Error(), "unable to authenticate"), strings.Contains(err.Error(), "unexpected message type 51"):
			return nil, &Denied{opt.user()}
		}
		return nil, fmt.Errorf("log in: %w", err)
	}
	h := &Host{name: name, client: ssh.NewClient(c, chans, reqs)}
	if opt.user() != "root" {
		h.sudo = "sudo -n "
	}
	alive, stop := context.WithCancel(context.Background())
	h.stop = stop
	go h.watch(alive)
	return h, nil
}

// watch ends a connection whose other side has gone without a word.
func (h *Host) watch(ctx context.Context) {
	t := time.NewTicker(aliveEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		heard := make(chan struct{})
		go func() {
			// An error means that it is over already.
			_, _, _ = h.client.SendRequest("keepalive@openssh.com", true, nil)
			close(heard)
		}()
		select {
		case <-heard:
		case <-ctx.Done():
			return
		case <-time.After(aliveTries * aliveEvery):
			h.client.Close()
			return
		}
	}
}

// Run runs a command of the shell with input, and returns what it said.
func (h *Host) Run(ctx context.Context, command string, in io.Reader) (string, error) {
	s, err := h.client.NewSession()
	if err != nil {
		return "", fmt.Errorf("open a session: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	var out bytes.Buffer
	said := &text.Tail{Most: maxSaid}
	s.Stdin, s.Stdout, s.Stderr = in, &out, said
	if err := s.Run(h.sudo + command); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("%w: %s", err, text.Clean(said.String()))
	}
	return out.String(), nil
}

// quote makes one word of the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// sendScript makes a folder for the program and puts it there: what comes by
// standard input, or a copy of the file $2. A program that did not arrive whole, by its SHA-256 $1,
// leaves nothing.
const sendScript = `set -eu
umask 077
dir=$(mktemp -d ` + install.SentPrefix + `XXXXXXXXXX)
trap 'rm -rf "$dir"' EXIT
cat ${2+"$2"} >"$dir/holdfast"
chmod 700 "$dir/holdfast"
[ "$1" = "$(sha256sum "$dir/holdfast" | cut -d" " -f1)" ] || { echo "the program did not arrive whole" >&2; exit 1; }
trap - EXIT
echo "$dir"`

// Program is this program, to be sent.
type Program struct {
	File string
	Sum  string // SHA-256, hexadecimal
	Size int64
}

// ReadProgram reads the file's hash.
func ReadProgram(file string) (Program, error) {
	f, err := os.Open(file)
	if err != nil {
		return Program{}, fmt.Errorf("read the program to send: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return Program{}, fmt.Errorf("read the program to send: %w", err)
	}
	return Program{File: file, Sum: hex.EncodeToString(sum.Sum(nil)), Size: n}, nil
}

// Begin sends the program and starts it.
func (h *Host) Begin(ctx context.Context, p Program) error {
	f, err := os.Open(p.File)
	if err != nil {
		return fmt.Errorf("send the program: %w", err)
	}
	defer f.Close()
	script := "sh -c " + quote(sendScript) + " sh " + p.Sum
	var in io.Reader = f
	// Where the same one is installed it need not travel. Without it sha256sum fails.
	if out, err := h.Run(ctx, "sha256sum "+quote(install.Program), nil); err == nil && strings.HasPrefix(out, p.Sum) {
		script, in = script+" "+quote(install.Program), nil
	}
	out, err := h.Run(ctx, script, in)
	if err != nil {
		return fmt.Errorf("send the program: %w", err)
	}
	dir := strings.TrimSpace(out)
	if !strings.HasPrefix(dir, "/") || strings.ContainsAny(dir, "\n") {
		return fmt.Errorf("send the program: the host said %q in place of a folder", text.Clean(dir))
	}
	session, err := h.client.NewSession()
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	to, err := session.StdinPipe()
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	from, err := session.StdoutPipe()
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	// Only the first call of Wait comes back.
	t := newTalk(to, from, sync.OnceValue(session.Wait), func() { h.client.Close() })
	session.Stderr = t.said
	if err := session.Start(h.sudo + quote(dir+"/holdfast") + " on-host " + quote(dir)); err != nil {
		return fmt.Errorf("start the program there: %w", err)
	}
	h.talk = t
	return nil
}

// Close ends the program there, which takes back what was not confirmed, and
// waits for its end.
func (h *Host) Close() (err error) {
	if h.talk != nil {
		h.in.Close() // its end is told by Wait
		t := time.AfterFunc(dialWithin, func() { h.client.Close() })
		if err = h.wait(); err != nil {
			err = fmt.Errorf("end the installation on %s: %w: %s", h.name, err, text.Clean(h.said.String()))
		}
		t.Stop()
	}
	h.stop()
	h.client.Close() // nothing is to be lost any more
	return err
}
