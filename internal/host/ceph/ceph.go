package ceph

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/text"
)

// Times.
const (
	// askWithin bounds one program. With a cluster that answers it takes 0.1 to 1 s.
	askWithin = 20 * time.Second
	// lookAgain is the time between two looks at an image that can be used.
	lookAgain = 30 * time.Second
	// readAgain is the time between two looks whether a client is locked out.
	readAgain = 100 * time.Millisecond
	// shutFor is how long a client of another host stays on the blocklist: longer than
	// any process stands still that somebody lets go on.
	shutFor = 30 * 24 * time.Hour
	// shutHere is the same for one of this host, whose process has been proved gone: its
	// entry only keeps the image's lock from being waited for.
	shutHere = time.Hour
)

// needed is the feature by which clients of an image agree on who writes.
const needed = "exclusive-lock"

// nobody is an address that no client has (RFC 5737), to try whether the user may
// lock clients out.
const nobody = "192.0.2.1:0/1"

// Run runs a program with its standard input, and returns its standard output.
type Run func(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error)

// Options of a Client.
type Options struct {
	RBD   cluster.RBD
	Run   Run                   // default: Program
	Local func(netip.Addr) bool // whether an address is this host's; default: what its interfaces say
}

// Client knows one image.
type Client struct {
	Options
	tried   bool // the user may lock clients out; of lookOnce
	mu      sync.Mutex
	known   chan struct{} // closed when found is something
	found   error
	next    time.Time // before it no look is due
	looking bool
}

// New makes a Client; it asks nobody yet.
func New(o Options) *Client {
	if o.Run == nil {
		o.Run = Program
	}
	if o.Local == nil {
		o.Local = local
	}
	return &Client{Options: o}
}

// local asks the interfaces each time: addresses come and go.
func local(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Unmap() == a
	})
}

// Program runs a program of this host's.
func Program(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
	return program(ctx, stdin, (*exec.Cmd).Start, name, args...)
}

func program(ctx context.Context, stdin []byte, start func(*exec.Cmd) error, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.WaitDelay = bytes.NewReader(stdin), time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%s is not installed on this host: install ceph-common", name)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: no answer from the cluster: %w", name, ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %s", name, err, lastLine(said.String()))
	}
	return out.Bytes(), nil
}

// lastLine is what a program of Ceph says at last, without its time and thread.
func lastLine(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return text.Clean(stamp.ReplaceAllString(lines[len(lines)-1], ""))
}

var stamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+ [0-9a-f]+ +-?\d+ `)

// ask runs a program as the image's user.
func (c *Client) ask(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
	i := c.RBD
	return c.Run(ctx, stdin, name, append([]string{"-c", conf(), "--id", i.User, "--keyring", i.Keyring, "-m",
		strings.Join(i.Mons, ",")}, args...)...)
}

// conf is the host's configuration of Ceph, as QEMU reads it, too. There need not be one.
func conf() string {
	const file = "/etc/ceph/ceph.conf"
	if _, err := os.Stat(file); err != nil {
		return os.DevNull
	}
	return file
}

func (c *Client) image() string { return c.RBD.Pool + "/" + c.RBD.Image }

// askJSON runs a program that answers in JSON.
func (c *Client) askJSON(ctx context.Context, to any, name string, args ...string) error {
	out, err := c.ask(ctx, nil, name, append(args, "--format", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, to); err != nil {
		return fmt.Errorf("%s %s: its answer can not be read: %w", name, args[0], err)
	}
	return nil
}

// Info is what the cluster says of the image.
type Info struct {
	ID       string   `json:"id"` // of the image in its pool
	Size     int64    `json:"size"`
	Features []string `json:"features"`
}

// Info asks for the image.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var i Info
	err := c.askJSON(ctx, &i, "rbd", "info", c.image())
	if err == nil && (i.ID == "" || i.Size <= 0) {
		err = errors.New("rbd info: the answer has no id, or no size")
	}
	if err != nil {
		return Info{}, fmt.Errorf("image %s: %w", c.image(), err)
	}
	return i, nil
}

// Cluster is the id of the cluster.
func (c *Client) Cluster(ctx context.Context) (string, error) {
	out, err := c.ask(ctx, nil, "ceph", "fsid")
	id := strings.TrimSpace(string(out))
	if err == nil && (len(id) != 36 || strings.Trim(id, "0123456789abcdef-") != "") {
		err = fmt.Errorf("ceph fsid: its answer %q can not be read", text.Clean(id))
	}
	return id, err
}

// Check tells whether the image can be used from this host: the cluster answers, the
// image is there and has the feature that is needed, and its user may lock others out.
// The last is tried with an address that nobody has, once. What was found is told until
// something newer is known: on a busy host the programs take longer than a caller has
// time, and whether the cluster answers is for Probe to find out.
func (c *Client) Check(ctx context.Context) error {
	if _, err := c.Key(); err != nil {
		return err
	}
	select {
	case <-c.look():
	case <-ctx.Done():
		return fmt.Errorf("image %s: the cluster has not answered yet: %w", c.image(), ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found
}

// look begins a look at the image where one is due. The channel is closed when
// something is known.
func (c *Client) look() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(chan struct{})
	}
	if c.looking || time.Now().Before(c.next) {
		return c.known
	}
	c.looking = true
	go func() {
		err := c.lookOnce(context.Background()) // each program has its own time
		c.mu.Lock()
		defer c.mu.Unlock()
		c.looking, c.found, c.next = false, err, time.Now().Add(lookAgain)
		if err != nil {
			c.next = time.Time{}
		}
		select {
		case <-c.known:
		default:
			close(c.known)
		}
	}()
	return c.known
}

func (c *Client) lookOnce(ctx context.Context) error {
	i, err := c.Info(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(i.Features, needed) {
		return fmt.Errorf("image %s lacks the feature %s: rbd feature enable %s %s", c.image(), needed, c.image(), needed)
	}
	if c.tried {
		return nil
	}
	if err := c.shut(ctx, nobody, time.Second); err != nil {
		return fmt.Errorf("the user %s can not lock a lost host's client out (ceph auth caps client.%s mon 'profile "+
			"rbd' osd 'profile rbd pool=%s'): %w", c.RBD.User, c.RBD.User, c.RBD.Pool, err)
	}
	c.tried = true
	return nil
}

// Key reads the user's key from its keyring.
func (c *Client) Key() ([]byte, error) {
	ring, err := durable.ReadSecret(c.RBD.Keyring)
	if err != nil {
		return nil, fmt.Errorf("keyring of the Ceph user %s: %w", c.RBD.User, err)
	}
	mine := false
	for line := range strings.Lines(ring) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			mine = line == "[client."+c.RBD.User+"]"
		}
		name, value, ok := strings.Cut(line, "=")
		if !mine || !ok || strings.TrimSpace(name) != "key" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		if err != nil || len(key) == 0 {
			return nil, fmt.Errorf("keyring %s: the key of client.%s can not be read", c.RBD.Keyring, c.RBD.User)
		}
		return key, nil
	}
	return nil, fmt.Errorf("keyring %s has no key of client.%s (ceph auth get client.%s -o %s)", c.RBD.Keyring,
		c.RBD.User, c.RBD.User, c.RBD.Keyring)
}

// Evict locks out every client that has the image open or holds its lock, and returns
// them. nil: none of them can write any more; this was read back. It is for the host that
// is about to start a guest on the image, and has none.
func (c *Client) Evict(ctx context.Context) (gone []string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("lock out who has image %s open: %w", c.image(), err)
		}
	}()
	open, err := c.watchers(ctx)
	if err != nil {
		return nil, err
	}
	lockers, err := c.lockers(ctx)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(open, lockers)
	slices.SortFunc(all, func(x, y client) int { return strings.Compare(x.name, y.name) })
	if all = slices.Compact(all); len(all) == 0 {
		return nil, nil
	}
	shut := map[string]bool{}
	if len(all) > len(open) { // of who has it open nobody is locked out
		if shut, err = c.shutOut(ctx); err != nil {
			return nil, err
		}
	}
	for _, a := range all {
		if shut[a.name] {
			continue
		}
		long := shutFor
		if c.Local(a.ip) {
			long = shutHere
		}
		if err := c.shut(ctx, a.name, long); err != nil {
			return nil, err
		}
		gone = append(gone, a.name)
	}
	for {
		if err = c.isShut(ctx, all); err == nil {
			return gone, nil
		}
		if !clock.Sleep(ctx, readAgain) {
			return gone, errors.Join(err, ctx.Err())
		}
	}
}

// isShut reads back that clients are on the blocklist, and that nobody has the image
// open.
func (c *Client) isShut(ctx context.Context, all []client) error {
	shut, err := c.shutOut(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		if !shut[a.name] {
			return fmt.Errorf("%s is not on the blocklist", a.name)
		}
	}
	open, err := c.watchers(ctx)
	if err == nil && len(open) > 0 {
		err = fmt.Errorf("%s still has the image open", open[0].name)
	}
	return err
}

// shut puts a client's address on the blocklist. Who was stopped on the way here, and
// goes on when its time is over, must not lock out who came after it.
func (c *Client) shut(ctx context.Context, name string, long time.Duration) error {
	if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
		return context.DeadlineExceeded
	}
	_, err := c.ask(ctx, nil, "ceph", "osd", "blocklist", "add", name, fmt.Sprint(int(long.Seconds())))
	return err
}

// Open tells who has the image open on this host, and who elsewhere. A process that was
// locked out has not, and never will again.
func (c *Client) Open(ctx context.Context) (here, elsewhere []string, err error) {
	open, err := c.watchers(ctx)
	for _, a := range open {
		if c.Local(a.ip) {
			here = append(here, a.name)
		} else {
			elsewhere = append(elsewhere, a.name)
		}
	}
	return here, elsewhere, err
}

// Probe writes an object of this host's into the pool and reads it back.
func (c *Client) Probe(ctx context.Context, host string) error {
	object, want := "holdfast-probe-"+host, randText()
	_, err := c.Key() // without it the programs look for another cluster's for long
	if err == nil {
		_, err = c.ask(ctx, want, "rados", "-p", c.RBD.Pool, "put", object, "-")
	}
	var got []byte
	if err == nil {
		got, err = c.ask(ctx, nil, "rados", "-p", c.RBD.Pool, "get", object, "-")
	}
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("object %s: what was written reads back as something else", object)
	}
	if err != nil {
		return fmt.Errorf("probe the pool %s: %w", c.RBD.Pool, err)
	}
	return nil
}
