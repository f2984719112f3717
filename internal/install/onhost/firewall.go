package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"holdfast/internal/host/firewall"
	"holdfast/internal/install"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
)

// openFile is there while the firewall lets in what is not confirmed.
const openFile = "/var/lib/holdfast-install-firewall"

const (
	closeWithin = time.Minute // to take rules back when the connection has ended
	lockEvery   = 100 * time.Millisecond
)

// filters asks what filters packets to this host, and what of ours it lets in.
func filters(ctx context.Context, addr string, f *install.Facts) error {
	kept, err := firewall.Read(install.ConfDir)
	if err != nil {
		return err
	}
	if kept != nil {
		f.Opened = openingsOf(kept.Rules)
	}
	found, err := firewall.New(addr).Look(ctx)
	if err != nil {
		return err
	}
	f.Firewall = &install.Firewall{Kinds: found.Kinds, Where: found.Where}
	return nil
}

func openingsOf(rules []firewall.Rule) (out []install.Opening) {
	for _, r := range rules {
		out = append(out, install.Opening(r))
	}
	return out
}

// gate is the firewall while an installation changes it: what is not kept is taken back to
// what the file of the host says.
type gate struct {
	conf   string // folder of the host's file
	marker string
	unlock func() // nil: it is as the host's file says
}

func newGate() gate { return gate{conf: install.ConfDir, marker: openFile} }

func (g *gate) open(ctx context.Context, o install.Openings) error {
	for g.unlock == nil {
		unlock, err := firewall.Lock()
		if err != nil {
			return err
		}
		if g.unlock = unlock; unlock == nil && !clock.Sleep(ctx, lockEvery) { // the agent mends
			return context.Cause(ctx)
		}
	}
	if err := durable.WriteFile(g.marker, nil, 0o600); err != nil {
		return fmt.Errorf("note that the firewall is opened: %w", err)
	}
	var rules []firewall.Rule
	for _, r := range o.Rules {
		rules = append(rules, firewall.Rule(r))
	}
	_, err := firewall.New(o.Addr).Apply(ctx, rules)
	return err
}

// keep makes the rules stay.
func (g *gate) keep() error {
	if err := os.Remove(g.marker); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("confirm what was opened: %w", err)
	}
	if g.unlock != nil {
		g.unlock()
		g.unlock = nil
	}
	return nil
}

// undo takes back what was not kept; the file has been put back before.
func (g *gate) undo() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	return g.recover(ctx)
}

// recover takes back what this, or one that died, has opened and not kept.
func (g *gate) recover(ctx context.Context) error {
	if _, err := os.Lstat(g.marker); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	f, err := firewall.Read(g.conf)
	if err != nil {
		return err
	}
	if f == nil {
		f = &firewall.File{}
	}
	if _, err := firewall.New(f.Addr).Apply(ctx, f.Rules); err != nil {
		return fmt.Errorf("take back what was opened: %w", err)
	}
	return g.keep()
}
