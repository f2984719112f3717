package openstack

import (
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/transition/cloud"
)

//go:embed inside.sh
var insideScript []byte

// userData is for the new guest: a script that cloud-init, and what is like it, runs at the first boot.
func userData() string { return base64.StdEncoding.EncodeToString(insideScript) }

// toldLine is what the script writes onto the console. Serial consoles end their lines with \r\n.
var toldLine = regexp.MustCompile(`holdfast-feature addresses ([0-9. ]*)told ([0-9a-f -]*)end\s`)

// dhcp are the IDs of the IPv4 subnets of a network that have DHCP.
func (c platform) dhcp(ctx context.Context, network string) (ids []string, err error) {
	var got struct {
		Subnets []struct {
			ID string `json:"id"`
		} `json:"subnets"`
	}
	query := url.Values{"network_id": {network}, "ip_version": {"4"}, "enable_dhcp": {"true"}}
	err = cloud.Get(ctx, c.Neutron, "subnets?"+query.Encode(), 0, &got)
	for _, s := range got.Subnets {
		ids = append(ids, s.ID)
	}
	return ids, err
}

// inside waits until the new guest has written onto its console which addresses it has, and of which guest the
// metadata service tells it, and compares both.
func (r *run) inside(ctx context.Context) error {
	if r.fresh == "" {
		return errors.New("there is no new guest to ask")
	}
	want, err := r.leased(ctx)
	if err != nil {
		return err
	}
	var line []string
	err = r.await(ctx, func(ctx context.Context) (wrong string, err error) {
		text, err := r.console(ctx, r.fresh)
		if line = toldLine.FindStringSubmatch(text); err == nil && line != nil {
			return "", nil
		}
		wrong = "its console has told nothing: want an image with cloud-init and a serial console, and a way to 169.254.169.254"
		if err != nil { // a guest that begins has no console for Nova; the next look may find one
			wrong += ": " + err.Error()
		}
		return wrong, nil
	})
	if err != nil {
		return err
	}
	return insideIs(strings.Fields(line[1]), strings.Fields(line[2]), want, r.fresh)
}

// insideIs compares what the guest has told with its addresses by DHCP and its UUID.
func insideIs(has, told, want []string, id string) error {
	var bad []error
	for _, a := range want {
		if !slices.Contains(has, a) {
			bad = append(bad, fmt.Errorf("it did not get %s by DHCP: it has the IPv4 addresses %q", a, has))
		}
	}
	if !slices.Contains(told, id) {
		bad = append(bad, fmt.Errorf("http://169.254.169.254 did not tell it that it is %s: it told of the guests %q", id, told))
	}
	return errors.Join(bad...)
}

// leased are the new guest's IPv4 addresses that come by DHCP.
func (r *run) leased(ctx context.Context) (out []string, err error) {
	ports, err := r.portsOf(ctx, r.fresh)
	for _, p := range ports {
		subnets, serr := r.dhcp(ctx, p.Network)
		err = errors.Join(err, serr)
		for _, f := range p.Fixed {
			if a, aerr := netip.ParseAddr(f.Address); aerr == nil && a.Is4() && slices.Contains(subnets, f.Subnet) {
				out = append(out, f.Address)
			}
		}
	}
	if err == nil && len(out) == 0 {
		err = errors.New("its port has no IPv4 address that comes by DHCP")
	}
	return out, err
}

// console is what a server has written onto its serial console; "" as long as there is nothing of it.
func (c platform) console(ctx context.Context, id string) (string, error) {
	var got struct {
		Output string `json:"output"`
	}
	_, _, err := cloud.Send(ctx, c.Nova, "POST", "servers/"+id+"/action", cloud.Base, map[string]any{"os-getConsoleOutput": struct{}{}}, &got)
	return got.Output, err
}
