// Package firewall lets other hosts of a cluster through this host's firewall:
// rules that accept some ports from some addresses, put where packets would be
// dropped. (docs/adr/0043)
//
// Which firewall there is, the host is asked: firewalld, else ufw, else the rules
// of nftables and iptables. Ours have a mark each, so that they can be found,
// replaced and removed: the comment "holdfast", or in firewalld, which has no
// comments, the priority of the rule. No file of the operator is edited.
package firewall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
)

// FileName of the rules that this host keeps, beside the agent's settings.
const FileName = "firewall.json"

// mark is the comment of our rules.
const mark = "holdfast"

// every is how often an agent looks whether the rules are still there.
const every = time.Minute

// commandWithin bounds one call of a firewall's program.
const commandWithin = 30 * time.Second

// Rule accepts packets from one address to a range of ports.
type Rule struct {
	From  netip.Addr `json:"from"`
	Proto string     `json:"protocol"` // tcp, udp
	First int        `json:"first"`
	Last  int        `json:"last"`
}

// ports are as N, or as N and M with sep between them.
func (r Rule) ports(sep string) string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return strconv.Itoa(r.First) + sep + strconv.Itoa(r.Last)
}

// Kinds of firewalls.
const (
	Firewalld = "firewalld"
	UFW       = "ufw"
	NFTables  = "nftables"
	IPTables  = "iptables"
)

// Found is what filters packets to this host. Kinds is empty when nothing does.
type Found struct {
	Kinds []string `json:"kinds,omitempty"`
	Where []string `json:"where,omitempty"` // chains, or the zone
}

// Firewall is this host's.
type Firewall struct {
	// Run runs a program with an input and returns its output; tests put theirs here.
	Run func(ctx context.Context, input, name string, args ...string) (string, error)
	// Addr is this host's address among the hosts; firewalld has a zone for its interface.
	Addr string
	// Proc is /proc; files in its net folder name the tables of iptables-legacy.
	Proc string
}

// New is the firewall of the host that this program runs on.
func New(addr string) Firewall { return Firewall{Run: command, Addr: addr, Proc: "/proc"} }

func command(ctx context.Context, input, name string, args ...string) (string, error) {
	out, said, err := proc.Run(ctx, commandWithin, input, name, args...)
	if err != nil {
		return out, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), proc.Told(err, said))
	}
	return out, nil
}

// absent reports that a program is not on this host.
func absent(err error) bool { return errors.Is(err, exec.ErrNotFound) }

// backend is one place where rules can be.
type backend interface {
	// look says what filters there; "" nothing does.
	look(context.Context) (where []string, err error)
	// apply makes the rules those of ours that are there, and reports how many it changed.
	// nil: none of ours stays.
	apply(context.Context, []Rule) (int, error)
}

// backends are those that this host has, by kind. managed: what firewalld or ufw has put
// into the kernel is theirs to change.
func (f Firewall) backends(ctx context.Context) (kinds []string, all map[string]backend, managed bool, err error) {
	all = map[string]backend{}
	add := func(kind string, b backend) {
		kinds = append(kinds, kind)
		all[kind] = b
	}
	if out, err := f.Run(ctx, "", "firewall-cmd", "--state"); err == nil && strings.TrimSpace(out) == "running" {
		add(Firewalld, firewalld{f})
		return kinds, all, true, nil
	}
	out, err := f.Run(ctx, "", "ufw", "status")
	if err != nil && !absent(err) {
		return nil, nil, false, fmt.Errorf("ask ufw for its state: %w", err)
	}
	if strings.HasPrefix(strings.TrimSpace(out), "Status: active") {
		add(UFW, ufw{f})
		return kinds, all, true, nil
	}
	n := &nft{f: f}
	if n.rules, err = f.ruleset(ctx); err != nil {
		return nil, nil, false, err
	}
	if n.rules != nil {
		add(NFTables, n)
	}
	tables, err := f.iptables(ctx, n)
	if err != nil {
		return nil, nil, false, err
	}
	if len(tables) > 0 {
		add(IPTables, iptables(tables))
	}
	return kinds, all, false, nil
}

// Look asks what filters packets to this host. Nothing is changed.
func (f Firewall) Look(ctx context.Context) (found Found, err error) {
	kinds, all, _, err := f.backends(ctx)
	if err != nil {
		return found, err
	}
	for _, k := range kinds {
		where, err := all[k].look(ctx)
		if err != nil {
			return found, err
		}
		if len(where) > 0 {
			found.Kinds, found.Where = append(found.Kinds, k), append(found.Where, where...)
		}
	}
	return found, nil
}

// Apply makes the rules those of ours that are there, wherever packets would be dropped,
// and reads them back. It reports how many it added and removed. Without rules none of
// ours stays.
func (f Firewall) Apply(ctx context.Context, rules []Rule) (changed int, err error) {
	kinds, all, _, err := f.backends(ctx)
	if err != nil {
		return 0, err
	}
	for _, k := range kinds {
		n, err := all[k].apply(ctx, rules)
		changed += n
		if err != nil {
			return changed, fmt.Errorf("open %s: %w", k, err)
		}
	}
	if changed == 0 {
		return 0, nil
	}
	if _, all, _, err = f.backends(ctx); err != nil {
		return changed, fmt.Errorf("read the firewall back: %w", err)
	}
	for _, k := range kinds {
		if all[k] == nil {
			continue // a table that had nothing but ours
		}
		n, err := all[k].apply(ctx, rules)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d rules were not there after they were set, or there after they were removed: what else changes the firewall?", n)
		}
		if err != nil {
			return changed, fmt.Errorf("read %s back: %w", k, err)
		}
	}
	return changed, nil
}

// lockFile keeps an agent from mending what an installation is changing.
const lockFile = "/run/holdfast-firewall.lock"

// Lock takes this host's firewall for the one who changes it; nil: somebody else has it.
func Lock() (unlock func(), err error) {
	file, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the firewall: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock the firewall: %w", err)
	}
	return func() { file.Close() }, nil
}

// File has the rules that a host keeps.
type File struct {
	Addr  string `json:"addr"` // of this host
	Rules []Rule `json:"rules"`
}

// Read reads the rules beside the agent's settings; nil: there is no such file.
func Read(dir string) (*File, error) {
	path := filepath.Join(dir, FileName)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var f File
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i, r := range f.Rules {
		if !r.From.IsValid() || !slices.Contains([]string{"tcp", "udp"}, r.Proto) || r.First < 1 || r.Last < r.First || r.Last > 65535 {
			return nil, fmt.Errorf("%s: rules[%d]: value %+v: want an address, tcp or udp, and ports from 1 to 65535", path, i, r)
		}
	}
	return &f, nil
}

// Mend puts those rules back that a boot, or a firewall that was loaded anew, has
// dropped. firewalld and ufw keep theirs by themselves. While somebody else changes the
// firewall nothing is done.
func (f Firewall) Mend(ctx context.Context, rules []Rule) (changed int, err error) {
	unlock, err := Lock()
	if err != nil || unlock == nil {
		return 0, err
	}
	defer unlock()
	_, _, managed, err := f.backends(ctx)
	if err != nil || managed {
		return 0, err
	}
	return f.Apply(ctx, rules)
}
