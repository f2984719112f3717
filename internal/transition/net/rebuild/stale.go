package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/neutron"
)

// collections are the kinds of objects that are removed and changed by the API, in the order in which they can be
// removed, and the names of their collections.
var collections = []struct{ kind, name string }{
	{"port", "ports"}, {"subnet", "subnets"}, {"network", "networks"}, {"security_group_rule", "security-group-rules"},
	{"security_group", "security-groups"},
}

// pending is what is to be done.
type pending struct {
	left         []net.Difference
	stale        *net.Stale
	known, extra map[string]bool     // as of net.MadeByNeutron
	half         map[string]bool     // ports that were made, and are not bound
	absent       map[string]bool     // IDs of what the platform lacks
	served       map[string][]string // service types of its subnets, by ID
}

// renewed are the objects of a kind that are to be written anew.
func (p *pending) renewed(kind string) map[string]bool {
	out := map[string]bool{}
	for id := range p.stale.Changed[kind] {
		out[id] = true
	}
	return out
}

func ids(of map[string]bool) []string { return slices.Sorted(maps.Keys(of)) }

// allowed refuses a document that leaves out what nobody has allowed to be left out.
func allowed(d *net.Document, leaveOut []string) error {
	not := d.NotAllowed(leaveOut)
	if len(not) == 0 {
		return nil
	}
	var lines, names []string
	for _, k := range not {
		lines, names = append(lines, k.String()), append(names, k.Name)
	}
	return fail.Errorf(fail.Refused, "the document leaves out what the old platform has:\n%s", strings.Join(lines, "\n")).
		With("What is left out must be made on the new platform otherwise, or is not needed there. To go on without " +
			"it: --leave-out " + strings.Join(names, ","))
}

// scopes is the alias of address scopes, by one of which it is proved whose a database is.
const scopes = "address-scope"

// able refuses a platform that lacks an extension which is needed. It returns those that it has.
func able(ctx context.Context, d *net.Document, c *neutron.Client, endpoint string) (has map[string]bool, err error) {
	if has, err = c.Extensions(ctx); err != nil {
		return nil, err
	}
	if !has[extension] {
		return nil, fail.Errorf(fail.Refused, "%s: Neutron does not let clients choose ids: it has no extension %s", endpoint, extension).
			With(neutron.InstallExtension)
	}
	needs := d.Needs()
	var lines []string
	for _, alias := range slices.Sorted(maps.Keys(needs)) {
		if !has[alias] {
			lines = append(lines, alias+": "+needs[alias])
		}
	}
	if len(lines) > 0 {
		return nil, fail.Errorf(fail.Refused, "%s: Neutron lacks extensions for what the document has (the first "+
			"object of each):\n%s", endpoint, strings.Join(lines, "\n")).
			With("Load their plug-ins there: service_plugins of neutron.conf, extension_drivers of ML2. Nothing was written.")
	}
	return has, nil
}

// compare gives the differences of a document and a platform, and what of these is stale.
func compare(ctx context.Context, d *net.Document, c *neutron.Client, o Order) (*pending, error) {
	was, err := applied(o.Applied)
	if err != nil {
		return nil, err
	}
	is, err := c.Read(ctx, slices.Concat(d.SecurityGroups, was.SecurityGroups))
	if err != nil {
		return nil, err
	}
	p := &pending{half: map[string]bool{}, absent: map[string]bool{}, served: map[string][]string{}}
	for _, s := range is.Subnets {
		p.served[s.ID] = s.ServiceTypes
	}
	if p.left, err = differences(d, is, o.ReserveDHCP); err != nil {
		return nil, err
	}
	p.left = slices.DeleteFunc(p.left, net.ExtraAddresses)
	for _, x := range p.left {
		if x.Field == "object" && x.New == nil {
			p.absent[x.ID] = true
		}
	}
	p.known, p.extra = d.MadeByNeutron(is)
	if o.ReserveDHCP {
		was.ReserveDHCP()
	}
	touched, err := differences(was, is, o.ReserveDHCP)
	if err == nil {
		p.stale, err = net.FindStale(was, p.left, touched)
	}
	return p, err
}

func differences(d, is *net.Document, reserve bool) ([]net.Difference, error) {
	d = d.WithoutHosts(is)
	left, err := net.Diff(d, is)
	if err == nil && reserve {
		left = net.HandedOver(d, left)
	}
	return left, err
}

// applied is what a file keeps of what was applied: an empty document where there is none yet.
func applied(file string) (*net.Document, error) {
	if file == "" {
		return &net.Document{}, nil
	}
	text, err := slurp(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &net.Document{}, nil
	}
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "read what was applied: %w", err)
	}
	d, err := net.ParseKept(file, text)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "read what was applied: %w",
			err).With("Give the file that an earlier apply has kept, or the name of one that is not there yet.")
	}
	return d, nil
}

// keep notes what is about to be applied, beside all that was before, or what is applied now.
func keep(file string, d *net.Document, about bool) error {
	if file == "" {
		return nil
	}
	if about {
		was, err := applied(file)
		if err != nil {
			return err
		}
		d = was.With(d)
	}
	if err := dump(d, file); err != nil {
		return fmt.Errorf("keep what is applied: %w", err)
	}
	return nil
}

// again are the objects that hold a port which is removed, or are to hold other ports: they are removed, and made anew.
func again(d *net.Document, stale *net.Stale) map[string][]string {
	out := map[string]map[string]bool{}
	for _, kind := range []string{"trunk", "router", "floatingip"} {
		out[kind] = map[string]bool{}
		maps.Copy(out[kind], stale.Gone[kind])
		for id := range stale.Changed[kind] {
			out[kind][id] = true
		}
	}
	gone := stale.Gone["port"]
	for _, t := range d.Trunks {
		if gone[t.PortID] || slices.ContainsFunc(t.SubPorts, func(p net.SubPort) bool { return gone[p.PortID] }) {
			out["trunk"][t.ID] = true
		}
	}
	for _, p := range d.Ports {
		switch {
		case !gone[p.ID]:
		case p.DeviceOwner == net.FloatingOwner:
			out["floatingip"][p.DeviceID] = true
		case p.DeviceOwner == net.GatewayOwner || p.DeviceOwner == net.InterfaceOf:
			out["router"][p.DeviceID] = true
		}
	}
	for _, f := range d.FloatingIPs {
		if f.RouterID != nil && out["router"][*f.RouterID] || f.PortID != nil && gone[*f.PortID] {
			out["floatingip"][f.ID] = true
		}
	}
	return map[string][]string{"trunk": ids(out["trunk"]), "router": ids(out["router"]), "floatingip": ids(out["floatingip"])}
}

// remove removes what is in the document no more, and what has to be made anew. A port of a trunk, router or floating IP can
// not be removed before that.
func (w *writer) remove(ctx context.Context) error {
	holders := again(w.d, w.p.stale)
	holders["rbac_policy"] = ids(w.p.stale.Gone["rbac_policy"])
	for _, kind := range []string{"rbac_policy", "trunk", "floatingip", "router"} {
		if err := w.db.Remove(ctx, kind, holders[kind]); err != nil {
			return err
		}
	}
	for _, of := range collections {
		gone := ids(w.p.stale.Gone[of.kind])
		if len(gone) == 0 {
			continue
		}
		err := each(ctx, of.name+" that are removed", gone, w.jobs, w.tell, func(ctx context.Context, id string) error {
			return w.take(refusal{kind: of.kind, id: id}, w.c.Delete(ctx, of.name, id))
		})
		if err != nil {
			return err
		}
	}
	for _, kind := range []string{"address_group", "qos_policy", "subnetpool", "address_scope"} { // what others name
		if err := w.db.Remove(ctx, kind, ids(w.p.stale.Gone[kind])); err != nil {
			return err
		}
	}
	return nil
}

// change changes objects that others depend on.
func (w *writer) change(ctx context.Context) error {
	for _, of := range collections {
		for _, id := range slices.Sorted(maps.Keys(w.p.stale.Changed[of.kind])) {
			fields := maps.Clone(w.p.stale.Changed[of.kind][id])
			maps.DeleteFunc(fields, func(f string, _ json.RawMessage) bool { return net.Later(of.kind, f) })
			if len(fields) == 0 {
				continue
			}
			if err := w.take(refusal{kind: of.kind, id: id}, w.c.Change(ctx, of.name, of.kind, id, fields)); err != nil {
				return err
			}
		}
	}
	return nil
}
