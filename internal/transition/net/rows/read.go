package rows

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/net"
)

// read are the tables that Read needs, as Neutron has them since 7 (Liberty). Of those in a list the first one that is
// there is read.
var read = [][]string{
	{"agents"}, {"securitygroups"}, {"securitygrouprules"}, {"networks"}, {"networksegments", "ml2_network_segments"},
	{"networkrbacs"}, {"externalnetworks"}, {"networksecuritybindings"},
	{"subnets"}, {"dnsnameservers"}, {"ipallocationpools"}, {"subnetroutes"}, {"ports"}, {"ipallocations"}, {"allowedaddresspairs"},
	{"securitygroupportbindings"}, {"portsecuritybindings"}, {"ml2_port_bindings"},
}

// row is a row of a table by the names of its columns; NULL has no entry.
type row map[string]string

func (r row) flag(column string) bool { return r[column] == "1" }

// or is a value, or nil where it is NULL.
func (r row) or(column string) *string {
	if v, ok := r[column]; ok {
		return &v
	}
	return nil
}

func (r row) number(column string) (*int, error) {
	v, ok := r[column]
	if !ok {
		return nil, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", column, err)
	}
	return &n, nil
}

// inOrder sorts rows by a column of whole numbers from 0 on: the shorter one is the lesser.
func inOrder(rows []row, column string) {
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(len(a[column]), len(b[column])), cmp.Compare(a[column], b[column]))
	})
}

// project is who owns a row: the column was renamed with Neutron 9.
func (r row) project() string {
	if v, ok := r["project_id"]; ok {
		return v
	}
	return r["tenant_id"]
}

// json is a column's JSON; {} for none.
func (r row) json(column string) json.RawMessage {
	if r[column] == "" {
		return json.RawMessage("{}")
	}
	return json.RawMessage(r[column])
}

// snapshot is all rows of the tables at one moment.
type snapshot struct {
	rows         map[string][]row // by the first name of a table in read
	descriptions map[string]string
	tagged       map[string][]string // by standard_attr_id
	tables       map[string]bool     // TABLE and TABLE.COLUMN
	mitaka       bool                // the release is Neutron 8 (Mitaka) or a later one
	left         []net.LeftOut
}

// tags are those of an object.
func (s *snapshot) tags(r row) []string { return s.tagged[r["standard_attr_id"]] }

// description is an object's: in a table of all objects since Neutron 8, in its own before.
func (s *snapshot) description(r row) string {
	if v, ok := s.descriptions[r["standard_attr_id"]]; ok {
		return v
	}
	return r["description"]
}

// by are the rows of a table by a column's value.
func (s *snapshot) by(table, column string) map[string][]row {
	out := map[string][]row{}
	for _, r := range s.rows[table] {
		out[r[column]] = append(out[r[column]], r)
	}
	return out
}

// Read reads what Neutron's API would tell, when that is gone: of one moment, and nothing is written.
func (d *Database) Read(ctx context.Context) (*net.Document, error) {
	s, err := d.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	doc := &net.Document{Version: net.Version, LeftOut: s.left}
	for _, r := range s.rows["agents"] {
		doc.Agents = append(doc.Agents, net.Agent{ID: r["id"], AgentType: r["agent_type"], Binary: r["binary"],
			Topic: r["topic"], Host: r["host"],
			AdminStateUp: r.flag("admin_state_up"), Zone: r["availability_zone"], Description: r["description"],
			Configurations: r.json("configurations")})
	}
	for _, r := range s.rows["securitygroups"] {
		stateful, known := r["stateful"]
		doc.SecurityGroups = append(doc.SecurityGroups,
			net.Group{ID: r["id"], ProjectID: r.project(), Name: r["name"], Description: s.description(r),
				Stateful: !known || stateful == "1", Tags: s.tags(r)})
	}
	for _, r := range s.rows["securitygrouprules"] {
		first, err1 := r.number("port_range_min")
		last, err2 := r.number("port_range_max")
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("security group rule %s: %w", r["id"], err)
		}
		doc.SecurityGroupRules = append(doc.SecurityGroupRules,
			net.Rule{ID: r["id"], ProjectID: r.project(), SecurityGroupID: r["security_group_id"], Direction: r["direction"],
				EtherType: r["ethertype"], Protocol: r.or("protocol"), PortRangeMin: first, PortRangeMax: last,
				RemoteIPPrefix: r.or("remote_ip_prefix"),
				RemoteGroupID:  r.or("remote_group_id"), RemoteAddressGroupID: r.or("remote_address_group_id"), Description: s.description(r)})
	}
	if err := errors.Join(s.networks(doc), s.subnets(doc)); err != nil {
		return nil, err
	}
	if err := errors.Join(s.ports(doc), s.shared(doc)); err != nil {
		return nil, err
	}
	doc.Normalize()
	return doc, nil
}

func (s *snapshot) networks(doc *net.Document) error {
	segments, shared, external, security := s.by("networksegments", "network_id"), s.by("networkrbacs", "object_id"),
		s.by("externalnetworks", "network_id"), s.by("networksecuritybindings", "network_id")
	policy, domain := s.by("qos_network_policy_bindings", "network_id"), s.by("networkdnsdomains", "network_id")
	for _, r := range s.rows["networks"] {
		n := net.Network{ID: r["id"], ProjectID: r.project(), Name: r["name"], Description: s.description(r),
			AdminStateUp: r.flag("admin_state_up"), External: len(external[r["id"]]) > 0, PortSecurity: secure(security[r["id"]])}
		n.Tags = s.tags(r)
		for _, e := range external[n.ID] {
			n.IsDefault = e.flag("is_default")
		}
		for _, p := range policy[n.ID] {
			n.QoSPolicyID = p.or("policy_id")
		}
		for _, p := range domain[n.ID] {
			n.DNSDomain = p["dns_domain"]
		}
		mtu, err := r.number("mtu")
		if err != nil {
			return fmt.Errorf("network %s: %w", n.ID, err)
		}
		if mtu != nil {
			n.MTU = *mtu
		}
		for _, a := range shared[n.ID] {
			n.Shared = n.Shared || a["action"] == "access_as_shared" && (a["target_project"] == "*" || a["target_tenant"] == "*")
		}
		parts := segments[n.ID]
		inOrder(parts, "segment_index")
		for _, p := range parts {
			number, err := p.number("segmentation_id")
			if err != nil {
				return fmt.Errorf("network %s: %w", n.ID, err)
			}
			if !p.flag("is_dynamic") {
				n.Segments = append(n.Segments, net.Segment{NetworkType: p["network_type"],
					PhysicalNetwork: p["physical_network"], SegmentationID: number})
			}
		}
		doc.Networks = append(doc.Networks, n)
	}
	return nil
}

// secure is port security by the rows that say so; without one it is on.
func secure(rows []row) bool { return len(rows) == 0 || rows[0].flag("port_security_enabled") }

func (s *snapshot) subnets(doc *net.Document) error {
	dns, pools, routes := s.by("dnsnameservers", "subnet_id"), s.by("ipallocationpools", "subnet_id"), s.by("subnetroutes", "subnet_id")
	services := s.by("subnet_service_types", "subnet_id")
	for _, r := range s.rows["subnets"] {
		version, err := r.number("ip_version")
		if err != nil || version == nil {
			return fmt.Errorf("subnet %s: ip_version: value %q: want a number", r["id"], r["ip_version"])
		}
		n := net.Subnet{ID: r["id"], ProjectID: r.project(), NetworkID: r["network_id"], Name: r["name"],
			Description: s.description(r), IPVersion: *version, CIDR: r["cidr"],
			GatewayIP: r.or("gateway_ip"), EnableDHCP: r.flag("enable_dhcp"), RAMode: r.or("ipv6_ra_mode"), AddressMode: r.or("ipv6_address_mode"),
			SubnetPoolID: r.or("subnetpool_id"), Tags: s.tags(r)}
		for _, t := range services[n.ID] {
			n.ServiceTypes = append(n.ServiceTypes, t["service_type"])
		}
		servers := dns[n.ID]
		inOrder(servers, "order")
		for _, a := range servers {
			n.DNSNameservers = append(n.DNSNameservers, a["address"])
		}
		for _, p := range pools[n.ID] {
			n.Pools = append(n.Pools, net.Pool{Start: p["first_ip"], End: p["last_ip"]})
		}
		for _, t := range routes[n.ID] {
			n.HostRoutes = append(n.HostRoutes, net.Route{Destination: t["destination"], NextHop: t["nexthop"]})
		}
		doc.Subnets = append(doc.Subnets, n)
	}
	return nil
}

func (s *snapshot) ports(doc *net.Document) error {
	ips, pairs, groups, security, bindings := s.by("ipallocations", "port_id"), s.by("allowedaddresspairs", "port_id"),
		s.by("securitygroupportbindings", "port_id"),
		s.by("portsecuritybindings", "port_id"), s.by("ml2_port_bindings", "port_id")
	options, policy, dns, uplink := s.by("extradhcpopts", "port_id"), s.by("qos_port_policy_bindings", "port_id"),
		s.by("portdnses", "port_id"), s.by("portuplinkstatuspropagation", "port_id")
	for _, r := range s.rows["ports"] {
		p := net.Port{ID: r["id"], ProjectID: r.project(), NetworkID: r["network_id"], Name: r["name"],
			Description: s.description(r), AdminStateUp: r.flag("admin_state_up"),
			MACAddress: r["mac_address"], DeviceID: r["device_id"], DeviceOwner: r["device_owner"],
			PortSecurity: secure(security[r["id"]]), VNICType: "normal", VIFType: "unbound", Profile: json.RawMessage("{}")}
		for _, a := range ips[p.ID] {
			p.FixedIPs = append(p.FixedIPs, net.FixedIP{SubnetID: a["subnet_id"], IPAddress: a["ip_address"]})
		}
		for _, a := range pairs[p.ID] {
			p.AllowedPairs = append(p.AllowedPairs, net.Pair{IPAddress: a["ip_address"], MACAddress: a["mac_address"]})
		}
		for _, g := range groups[p.ID] {
			p.Groups = append(p.Groups, g["security_group_id"])
		}
		for _, b := range bindings[p.ID] {
			// While a guest moves there is a second one, of the host to which it goes.
			if status, known := b["status"]; !known || status == "ACTIVE" {
				p.HostID, p.VNICType, p.VIFType, p.Profile = b["host"], b["vnic_type"], b["vif_type"], b.json("profile")
				if err := json.Unmarshal(b.json("vif_details"), &p.VIFDetails); err != nil {
					return fmt.Errorf("port %s: vif_details: %w", p.ID, err)
				}
			}
		}
		for _, o := range options[p.ID] {
			version, err := o.number("ip_version")
			if err != nil {
				return fmt.Errorf("%s %s: %w", "port", p.ID, err)
			}
			p.DHCPOptions = append(p.DHCPOptions, net.DHCPOption{Name: o["opt_name"], Value: o["opt_value"], IPVersion: whole(version, 4)})
		}
		for _, b := range policy[p.ID] {
			p.QoSPolicyID = b.or("policy_id")
		}
		p.DNSName, p.Tags = r["dns_name"], s.tags(r)
		for _, n := range dns[p.ID] {
			p.DNSName, p.DNSDomain = n["dns_name"], n["dns_domain"]
		}
		for _, u := range uplink[p.ID] {
			p.PropagateUplink = new(u.flag("propagate_uplink_status"))
		}
		doc.Ports = append(doc.Ports, p)
	}
	return nil
}

// snapshot reads all tables in one transaction.
func (d *Database) snapshot(ctx context.Context) (s *snapshot, err error) {
	tx, err := d.srv.DB.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() {
		if back := tx.Rollback(); back != nil && !errors.Is(back, sql.ErrTxDone) {
			err = errors.Join(err, back)
		}
	}()
	s = &snapshot{rows: map[string][]row{}, descriptions: map[string]string{}, tagged: map[string][]string{},
		tables: d.has, mitaka: d.has["standardattributes"]}
	for _, names := range read {
		i := slices.IndexFunc(names, func(n string) bool { return d.has[n] })
		if i < 0 {
			return nil, d.lacks(strings.Join(names, " or "))
		}
		if s.rows[names[0]], err = d.all(ctx, tx, names[i]); err != nil {
			return nil, err
		}
	}
	for _, name := range optional {
		if !d.has[name] {
			continue
		}
		if s.rows[name], err = d.all(ctx, tx, name); err != nil {
			return nil, err
		}
	}
	for _, r := range s.rows["tags"] {
		s.tagged[r["standard_attr_id"]] = append(s.tagged[r["standard_attr_id"]], r["tag"])
	}
	if s.left, err = d.leftOut(ctx, tx, s); err != nil {
		return nil, err
	}
	if d.has["standardattributes.description"] {
		all, err := d.all(ctx, tx, "standardattributes")
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			s.descriptions[r["id"]] = r["description"]
		}
	}
	return s, nil
}

// all reads all rows of a table.
func (d *Database) all(ctx context.Context, tx *sql.Tx, table string) (out []row, err error) {
	found, err := server.Named(ctx, tx, "SELECT * FROM "+d.table(table))
	if err != nil {
		return nil, fmt.Errorf("read the table %s: %w", table, err)
	}
	for _, r := range found {
		out = append(out, r)
	}
	return out, nil
}
