package migration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/lib/clock"
)

// Target is how another host is reached.
type Target struct {
	URI  string // of its libvirtd
	Data string // its address for a guest's memory, as it stands in a URI
	Name string // that its certificate for memory is of
}

// To is the host whose libvirtd is at addr: an IP address or a name, or either with
// :PORT, at which only libvirtd is reached. data is its address or name in the network that
// carries guests' memory; "": as its libvirtd.
func (s Settings) To(addr, data string) Target {
	at, host := addr, bracketed(addr)
	if host != addr {
		at = host
	} else if h, _, err := net.SplitHostPort(addr); err == nil {
		if host = h; strings.Contains(h, ":") {
			host = "[" + h + "]"
		}
	}
	t := Target{URI: strings.Replace(s.uri, "%s", at, 1), Data: host, Name: strings.Trim(host, "[]")}
	if data != "" {
		t.Data = bracketed(data)
	}
	return t
}

// bracketed is an address or a name as it stands in a URI.
func bracketed(addr string) string {
	if ip, err := netip.ParseAddr(addr); err == nil && ip.Is6() {
		return "[" + addr + "]"
	}
	return addr
}

// A libvirtd from which the guest has just gone takes some 0.2 s until it lets it
// in again, more on a busy host: it refuses at once, and is asked again.
const (
	busyTries = 10
	busyPause = 150 * time.Millisecond
)

// Call is what libvirtd is asked for. It carries out the whole migration by itself,
// together with the target's (VIR_MIGRATE_PEER2PEER).
type Call struct {
	Target
	TLS     bool                         // memory travels encrypted
	Flags   golibvirt.DomainMigrateFlags // besides
	Params  []golibvirt.TypedParam       // besides
	Refused func(error) bool             // tells the refusal of a target that lets the guest in a moment later
}

// Perform makes the call.
func (c Call) Perform(ctx context.Context, l *golibvirt.Libvirt, dom golibvirt.Domain) error {
	flags := c.Flags | golibvirt.MigratePeer2peer
	params := append([]golibvirt.TypedParam{Param(golibvirt.MigrateParamURI, "tcp://"+c.Data)}, c.Params...)
	if c.TLS { // the certificate is for this name, whatever network carries the memory
		flags |= golibvirt.MigrateTLS
		params = append(params, Param(golibvirt.MigrateParamTLSDestination, c.Name))
	}
	if flags&golibvirt.MigrateOffline != 0 {
		params = nil // there is nothing to send
	}
	for try := 1; ; try++ {
		_, err := l.DomainMigratePerform3Params(dom, golibvirt.OptString{c.URI}, params, nil, flags)
		if !c.Refused(err) || try == busyTries || !clock.Sleep(ctx, busyPause) {
			return err
		}
	}
}

// Param is one that is a text.
func Param(field, value string) golibvirt.TypedParam {
	return golibvirt.TypedParam{Field: field, Value: *golibvirt.NewTypedParamValueString(value)}
}

const (
	// leftPoll is how often it is looked whether the guest has left: it stands still until
	// that is seen, and the call looks for the end of the process only every 200 ms.
	leftPoll = 5 * time.Millisecond
	// ProgressPause separates two looks at the progress.
	Pause = 500 * time.Millisecond
	// AbortPause separates two requests to abort. One is not enough: libvirtd also
	// accepts it, without effect, while the target still prepares.
	AbortPause = 50 * time.Millisecond
)

// Attend waits for the end of a migration's call, for the guest's departure or for the end of ctx.
// over: the call has ended, with err, or the guest has left. tell is called when the
// progress may be told; nil: nobody asks for it.
func Attend(ctx context.Context, done <-chan error, left func() bool, tell func()) (over bool, err error) {
	tick, look := time.NewTicker(Pause), time.NewTicker(leftPoll)
	defer tick.Stop()
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return true, err
		case <-ctx.Done():
			return false, ctx.Err()
		case <-look.C:
			if left() {
				return true, nil
			}
		case <-tick.C:
			if tell != nil {
				tell()
			}
		}
	}
}

// ErrCalled: a migration was asked for, and the call has not returned.
var ErrCalled = errors.New("the migration did not end")

// AbortUntil asks for the end of a migration until its call has returned, and
// returns that call's error.
func AbortUntil(ctx context.Context, done <-chan error, abort func() error) error {
	for {
		why := abort()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrCalled, errors.Join(ctx.Err(), why))
		case <-time.After(AbortPause):
		}
	}
}

// Abort asks for the end of an outgoing migration, and tells whether there was one.
func Abort(l *golibvirt.Libvirt, dom golibvirt.Domain) (was bool, err error) {
	op, err := OperationOf(l, dom)
	if err != nil || !op.Leaving() {
		return false, err
	}
	return true, l.DomainAbortJob(dom)
}
