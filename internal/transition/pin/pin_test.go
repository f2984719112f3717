package pin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const minute = time.Minute

const ports = `OFPST_PORT_DESC reply (OF1.4) (xid=0x2):
 1(tap1): addr:7a:63:22:ca:57:7b
     config:     0
     state:      LIVE
 2(tap2): addr:92:a0:27:06:2d:ef
     config:     0
 LOCAL(br-int): addr:3a:fa:44:4e:a0:4e
     config:     PORT_DOWN
`

func read(t *testing.T, flows, groups string) Dump {
	t.Helper()
	d, err := Read(flows, groups, ports)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// applied is what a bridge prints after it took a plan.
func applied(t *testing.T, d Dump, p *Plan) Dump {
	t.Helper()
	var flows, groups []string
	for _, f := range d.Theirs() {
		flows = append(flows, f.String())
	}
	for _, line := range p.Lines() {
		if f, ok := strings.CutPrefix(line, "flow add "); ok {
			flows = append(flows, f)
		}
		if g, ok := strings.CutPrefix(line, "group add "); ok {
			groups = append(groups, g)
		}
	}
	return read(t, strings.Join(flows, "\n"), strings.Join(groups, "\n"))
}

// TestActionsLeadIntoTheCopy: each form in which an action names a table or a group.
func TestActionsLeadIntoTheCopy(t *testing.T) {
	for _, c := range []struct{ from, want string }{
		{"goto_table:60", "goto_table:253"},
		{"resubmit(,60)", "resubmit(,253)"},
		{"resubmit(1,60,ct)", "resubmit(1,253,ct)"},
		{"resubmit:1", "resubmit:1"},
		{"resubmit(,0),resubmit(,60)", "resubmit(,252),resubmit(,253)"},
		{"ct(commit,table=60,zone=NXM_NX_REG6[0..15],nat(src=10.0.0.1))", "ct(commit,table=253,zone=NXM_NX_REG6[0..15],nat(src=10.0.0.1))"},
		{"ct(commit,exec(set_field:0x1->ct_mark))", "ct(commit,exec(set_field:0x1->ct_mark))"},
		{"clone(output:1,clone(resubmit(,60))),output:2", "clone(output:1,clone(resubmit(,253))),output:2"},
		{"write_actions(group:7),goto_table:60", "write_actions(group:1752104960),goto_table:253"},
		{"learn(table=60,hard_timeout=300,priority=1,cookie=0x8,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:OXM_OF_IN_PORT[])",
			"learn(table=253,hard_timeout=69,cookie=0x686f6c6466617374,priority=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:OXM_OF_IN_PORT[])"},
		{"learn(table=60,send_flow_rem,hard_timeout=3,priority=1)", "learn(table=253,hard_timeout=3,cookie=0x686f6c6466617374,priority=1)"},
		{"ct", "ct"}, {"NORMAL", "NORMAL"}, {"drop", "drop"},
	} {
		d := read(t, "priority=1 actions="+c.from, "group_id=7,type=all,bucket=actions=output:1")
		p, err := New(d, minute)
		if err != nil {
			t.Errorf("%s: %v", c.from, err)
			continue
		}
		if got := p.Copy[0].Actions; got != c.want {
			t.Errorf("%s is copied as %s: want %s", c.from, got, c.want)
		}
	}
}

// TestWhatCanNotBeCopied is refused with the reason.
func TestWhatCanNotBeCopied(t *testing.T) {
	var full []string
	for n := range 128 {
		full = append(full, fmt.Sprintf("table=%d, priority=1 actions=drop", n))
	}
	for flows, want := range map[string]string{
		"table=3, priority=1 actions=meter:1,output:2": "flow cookie=0x0,table=3,priority=1 " +
			"actions=meter:1,output:2: meter:1: flows with a meter",
		"priority=1,in_port=7 actions=jump(4)": "flow cookie=0x0,table=0,priority=1,in_port=7 " +
			"actions=jump(4): \"jump(4)\": an action that is not known here",
		"priority=1 actions=learn(table=2,delete_learned)": "delete_learned",
		"priority=1 actions=group:9":                       "flow cookie=0x0,table=0,priority=1 actions=group:9: group 9: the bridge has none",
		"priority=1 actions=goto_table:254":                "from 0 to 253",
		"priority=65535,in_port=1 actions=output:2":        "priority 65535",
		strings.Join(full, "\n"):                           "uses 128 of its 254 tables",
	} {
		_, err := New(read(t, flows, ""), minute)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v: want %q", flows, err, want)
		}
	}
}

// TestGroupsAreCopied: under spare ids, with what they lead to.
func TestGroupsAreCopied(t *testing.T) {
	d := read(t, "priority=1 actions=group:7", `OFPST_GROUP_DESC reply (OF1.5) (xid=0x2):
 group_id=7,type=ff,bucket=bucket_id:0,watch_group:9,actions=output:1,resubmit(,9),bucket=watch_port:2,actions=group:9
 group_id=9,type=indirect,bucket=actions=drop
 group_id=1752104965,type=all`)
	p, err := New(d, minute)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"flow delete cookie=0x686f6c6466617374/-1",
		"group delete group_id=1752104965",
		"group add group_id=1752104960,type=ff,bucket=bucket_id:0,watch_group:1752104961,actions=output:1,resubmit(,253),bucket=watch_port:2,actions=group:1752104961",
		"group add group_id=1752104961,type=indirect,bucket=actions=drop",
		"flow add cookie=0x686f6c6466617374,table=252,priority=1,hard_timeout=70 actions=group:1752104960",
		"flow add cookie=0x686f6c6466617374,table=0,priority=65535,hard_timeout=60,in_port=1 actions=goto_table:252",
		"flow add cookie=0x686f6c6466617374,table=0,priority=65535,hard_timeout=60,in_port=2 actions=goto_table:252",
		"flow add cookie=0x686f6c6466617374,table=0,priority=65535,hard_timeout=60,in_port=LOCAL actions=goto_table:252",
	}
	if got := p.Lines(); !slices.Equal(got, want) {
		t.Errorf("the plan is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const agentsFlows = `NXST_FLOW reply (xid=0x4):
 cookie=0x1, duration=1.158s, table=0, n_packets=3, n_bytes=42, idle_age=0, priority=10,in_port=1 actions=resubmit(,24)
OFPST_FLOW reply (OF1.5) (xid=0x2): flags=[more]
 cookie=0x1, duration=1.158s, table=0, n_packets=3, n_bytes=42, send_flow_rem priority=10,in_port=2 actions=resubmit(,24)
 cookie=0x1, duration=1.158s, table=20, n_packets=3, n_bytes=42, hard_timeout=300, idle_age=0, hard_age=1, dl_dst=fa:16:3e:00:00:01 actions=output:1
 cookie=0x1, duration=1.158s, table=24, n_packets=0, n_bytes=0, priority=1 actions=learn(table=20,hard_timeout=300,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),output:2`

// TestReadBack: a pin as planned has no differences; each other one has.
func TestReadBack(t *testing.T) {
	d := read(t, agentsFlows, "group_id=1,type=all,bucket=actions=output:1")
	p, err := New(d, minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		change func(Dump) Dump
		want   int
	}{
		{"as planned", func(d Dump) Dump { return d }, 0},
		{"learn printed in another order", func(d Dump) Dump {
			i := slices.IndexFunc(d.Flows, func(f Flow) bool { return f.Cookie == Cookie && strings.Contains(f.Actions, "learn") })
			d.Flows[i].Actions = "learn(NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],cookie=0x686f6c6466617374,hard_timeout=69,table=252),output:2"
			return d
		}, 0},
		{"a flow with a time-out ended", func(d Dump) Dump {
			d.Flows = slices.DeleteFunc(d.Flows, func(f Flow) bool { return f.Cookie == Cookie && f.Match == "dl_dst=fa:16:3e:00:00:01" })
			return d
		}, 0},
		{"a flow is not there", func(d Dump) Dump {
			d.Flows = slices.DeleteFunc(d.Flows, func(f Flow) bool { return f.Cookie == Cookie && f.Table == 253 })
			return d
		}, 1},
		{"no entry", func(d Dump) Dump { d.Flows = slices.DeleteFunc(d.Flows, Flow.entry); return d }, 3},
		{"one more", func(d Dump) Dump {
			d.Flows = append(d.Flows, Flow{Cookie: Cookie, Table: 200, Actions: "drop"})
			return d
		}, 1},
		{"other actions", func(d Dump) Dump {
			i := slices.IndexFunc(d.Flows, Flow.entry)
			d.Flows[i].Actions = "drop"
			return d
		}, 1},
		{"no group", func(d Dump) Dump { d.Groups = nil; return d }, 1},
	} {
		got, err := p.Differences(c.change(applied(t, d, p)))
		if err != nil || len(got) != c.want {
			t.Errorf("%s: %q, %v: want %d differences", c.what, got, err, c.want)
		}
	}
}

// TestWhenAPinMayEnd: the flows must be as many as before, for each port and on the whole.
func TestWhenAPinMayEnd(t *testing.T) {
	d := read(t, agentsFlows, "")
	p, err := New(d, minute)
	if err != nil {
		t.Fatal(err)
	}
	pinned := applied(t, d, p)
	if pinned.Entries() != 3 || pinned.Left() != minute {
		t.Errorf("%d entries, for %s: want 3, for 1m0s", pinned.Entries(), pinned.Left())
	}
	if got := pinned.Missing(); len(got) > 0 {
		t.Errorf("all flows are there: %q", got)
	}
	if n := Moved(d, pinned); len(n) != 0 || len(p.Changed(pinned)) != 0 {
		t.Errorf("flows moved %q, changed %q: want none", n, p.Changed(pinned))
	}
	gone := pinned
	gone.Flows = slices.DeleteFunc(slices.Clone(pinned.Flows), func(f Flow) bool { return f.Cookie == 1 && f.Match == "in_port=2" })
	want := []string{"port 2 (tap2): 1 flows name it, 2 did when it was pinned", "2 flows, 3 were there when it was pinned"}
	if got := gone.Missing(); !slices.Equal(got, want) {
		t.Errorf("missing: %q: want %q", got, want)
	}
	if got := p.Changed(gone); len(got) != 1 || got[0] != "cookie=0x1,table=0,priority=10,in_port=2 actions=resubmit(,24), which is gone" {
		t.Errorf("changed: %q: want the one that is gone", got)
	}
}

// TestPortsThatWentAndCame: a port that is removed and added again has another number. What is left of its old flows does not
// count as its own; those that came have to; and a port that went for good keeps nobody waiting.
func TestPortsThatWentAndCame(t *testing.T) {
	const own = `table=0,priority=10,in_port=1 actions=goto_table:24
table=0,priority=10,in_port=2 actions=goto_table:24
table=24,priority=9,dl_dst=fa:16:3e:00:00:01 actions=output:1
table=24,priority=9,dl_dst=fa:16:3e:00:00:02 actions=output:2
table=24,priority=5,dl_src=fa:16:3e:00:00:02 actions=NORMAL
table=60,priority=0 actions=drop`
	d := read(t, own, "")
	p, err := New(d, minute)
	if err != nil {
		t.Fatal(err)
	}
	left := func(keep string) string { // of the bridge's own flows
		var out []string
		for line := range strings.Lines(own) {
			if strings.Contains(keep, line[:8]) && !strings.Contains(line, "_port=2 ") && !strings.Contains(line, "00:02") {
				out = append(out, strings.TrimSpace(line))
			}
		}
		return strings.Join(out, "\n")
	}
	again := strings.NewReplacer("in_port=2", "in_port=9", "output:2", "output:9").Replace(own)
	without := strings.Replace(ports, " 2(tap2): addr:92:a0:27:06:2d:ef", "", 1)
	readded := strings.Replace(ports, " 2(tap2)", " 9(tap2)", 1)
	for _, c := range []struct{ what, ports, own, want string }{
		{"added again, its flows are those of the old number", readded, own,
			"port 9 (tap2), which came when port 2 went: 0 flows name it, 2 named that one when it was pinned; 4 " +
				"flows, 6 were there when it was pinned"},
		{"added again, with half of its flows", readded, strings.Replace(own, "in_port=2", "in_port=9", 1),
			"port 9 (tap2), which came when port 2 went: 1 flows name it, 2 named that one when it was pinned; 5 " +
				"flows, 6 were there when it was pinned"},
		{"added again, with its flows", readded, again, ""},
		{"added again, with its flows, and the old ones are left", readded, again + "\ntable=0,priority=10,in_port=2 actions=goto_table:24", ""},
		{"removed, its flows are left", without, own, ""},
		{"removed, and its flows", without, left("table=0,table=24table=60"), ""},
		{"removed, and others' flows are missing", without, left("table=24table=60"),
			"port 1 (tap1): 1 flows name it, 2 did when it was pinned; flows in 2 tables, they were in 3 when it was pinned"},
		{"removed, and a table is missing", without, left("table=0,table=24"), "flows in 2 tables, they were in 3 when it was pinned"},
		{"removed, and nothing is left", without, "", "port 1 (tap1): 0 flows name it, 2 did when it was pinned; " +
			"flows in 0 tables, they were in 3 when it was pinned"},
		{"one more came", ports + " 9(tap9): addr:92:a0:27:06:2d:e0\n", own, ""},
	} {
		now := applied(t, read(t, c.own, ""), p)
		if now.Ports, err = ParsePorts(c.ports); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(now.Missing(), "; "); got != c.want {
			t.Errorf("%s: missing %q, want %q", c.what, got, c.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for line, want := range map[string]string{
		"priority=1":                            "without actions",
		"priority=70000 actions=drop":           "0 to 65535",
		"table=254, priority=1 actions=drop":    "0 to 253",
		"cookie=x, actions=drop":                "cookie",
		"priority=1 actions=ct(table=1":         "without its end",
		"priority=1 actions=ct)":                "too many",
		"priority=1,tcp actions=resubmit(,1]),": "too many",
	} {
		if _, err := ParseFlows(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: want %q", line, err, want)
		}
	}
	for _, line := range []string{"group_id=x,type=all", "group_id=1", "bucket=actions=drop", "group_id=1,type=all,bucket=actions=ct("} {
		if _, err := ParseGroups(line); err == nil {
			t.Errorf("%s: want an error", line)
		}
	}
	if _, err := ParsePorts(" 0(x): addr:00:00:00:00:00:00"); err == nil {
		t.Error("port 0: want an error")
	}
}

// FuzzPlan: whatever a bridge prints, it is refused, or read the same when it is written again; and the
// plan of a pin reads back as itself.
func FuzzPlan(f *testing.F) {
	f.Add(agentsFlows, "group_id=7,type=ff,bucket=bucket_id:0,watch_group:7,actions=output:1,resubmit(,9)")
	f.Add("priority=1,in_port=1 actions=ct(commit,table=3,exec(load:0x1->NXM_NX_CT_MARK[])),write_actions(group:1),learn(table=9)", "")
	f.Add("packet_type=(1,0x800) actions=encap(nsh(md_type=1)),note:01.02", "")
	f.Fuzz(func(t *testing.T, flows, groups string) {
		d, err := Read(flows, groups, ports)
		if err != nil {
			return
		}
		for _, x := range d.Flows {
			again, err := ParseFlows(x.String())
			if x.Age = 0; err != nil || len(again) != 1 || again[0] != x {
				t.Fatalf("%+v is read again as %+v, %v", x, again, err)
			}
		}
		p, err := New(d, minute)
		if err != nil {
			return
		}
		for _, c := range p.Copy {
			if c.Table == 0 || c.Hard == 0 || c.Cookie != Cookie {
				t.Fatalf("%s: want a flow of a spare table, with the cookie and a time-out", c)
			}
		}
	})
}
