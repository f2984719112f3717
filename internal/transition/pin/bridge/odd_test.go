package bridge

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/pin"
	"holdfast/testbed/need"
	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

// firewall are the flows of a port in the forms in which Neutron's firewall driver for Open vSwitch and its ARP and
// tunnel tables write them (Zed).
func firewall(port int) []string {
	mac, ip, reg := ovstest.MAC(port), ovstest.Addr(port).String(), fmt.Sprintf("reg5=0x%x", port)
	return []string{
		fmt.Sprintf("table=0,priority=10,in_port=%d,icmp6,icmp_type=136 actions=resubmit(,24)", port),
		fmt.Sprintf("table=0,priority=10,in_port=%d,arp actions=resubmit(,24)", port),
		fmt.Sprintf("table=0,priority=9,in_port=%d actions=resubmit(,25)", port),
		fmt.Sprintf("table=24,priority=2,in_port=%d,arp,arp_spa=%s actions=resubmit(,25)", port, ip),
		fmt.Sprintf("table=25,priority=2,in_port=%d,dl_src=%s actions=resubmit(,60)", port, mac),
		fmt.Sprintf("table=60,priority=100,in_port=%d actions=set_field:0x%x->reg5,set_field:0x1->reg6,resubmit(,71)", port, port),
		fmt.Sprintf("table=60,priority=90,dl_vlan=1,dl_dst=%s "+
			"actions=set_field:0x%x->reg5,set_field:0x1->reg6,strip_vlan,resubmit(,81)", mac, port),
		fmt.Sprintf("table=71,priority=95,arp,%s,in_port=%d,dl_src=%s,arp_spa=%s actions=resubmit(,94)", reg, port, mac, ip),
		fmt.Sprintf("table=71,priority=80,udp,%s,in_port=%d,tp_src=68,tp_dst=67 actions=resubmit(,73)", reg, port),
		fmt.Sprintf("table=71,priority=65,ct_state=-trk,ip,%s,in_port=%d,dl_src=%s,nw_src=%s "+
			"actions=ct(table=72,zone=NXM_NX_REG6[0..15])", reg, port, mac, ip),
		fmt.Sprintf("table=71,priority=10,ct_state=-trk,%s actions=resubmit(,93)", reg),
		fmt.Sprintf("table=72,priority=77,ct_state=+est-rel-rpl,tcp,%s,tp_dst=0x%x/0xfff0 actions=resubmit(,73)", reg, 0x50*port),
		fmt.Sprintf("table=72,priority=75,ct_state=+new-est,ip,%s actions=resubmit(,73)", reg),
		fmt.Sprintf("table=72,priority=50,ct_mark=0x1,%s actions=resubmit(,93)", reg),
		fmt.Sprintf("table=72,priority=40,ct_state=+est,ip,%s actions=ct(commit,zone=NXM_NX_REG6[0..15],exec(set_field:0x1->ct_mark))", reg),
		fmt.Sprintf("table=73,priority=100,reg6=0x1,dl_dst=%s actions=set_field:0x%x->reg5,resubmit(,81)", mac, port),
		fmt.Sprintf("table=73,priority=90,ct_state=+new-est,ip,%s actions=ct(commit,zone=NXM_NX_REG6[0..15]),resubmit(,91)", reg),
		fmt.Sprintf("table=81,priority=100,arp,%s actions=output:%d", reg, port),
		fmt.Sprintf("table=81,priority=90,ct_state=-trk,ip,%s actions=ct(table=82,zone=NXM_NX_REG6[0..15])", reg),
		fmt.Sprintf("table=82,priority=70,conj_id=%d,ct_state=+est-rel-rpl,ip,%s "+
			"actions=load:0x%x->NXM_NX_REG7[],output:%d", 8*port, reg, 8*port, port),
		fmt.Sprintf("table=82,priority=70,conj_id=%d,ct_state=+new-est,ip,%s "+
			"actions=ct(commit,zone=NXM_NX_REG6[0..15],exec(load:0x1->NXM_NX_CT_LABEL[0..31])),output:%d", 8*port+1, reg, port),
		fmt.Sprintf("table=82,priority=70,ct_state=+new-est,ip,reg6=0x1,nw_src=10.9.0.0/24 actions=conjunction(%d,1/2)", 8*1+1),
		fmt.Sprintf("table=82,priority=70,ct_state=+new-est,udp,%s actions=conjunction(%d,2/2)", reg, 8*port+1),
		fmt.Sprintf("table=82,priority=50,ct_state=+inv+trk,%s actions=resubmit(,93)", reg),
		fmt.Sprintf("table=94,priority=12,reg6=0x1,dl_dst=%s actions=output:%d", mac, port),
	}
}

// odd are flows in forms that other tables of Neutron's bridges have, and that Open vSwitch has.
var odd = []string{
	"table=0,priority=5,in_port=3,dl_vlan=3 actions=mod_vlan_vid:12,resubmit(,60)", "table=0,priority=0 actions=goto_table:60",
	"table=4,priority=1,tun_id=0x64 actions=push_vlan:0x8100,set_field:4097->vlan_vid,goto_table:10",
	"table=5,priority=1,ip " +
		"actions=note:01.02.03.04.05.06.07.08,clone(resubmit(,6),output:2),move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],resubmit(1,7)",
	"table=6,priority=1,arp,dl_vlan=1,arp_tpa=10.0.0.1 " +
		"actions=load:0x2->NXM_OF_ARP_OP[],move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],load:0xfa163e000001->NXM_NX_ARP_SHA[],load:0x0a000001->NXM_OF_ARP_SPA[],move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],mod_dl_src:fa:16:3e:00:00:01,in_port",
	"table=8,priority=4 actions=group:7", "table=8,priority=5,dl_vlan=9 actions=write_actions(group:7),goto_table:12",
	"table=9,priority=4,idle_timeout=900,ip " +
		"actions=multipath(eth_src,50,modulo_n,1,0,NXM_NX_REG0[]),bundle_load(eth_src,0,hrw,ofport,NXM_NX_REG0[],slaves:1,2),output:NXM_NX_REG0[]",
	"table=10,priority=1 " +
		"actions=learn(table=20,hard_timeout=300,priority=1,cookie=0x8,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:0->NXM_OF_VLAN_TCI[],load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[],output:OXM_OF_IN_PORT[]),output:1",
	"table=11,priority=3 actions=write_metadata:0x5/0xff,goto_table:12", "table=12,priority=32768,ip,nw_frag=later actions=drop",
	"table=12,priority=3 actions=CONTROLLER:65535,LOCAL,set_queue:3,output:2,pop_queue,check_pkt_larger(1400)->NXM_NX_REG0[0]",
	"table=13,priority=3,send_flow_rem,tcp,tcp_flags=+syn-ack actions=dec_ttl,ct(commit,zone=5,nat(src=10.0.0.1-10.0.0.9:1024-65535,random))",
	"table=14,priority=3,ipv6,ipv6_src=fe80::/10 actions=ct_clear,set_field:0x5->tun_id,output:2", "table=20,priority=0 actions=resubmit(,22)",
	"table=22,priority=1,dl_vlan=1 actions=strip_vlan,load:0x64->NXM_NX_TUN_ID[],output:1,output:2", "table=23,priority=0 actions=drop",
	"table=60,priority=3 actions=NORMAL", "table=60,priority=50,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,reg9=0x7 actions=FLOOD",
	"table=71,priority=0 actions=drop", "table=91,priority=1 actions=resubmit(,94)", "table=93,priority=0 actions=drop",
	"table=94,priority=1 actions=NORMAL",
}

var recirculation = regexp.MustCompile(`recirc\(0x[0-9a-f]+\)`)

// TestPacketsGoAsBefore: hundreds of flows in the forms that agents write are copied and read back, and the switch
// tells for each kind of packet that it does the same with it while pinned, whatever is left of the flows.
func TestPacketsGoAsBefore(t *testing.T) {
	need.Drill(t, "360, pinned flows: odd flows forward as before while they are pinned")
	r := newRig(t)
	r.Delete(t, bridgeName, 1)
	r.Run(t, "ovs-vsctl", "--timeout=15", "add", "bridge", bridgeName, "protocols", "OpenFlow15")
	r.Run(t, "ovs-ofctl", "-O", "OpenFlow15", "add-group", bridgeName,
		"group_id=7,type=select,selection_method=hash,fields(eth_src),bucket=bucket_id:0,weight:50,actions=output:1,bucket=bucket_id:1,weight:50,actions=resubmit(,9)")
	all := odd
	for port := 1; port <= 40; port++ {
		all = append(all[:len(all):len(all)], firewall(port)...)
	}
	r.Add(t, bridgeName, 1, all...)

	var packets []string
	for from := 1; from <= 2; from++ {
		for to := 1; to <= 3; to++ {
			at := fmt.Sprintf("in_port=%d,dl_src=%s,dl_dst=%s", from, ovstest.MAC(from), ovstest.MAC(to))
			ip := fmt.Sprintf(",nw_src=%s,nw_dst=%s,nw_ttl=64", ovstest.Addr(from), ovstest.Addr(to))
			packets = append(packets, at+",udp"+ip+",udp_src=5,udp_dst=6", at+",tcp"+ip+",tcp_src=5,tcp_dst=80",
				at+",udp"+ip+",udp_src=68,udp_dst=67",
				at+",arp,arp_op=1,arp_spa="+ovstest.Addr(from).String(), at+",arp,arp_op=1,arp_spa=10.9.0.99",
				at+",icmp6,icmpv6_type=136", at+",dl_vlan=3")
		}
	}
	// What the switch would do, for new and for established connections.
	trace := func() (out []string) {
		for _, p := range packets {
			for _, state := range []string{"trk,new", "trk,est"} {
				lines := r.Run(t, "ovs-appctl", "-t", r.Dir+"/vs.ctl", "ofproto/trace", bridgeName, p, "--ct-next", state, "--ct-next", state)
				did := p + " " + state + ":"
				for line := range strings.Lines(lines) {
					if a, ok := strings.CutPrefix(line, "Datapath actions: "); ok {
						did += " " + recirculation.ReplaceAllString(strings.TrimSpace(a), "recirc")
					}
				}
				out = append(out, did)
			}
		}
		return out
	}
	before, flows := trace(), len(r.dump(t).Theirs())
	ctx := try.Context(t)
	res, err := Pin(ctx, pin.Order{Bridge: bridgeName, For: 5 * time.Minute})
	try.Must(t, err)
	if res.Flows != flows || res.Groups != 1 || len(res.Notes) != 1 {
		t.Errorf("%+v: want %d flows, 1 group, and a note of the controller", res, flows)
	}
	r.Delete(t, bridgeName, 1)
	r.Run(t, "ovs-ofctl", "-O", "OpenFlow15", "del-groups", bridgeName, "group_id=7")
	same, drops := 0, 0
	for i, now := range trace() {
		if now != before[i] {
			t.Errorf("pinned: %s\nbefore: %s", now, before[i])
		}
		if same++; strings.HasSuffix(now, ": drop") {
			drops++
		}
	}
	t.Logf("%d flows; %d packets go as before, of which %d are dropped", flows, same, drops)
	if drops == 0 || drops == same {
		t.Errorf("%d of %d packets are dropped: want some to be, and others not", drops, same)
	}
	_, err = Unpin(ctx, pin.Order{Bridge: bridgeName, Force: true})
	try.Must(t, err)
	if d := r.dump(t); len(d.Ours()) > 0 || len(d.Groups) > 0 {
		t.Errorf("after unpin: %d flows of the pin, %d groups", len(d.Ours()), len(d.Groups))
	}
}
