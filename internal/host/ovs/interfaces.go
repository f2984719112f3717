package ovs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/lib/fail"
)

// Interface is an interface of a bridge, with what its port has beside it.
type Interface struct {
	Bridge, Port, Name string
	Type               string            // "" for one of the kernel
	External           map[string]string // external_ids
	AdminState, Link   string            // up, down; "" is not known
	OFPort             int               // 0: none yet; -1: it can not have one
	Error              string
	Tag                int               // of the port; 0: none
	OtherConfig        map[string]string // of the port
	Protocols          []string          // of the bridge, as in Facts
}

// Interfaces lists the interfaces of all bridges, by one call of ovs-vsctl. It is Unavailable where Open vSwitch does
// not answer.
func Interfaces(ctx context.Context) ([]Interface, error) {
	out, err := run(ctx, "", "ovs-vsctl", "--timeout=10", "--format=json", "--", "--columns=name,protocols,ports", "list", "Bridge",
		"--", "--columns=_uuid,name,interfaces,tag,other_config", "list", "Port",
		"--", "--columns=_uuid,name,type,external_ids,admin_state,link_state,ofport,error", "list", "Interface")
	if err != nil {
		return nil, fail.Errorf(fail.Unavailable, "ask Open vSwitch for its interfaces: %w", err)
	}
	all, err := interfaces(out)
	if err != nil {
		return nil, fail.Errorf(fail.Failed, "read what ovs-vsctl prints: %w", err)
	}
	return all, nil
}

// interfaces reads three lines, with the tables of bridges, ports and interfaces.
func interfaces(out string) ([]Interface, error) {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 {
		return nil, fmt.Errorf("want 3 tables: got %d lines", len(lines))
	}
	var tables [3][][]cell
	for i, columns := range [3]int{3, 5, 8} {
		var err error
		if tables[i], err = table(lines[i], columns); err != nil {
			return nil, err
		}
	}
	of := map[string]Interface{} // an interface's UUID, what is known of its port and bridge
	on := map[string]Interface{} // a port's UUID, what is known of its bridge
	for _, b := range tables[0] {
		for _, port := range b[2].set {
			on[port] = Interface{Bridge: b[0].text(), Protocols: b[1].set}
		}
	}
	for _, p := range tables[1] {
		i := on[p[0].text()]
		i.Port, i.OtherConfig = p[1].text(), p[4].pairs
		var err error
		if i.Tag, err = p[3].number(); err != nil {
			return nil, fmt.Errorf("port %s: tag: %w", i.Port, err)
		}
		for _, uuid := range p[2].set {
			of[uuid] = i
		}
	}
	var all []Interface
	for _, r := range tables[2] {
		i := of[r[0].text()]
		i.Name, i.Type, i.External, i.AdminState, i.Link, i.Error = r[1].text(), r[2].text(), r[3].pairs, r[4].text(), r[5].text(), r[7].text()
		var err error
		if i.OFPort, err = r[6].number(); err != nil {
			return nil, fmt.Errorf("interface %s: ofport: %w", i.Name, err)
		}
		all = append(all, i)
	}
	return all, nil
}

// cell is a value of a column (RFC 7047, section 5.1): a set, where an atom is one of one, or a map.
type cell struct {
	set   []string
	pairs map[string]string
}

func (c cell) text() string { return strings.Join(c.set, "") }

func (c cell) number() (int, error) {
	if len(c.set) == 0 {
		return 0, nil
	}
	return strconv.Atoi(c.text())
}

func table(line string, columns int) (out [][]cell, err error) {
	var answer struct {
		Data [][]json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(line), &answer); err != nil {
		return nil, err
	}
	for _, row := range answer.Data {
		if len(row) != columns {
			return nil, fmt.Errorf("want %d columns: got %d", columns, len(row))
		}
		cells := make([]cell, columns)
		for i, raw := range row {
			if cells[i], err = readCell(raw); err != nil {
				return nil, err
			}
		}
		out = append(out, cells)
	}
	return out, nil
}

func readCell(raw json.RawMessage) (cell, error) {
	var plain string
	if json.Unmarshal(raw, &plain) == nil {
		return cell{set: []string{plain}}, nil
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return cell{set: []string{n.String()}}, nil
	}
	var pair []json.RawMessage
	var kind string
	if err := json.Unmarshal(raw, &pair); err != nil || len(pair) != 2 || json.Unmarshal(pair[0], &kind) != nil {
		return cell{}, fmt.Errorf("%.100q is no value", raw)
	}
	switch kind {
	case "map":
		var members [][2]string
		if err := json.Unmarshal(pair[1], &members); err != nil {
			return cell{}, fmt.Errorf("%.100q is no map: %w", raw, err)
		}
		c := cell{pairs: map[string]string{}}
		for _, m := range members {
			c.pairs[m[0]] = m[1]
		}
		return c, nil
	case "set":
		var members []json.RawMessage
		if err := json.Unmarshal(pair[1], &members); err != nil {
			return cell{}, fmt.Errorf("%.100q is no set: %w", raw, err)
		}
		var c cell
		for _, m := range members {
			one, err := readCell(m)
			if err != nil {
				return cell{}, err
			}
			c.set = append(c.set, one.set...)
		}
		return c, nil
	}
	return readCell(pair[1]) // a UUID
}

// Flows are what ovs-ofctl prints of a bridge's flows, with numbers for ports and tables, in the best version of
// OpenFlow that the bridge speaks. protocols are those of the bridge, as in Facts. It is Unavailable where the bridge
// does not answer.
func Flows(ctx context.Context, bridge string, protocols []string) (string, error) {
	args := []string{"--timeout=25", "--no-names", "dump-flows", bridge}
	if len(protocols) > 0 { // the names of versions are in the order of the versions
		args = append([]string{"-O", slices.Max(protocols)}, args...)
	}
	out, err := run(ctx, "", "ovs-ofctl", args...)
	if err != nil {
		return "", fail.Errorf(fail.Unavailable, "ask bridge %s for its flows: %w", bridge, err)
	}
	return out, nil
}
