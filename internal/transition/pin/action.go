package pin

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// harmless are actions that lead to no table and no group, and that are copied as they are
// (ovs-actions(7)).
var harmless = []string{
	"ALL", "CONTROLLER", "FLOOD", "IN_PORT", "LOCAL", "NORMAL", "bundle", "bundle_load", "check_pkt_larger", "conjunction",
	"controller", "ct_clear", "dec_mpls_ttl", "dec_nsh_ttl", "dec_ttl", "decap", "delete_field", "drop", "encap", "enqueue", "fin_timeout",
	"load", "mod_dl_dst", "mod_dl_src", "mod_nw_dst", "mod_nw_src", "mod_nw_tos", "mod_nw_ttl", "mod_tp_dst", "mod_tp_src",
	"mod_vlan_pcp", "mod_vlan_vid", "move", "multipath", "nat", "note", "output", "pop", "pop_mpls", "pop_queue", "pop_vlan", "push",
	"push_mpls", "push_vlan", "sample", "set_field", "set_mpls_label", "set_mpls_tc", "set_mpls_ttl", "set_queue", "set_tunnel",
	"set_tunnel64", "strip_vlan", "write_metadata", "clear_actions", "set_vlan_pcp", "set_vlan_vid",
}

// rewriter gives the tables and groups in a list of actions other numbers.
type rewriter struct {
	table  func(int) (int, error)
	group  func(uint32) (uint32, error)
	learnt func([]string) ([]string, error) // the arguments of learn() but for its table
}

// name is what an action begins with.
func name(action string) string {
	if i := strings.IndexAny(action, ":(="); i >= 0 {
		return action[:i]
	}
	return action
}

func (r rewriter) actions(list string) (string, error) {
	all, err := split(list)
	if err != nil {
		return "", err
	}
	for i, a := range all {
		if all[i], err = r.action(a); err != nil {
			return "", err
		}
	}
	return strings.Join(all, ","), nil
}

func (r rewriter) action(a string) (string, error) {
	kind := name(a)
	switch kind {
	case "goto_table", "group":
		return r.numbered(kind, a)
	case "resubmit":
		return r.resubmit(a)
	case "ct", "clone", "write_actions", "learn":
		inner, ok := strings.CutPrefix(a, kind+"(")
		if inner, ok = cutLast(inner, ok); !ok {
			return a, nil // ct without arguments
		}
		return r.within(kind, inner)
	case "meter":
		return "", fmt.Errorf("%s: flows with a meter end when it is deleted, also copies: not pinned", a)
	}
	if !slices.Contains(harmless, kind) {
		return "", fmt.Errorf("%.100q: an action that is not known here, and may lead to a table", a)
	}
	return a, nil
}

func cutLast(inner string, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	return strings.CutSuffix(inner, ")")
}

func (r rewriter) within(kind, inner string) (string, error) {
	var err error
	switch kind {
	case "clone", "write_actions":
		inner, err = r.actions(inner)
	case "ct":
		inner, err = r.ct(inner)
	case "learn":
		inner, err = r.learn(inner)
	}
	return kind + "(" + inner + ")", err
}

// numbered is goto_table:N or group:N.
func (r rewriter) numbered(kind, a string) (string, error) {
	text, ok := strings.CutPrefix(a, kind+":")
	n, err := strconv.ParseUint(text, 10, 32)
	switch {
	case !ok || err != nil:
		return "", fmt.Errorf("%.100q: want %s:NUMBER", a, kind)
	case kind == "group":
		id, err := r.group(uint32(n))
		return fmt.Sprintf("group:%d", id), err
	}
	if text, err = r.renumbered(text); err != nil {
		return "", fmt.Errorf("%.100q: %w", a, err)
	}
	return "goto_table:" + text, nil
}

// resubmit is resubmit:PORT, which stays in its table, resubmit(PORT,TABLE) or
// resubmit(PORT,TABLE,ct); PORT and TABLE may be empty.
func (r rewriter) resubmit(a string) (string, error) {
	inner, ok := strings.CutPrefix(a, "resubmit(")
	if inner, ok = cutLast(inner, ok); !ok {
		return a, nil
	}
	args, err := split(inner)
	if err != nil || len(args) < 2 || args[1] == "" {
		return a, err
	}
	if args[1], err = r.renumbered(args[1]); err != nil {
		return "", fmt.Errorf("%.100q: %w", a, err)
	}
	return "resubmit(" + strings.Join(args, ",") + ")", nil
}

func (r rewriter) renumbered(text string) (string, error) {
	n, err := number(text, LastTable)
	if err != nil {
		return "", fmt.Errorf("table %w", err)
	}
	t, err := r.table(n)
	return strconv.Itoa(t), err
}

// ct has the table that a packet goes on in, and actions that are carried out on its connection.
func (r rewriter) ct(inner string) (string, error) {
	args, err := split(inner)
	if err != nil {
		return "", err
	}
	for i, arg := range args {
		if n, ok := strings.CutPrefix(arg, "table="); ok {
			if n, err = r.renumbered(n); err != nil {
				return "", fmt.Errorf("ct(%.100s): %w", inner, err)
			}
			args[i] = "table=" + n
		}
		if list, ok := strings.CutPrefix(arg, "exec("); ok {
			if list, ok = cutLast(list, ok); ok {
				if list, err = r.actions(list); err != nil {
					return "", err
				}
				args[i] = "exec(" + list + ")"
			}
		}
	}
	return strings.Join(args, ","), nil
}

// learnTable is where learn() puts flows when it does not say (ovs-actions(7)).
const learnTable = 1

func (r rewriter) learn(inner string) (string, error) {
	args, err := split(inner)
	if err != nil {
		return "", err
	}
	table := strconv.Itoa(learnTable)
	var rest []string
	for _, arg := range args {
		if t, ok := strings.CutPrefix(arg, "table="); ok {
			table = t
		} else {
			rest = append(rest, arg)
		}
	}
	if table, err = r.renumbered(table); err != nil {
		return "", fmt.Errorf("learn(%.100s): %w", inner, err)
	}
	if rest, err = r.learnt(rest); err != nil {
		return "", fmt.Errorf("learn(%.100s): %w", inner, err)
	}
	return strings.Join(append([]string{"table=" + table}, rest...), ","), nil
}

// buckets gives the tables and groups in what a group has other numbers. It is as
// "type=select,bucket=weight:50,watch_group:2,actions=output:1,bucket=...".
func (r rewriter) buckets(rest string) (string, error) {
	items, err := split(rest)
	if err != nil {
		return "", err
	}
	acts := false // the item is an action of a bucket
	for i, item := range items {
		before := ""
		if b, ok := strings.CutPrefix(item, "bucket="); ok {
			before, item, acts = "bucket=", b, false
		}
		if b, ok := strings.CutPrefix(item, "actions="); ok {
			before, item, acts = before+"actions=", b, true
		}
		switch id, watches := strings.CutPrefix(item, "watch_group:"); {
		case acts && item != "":
			item, err = r.action(item)
		case watches:
			item, err = r.numbered("group", "group:"+id)
			item = "watch_" + item
		}
		if err != nil {
			return "", err
		}
		items[i] = before + item
	}
	return strings.Join(items, ","), nil
}

// sorted brings lists whose order means nothing, or which ovs-ofctl prints in another order than
// they were written, into one order: the arguments of learn().
func sorted(actions string) (string, error) {
	same := func(n int) (int, error) { return n, nil }
	r := rewriter{table: same, group: func(n uint32) (uint32, error) { return n, nil }, learnt: func(args []string) ([]string, error) {
		slices.Sort(args)
		return args, nil
	}}
	return r.actions(actions)
}
