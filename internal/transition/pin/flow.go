package pin

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Flow is a flow of a bridge.
type Flow struct {
	Cookie   uint64
	Table    int
	Priority int
	Idle     int           // seconds, 0: none
	Hard     int           // seconds, 0: none
	Age      time.Duration // since it was added
	Match    string        // as ovs-ofctl prints it, without the priority
	Actions  string        // as ovs-ofctl prints them
}

// defaultPriority is that of a flow that is printed without one (ovs-ofctl(8)).
const defaultPriority = 32768

// counted are what ovs-ofctl prints of a flow that says nothing about where its packets go.
var counted = []string{"n_packets", "n_bytes", "idle_age", "hard_age", "importance", "send_flow_rem", "check_overlap",
	"reset_counts", "no_packet_counts", "no_byte_counts"}

// ParseFlows reads what `ovs-ofctl dump-flows --no-names` prints, with or without statistics.
func ParseFlows(text string) ([]Flow, error) {
	var out []Flow
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || reply(line) {
			continue
		}
		f, err := parseFlow(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %.200q", err, line)
		}
		out = append(out, f)
	}
	return out, nil
}

// reply tells the heading of an answer, "OFPST_FLOW reply (OF1.4) (xid=0x2):". One of several parts has
// one for each, and all but the last end in " flags=[more]".
func reply(line string) bool {
	head, _, ok := strings.Cut(line, " ")
	return ok && (strings.HasPrefix(head, "OFPST_") || strings.HasPrefix(head, "NXST_")) && strings.Contains(line, " reply ")
}

func parseFlow(line string) (Flow, error) {
	f := Flow{Priority: defaultPriority}
	head, actions, ok := strings.Cut(" "+line, " actions=")
	f.Actions = strings.TrimSpace(actions)
	if !ok || f.Actions == "" {
		return f, errors.New("a flow without actions")
	}
	if _, err := split(f.Actions); err != nil {
		return f, err
	}
	fields, err := split(strings.ReplaceAll(head, " ", ","))
	if err != nil {
		return f, err
	}
	var match []string
	for _, field := range fields {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "":
		case "cookie":
			f.Cookie, err = strconv.ParseUint(value, 0, 64)
		case "duration":
			f.Age, err = time.ParseDuration(value)
		case "table":
			f.Table, err = number(value, LastTable)
		case "priority":
			f.Priority, err = number(value, EntryPriority)
		case "idle_timeout":
			f.Idle, err = number(value, 65535)
		case "hard_timeout":
			f.Hard, err = number(value, 65535)
		default:
			if !slices.Contains(counted, key) {
				match = append(match, field)
			}
		}
		if err != nil {
			return f, fmt.Errorf("%s: %w", key, err)
		}
	}
	f.Match = strings.Join(match, ",")
	return f, nil
}

func number(text string, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%.40q: want a number from 0 to %d", text, most)
	}
	return n, nil
}

// String is the flow as `ovs-ofctl bundle` takes it.
func (f Flow) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cookie=0x%x,table=%d,priority=%d", f.Cookie, f.Table, f.Priority)
	if f.Idle > 0 {
		fmt.Fprintf(&b, ",idle_timeout=%d", f.Idle)
	}
	if f.Hard > 0 {
		fmt.Fprintf(&b, ",hard_timeout=%d", f.Hard)
	}
	if f.Match != "" {
		b.WriteString("," + f.Match)
	}
	return b.String() + " actions=" + f.Actions
}

// place is what makes a flow one of its own: a second one in the same place replaces it.
func (f Flow) place() string { return fmt.Sprintf("%d %d %s", f.Table, f.Priority, f.Match) }

// split takes a list apart at its commas, those in brackets left alone.
func split(list string) ([]string, error) {
	var out []string
	var depth []byte
	from := 0
	for i := 0; i < len(list); i++ {
		switch c := list[i]; c {
		case '(', '[', '{':
			depth = append(depth, c)
		case ')', ']', '}':
			if len(depth) == 0 || !pairs(depth[len(depth)-1], c) {
				return nil, fmt.Errorf("a %q too many in %.200q", c, list)
			}
			depth = depth[:len(depth)-1]
		case ',':
			if len(depth) == 0 {
				out = append(out, list[from:i])
				from = i + 1
			}
		}
	}
	if len(depth) > 0 {
		return nil, fmt.Errorf("a %q without its end in %.200q", depth[0], list)
	}
	return append(out, list[from:]), nil
}

func pairs(a, b byte) bool {
	return a == '(' && b == ')' || a == '[' && b == ']' || a == '{' && b == '}'
}

// Group is a group of a bridge.
type Group struct {
	ID   uint32
	Rest string // type, selection method and buckets, as ovs-ofctl prints them
}

// ParseGroups reads what `ovs-ofctl dump-groups` prints.
func ParseGroups(text string) ([]Group, error) {
	var out []Group
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || reply(line) {
			continue
		}
		head, rest, _ := strings.Cut(line, ",")
		id, err := strconv.ParseUint(strings.TrimPrefix(head, "group_id="), 10, 32)
		if err != nil || !strings.HasPrefix(head, "group_id=") || !strings.HasPrefix(rest, "type=") {
			return nil, fmt.Errorf("want group_id=NUMBER,type=...: %.200q", line)
		}
		if _, err := split(rest); err != nil {
			return nil, err
		}
		out = append(out, Group{uint32(id), rest})
	}
	return out, nil
}

// ours tells a group of a pin.
func (g Group) ours() bool { return g.ID >= FirstGroup && g.ID <= LastGroup }

// String is the group as `ovs-ofctl bundle` takes it.
func (g Group) String() string { return fmt.Sprintf("group_id=%d,%s", g.ID, g.Rest) }

// ParsePorts reads what `ovs-ofctl dump-ports-desc --no-names` prints.
func ParsePorts(text string) ([]Port, error) {
	var out []Port
	for line := range strings.Lines(text) {
		number, rest, ok := strings.Cut(strings.TrimSpace(line), "(")
		name, _, named := strings.Cut(rest, "): addr:")
		if !ok || !named {
			continue // a heading, or more of the port before
		}
		if n, err := strconv.Atoi(number); number != "LOCAL" && (err != nil || n < 1 || n > 65279) {
			return nil, fmt.Errorf("port %.40q: want a number from 1 to 65279, or LOCAL", number)
		}
		out = append(out, Port{number, name})
	}
	return out, nil
}
