package protected

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/text"
)

// Times of the agent in the guest.
const (
	agentSeconds = 3 // that libvirtd waits for its answer: longer than a busy guest needs, shorter than a call of ours may take
	agentPoll    = 200 * time.Millisecond
)

// interfaceName is what the kernel of the guest calls a card; it stands in a command.
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,15}$`)

// SetAddresses gives the cards of the running guest the addresses that they should have on
// this host, by the agent in the guest, and takes those away that they have on other hosts.
// Other addresses stay. It returns what it changed, a line for each card; nil where the
// cards had them. Success is what the agent then says that the cards have.
func (d *Driver) SetAddresses(ctx context.Context, cards []cluster.Card) (changed []string, err error) {
	what := "set the addresses of " + d.opt.Name
	c, err := d.link.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer d.link.Drop(c)
	ask := func(command string, args, into any) error { return d.askGuest(ctx, c, what, command, args, into) }
	script, changed, err := addressScript(ask, cards)
	if err != nil || script == "" {
		return nil, err
	}
	if err := inGuest(ctx, ask, script); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	switch script, left, err := addressScript(ask, cards); {
	case err != nil:
		return nil, err
	case script != "":
		return nil, fmt.Errorf("%s: the guest's agent said that it was done, and it is not: %s", what, strings.Join(left, ", "))
	}
	return changed, nil
}

// asker calls the agent in the guest.
type asker func(command string, args, into any) error

// askGuest sends one command to the agent in the guest and reads its answer.
func (d *Driver) askGuest(ctx context.Context, c *libvirt.Conn, what, command string, args, into any) error {
	request, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return fmt.Errorf("%s: %s: %w", what, command, err)
	}
	var answer golibvirt.OptString
	err = c.Call(ctx, what, func(l *golibvirt.Libvirt) (err error) {
		answer, err = l.QEMUDomainAgentCommand(d.dom, string(request), agentSeconds, 0)
		return err
	})
	if err != nil {
		return noAgent(err)
	}
	var reply struct {
		Return json.RawMessage `json:"return"`
	}
	if err := json.Unmarshal([]byte(strings.Join(answer, "")), &reply); err != nil {
		return fmt.Errorf("%s: answer to %s: %w", what, command, err)
	}
	if err := json.Unmarshal(reply.Return, into); err != nil {
		return fmt.Errorf("%s: answer to %s: %w", what, command, err)
	}
	return nil
}

// noAgent marks the errors of libvirtd that mean that no agent in the guest answers.
func noAgent(err error) error {
	for _, code := range []golibvirt.ErrorNumber{golibvirt.ErrAgentUnresponsive, golibvirt.ErrAgentUnsynced,
		golibvirt.ErrAgentCommandTimeout, golibvirt.ErrArgumentUnsupported} {
		if libvirt.HasCode(err, code) {
			return fmt.Errorf("%w: %w", cluster.ErrNoAgent, err)
		}
	}
	return err
}

// guestInterface is one element of the answer to guest-network-get-interfaces (QEMU Guest
// Agent Protocol Reference).
type guestInterface struct {
	Name      string `json:"name"`
	MAC       string `json:"hardware-address"`
	Addresses []struct {
		IP     string `json:"ip-address"`
		Prefix int    `json:"prefix"`
	} `json:"ip-addresses"`
}

// addressScript asks what the cards have, and makes the commands for what they lack. It is
// one script: should this process end, the guest carries out all of it. It is empty when
// nothing is to be done; changes says for each card what is.
func addressScript(ask asker, cards []cluster.Card) (script string, changes []string, err error) {
	var found []guestInterface
	if err := ask("guest-network-get-interfaces", nil, &found); err != nil {
		return "", nil, err
	}
	var b strings.Builder
	for _, card := range cards {
		i := slices.IndexFunc(found, func(f guestInterface) bool { return strings.EqualFold(f.MAC, card.MAC) })
		if i < 0 {
			return "", nil, fmt.Errorf("the guest's agent names no card with the MAC address %s", card.MAC)
		}
		name := found[i].Name
		if !interfaceName.MatchString(name) {
			return "", nil, fmt.Errorf("the guest's agent says that the card %s is called %q: want the name of "+
				"an interface", card.MAC, text.Line(name, 40))
		}
		var has bool
		var gone []netip.Prefix
		for _, a := range found[i].Addresses {
			ip, err := netip.ParseAddr(a.IP)
			if err != nil {
				continue // with a zone: it is local to the link
			}
			p := netip.PrefixFrom(ip, a.Prefix)
			has = has || p == card.Addr
			if p != card.Addr && (ip == card.Addr.Addr() || slices.Contains(card.Elsewhere, ip)) {
				gone = append(gone, p)
			}
		}
		if has && len(gone) == 0 {
			continue
		}
		changes = append(changes, fmt.Sprintf("%s has %s", card.MAC, card.Addr))
		for _, p := range gone {
			fmt.Fprintf(&b, "ip addr del %s dev %s\n", p, name)
		}
		if !has {
			fmt.Fprintf(&b, "ip link set %s up\nip addr add %s dev %s\n", name, card.Addr, name)
		}
		if card.Gateway.IsValid() {
			family := ""
			if card.Gateway.Is6() {
				family = "-6 "
			}
			fmt.Fprintf(&b, "ip %sroute replace default via %s dev %s\n", family, card.Gateway, name)
		}
	}
	return b.String(), changes, nil
}

// inGuest runs a script of the shell in the guest, and waits for its end.
func inGuest(ctx context.Context, ask asker, script string) error {
	var started struct {
		PID int `json:"pid"`
	}
	args := map[string]any{"path": "/bin/sh", "arg": []string{"-ec", script}, "capture-output": true}
	if err := ask("guest-exec", args, &started); err != nil {
		return err
	}
	for {
		var s struct {
			Exited bool   `json:"exited"`
			Code   int    `json:"exitcode"`
			Signal int    `json:"signal"`
			Err    string `json:"err-data"` // base64
		}
		if err := ask("guest-exec-status", map[string]any{"pid": started.PID}, &s); err != nil {
			return err
		}
		switch {
		case s.Exited && s.Code == 0 && s.Signal == 0:
			return nil
		case s.Signal != 0:
			return fmt.Errorf("the commands in the guest were ended by signal %d", s.Signal)
		case s.Exited:
			said, _ := base64.StdEncoding.DecodeString(s.Err) // what can be read of it
			return fmt.Errorf("the commands in the guest ended with %d: %s", s.Code, text.Line(string(said), 200))
		}
		if !clock.Sleep(ctx, agentPoll) {
			return errors.Join(errors.New("the commands in the guest have not ended"), context.Cause(ctx))
		}
	}
}

// SetPassword gives a user of the guest another password, by the agent in the guest.
// nil means that the agent has said so. The password is in no error.
func (d *Driver) SetPassword(ctx context.Context, user, password string) error {
	what := fmt.Sprintf("set the password of %s in %s", user, d.opt.Name)
	c, err := d.link.Open(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer d.link.Drop(c)
	return noAgent(c.Call(ctx, what, func(l *golibvirt.Libvirt) error {
		return l.DomainSetUserPassword(d.dom, golibvirt.OptString{user}, golibvirt.OptString{password}, 0)
	}))
}
