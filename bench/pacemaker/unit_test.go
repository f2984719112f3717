package pacemaker

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/lab"
)

// answer is what crm_mon 2.1.5 writes, shortened.
const answer = `<pacemaker-result api-version="2.28" request="crm_mon --one-shot --output-as=xml">
  <summary>
    <stack type="corosync" pacemakerd-state="running"/>
    <current_dc present="true" version="2.1.5-a3f44794f94" name="h3" id="3" with_quorum="true"/>
    <nodes_configured number="3"/>
  </summary>
  <nodes>
    <node name="h1" id="1" online="true" standby="false" pending="false" unclean="false" is_dc="false" type="member"/>
    <node name="h2" id="2" online="H2ON" standby="false" pending="H2PENDING" unclean="false" is_dc="false" type="member"/>
    <node name="h3" id="3" online="true" standby="false" pending="false" unclean="false" is_dc="true" type="member"/>
  </nodes>
  <resources>
    <resource id="fence" resource_agent="stonith:fence_bmc" role="Started" active="true" failed="false" nodes_running_on="1">
      <node name="h1" id="1" cached="true"/>
    </resource>
    <resource id="guest" resource_agent="ocf:bench:guest" role="ROLE" active="true" failed="false" nodes_running_on="1">
      <node name="h2" id="2" cached="true"/>
    </resource>
  </resources>
  FAILURES
  <status code="0" message="OK"/>
</pacemaker-result>`

func TestStatus(t *testing.T) {
	hosts := []string{"h1", "h2", "h3"}
	for _, c := range []struct {
		name, on, pending, role, failures string
		want                              string // part of why it is not settled, "" when it is
	}{
		{"settled", "true", "false", "Started", "", ""},
		{"a host is off", "false", "false", "Started", "", "not in the cluster: h2"},
		{"a host joins", "true", "true", "Started", "", "not in the cluster: h2"},
		{"the guest is starting", "true", "false", "Starting", "", "guest is Starting"},
		{"a failure is remembered", "true", "false", "Started",
			`<failures><failure op_key="guest_monitor_1000"/></failures>`, "guest_monitor_1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, err := parseStatus(strings.NewReplacer("H2ON", c.on, "H2PENDING", c.pending, "ROLE", c.role, "FAILURES", c.failures).Replace(answer))
			if err != nil {
				t.Fatal(err)
			}
			why := st.unsettled(hosts, []string{"guest"})
			if (c.want == "") != (why == "") || !strings.Contains(why, c.want) {
				t.Errorf("unsettled: %q, want %q", why, c.want)
			}
			if !st.Quorum.With || st.coordinator() != "h3" {
				t.Errorf("quorum %t, coordinator %q: want true and h3", st.Quorum.With, st.coordinator())
			}
			if host, ok := st.active("guest"); ok != (c.role == "Started") || ok && host != "h2" {
				t.Errorf("the guest is on %q, %t", host, ok)
			}
		})
	}
}

func TestStatusThatIsNone(t *testing.T) {
	for _, raw := range []string{"", "crm_mon: Error: cluster is not available", "<pacemaker-result/>"} {
		if st, err := parseStatus(raw); err == nil {
			t.Errorf("%q: read as %+v, want an error", raw, st)
		}
	}
}

func TestOrders(t *testing.T) {
	all, err := parseOrders("1795000000.000250 request h2\n1795000000.060001 confirmed h2\n1795000009.999999 request h1\n")
	if err != nil {
		t.Fatal(err)
	}
	since := time.Unix(1795000000, 0)
	if at := firstOrder(all, since, "confirmed", "h2"); at.Sub(since) != 60001*time.Microsecond {
		t.Errorf("confirmed after %s, want 60.001ms", at.Sub(since))
	}
	if at := firstOrder(all, since.Add(time.Second), "request", "h2"); !at.IsZero() {
		t.Errorf("an order of before is found at %s", at)
	}
	for _, bad := range []string{"now request h1\n", "1795000000.1 request h1\n", "1795000000.000250 request\n"} {
		if _, err := parseOrders(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestLongestOutageIsOneThatEnded(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	p := lab.Pings{Outages: []lab.Outage{{Start: at(1), End: at(2)}, {Start: at(10), End: at(14)}, {Start: at(20)}}}
	if o := longest(p); !o.Start.Equal(at(10)) {
		t.Errorf("the longest is %+v, want the one of 4 s", o)
	}
	if o := longest(lab.Pings{Outages: []lab.Outage{{Start: at(20)}}}); !o.End.IsZero() {
		t.Errorf("an outage that lasts counts: %+v", o)
	}
}

func TestResources(t *testing.T) {
	for agent, want := range map[string]string{Minimal: `provider="bench" type="guest"`,
		VirtualDomain: `provider="heartbeat" type="VirtualDomain"`} {
		got, err := guestWork{}.resources(Options{Resource: agent, Profile: Tuned()})
		if err != nil || !strings.Contains(got, want) || !strings.Contains(got, `interval="1000ms"`) {
			t.Errorf("%s: %s, %v", agent, got, err)
		}
	}
	if _, err := (guestWork{}).resources(Options{Resource: "other"}); err == nil {
		t.Error("an agent that does not exist: no error")
	}
	got, err := addressWork{&lab.Lab{}}.resources(Options{Profile: Tuned()})
	if err != nil || !strings.Contains(got, `type="IPaddr2"`) || !strings.Contains(got, `name="ip" value="10.98.0.9"`) {
		t.Errorf("an address: %s, %v", got, err)
	}
	if _, err := newWork("other", nil); err == nil {
		t.Error("a work that does not exist: no error")
	}
}

func TestDatabaseResources(t *testing.T) {
	o := Options{Profile: Tuned(), Data: "/data", Service: "#!/bin/sh"}
	for plain, has := range map[bool]bool{false: true, true: false} {
		w := databaseWork{&lab.Lab{}, plain}
		got, err := w.resources(o)
		if err != nil {
			t.Fatal(err)
		}
		got = "<r>" + got + w.constraints() + "</r>"
		if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil {
			t.Errorf("plain %t: %v: %s", plain, err, got)
		}
		if strings.Contains(got, `type="mariadb"`) != has || strings.Contains(got, "db-clone") != has ||
			!strings.Contains(got, `type="IPaddr2"`) {
			t.Errorf("plain %t: %s", plain, got)
		}
	}
	if _, err := (databaseWork{&lab.Lab{}, false}).resources(Options{Profile: Tuned()}); err == nil {
		t.Error("a database without data: no error")
	}
}

func TestStatusOfADatabase(t *testing.T) {
	clone := `<clone id="db-clone"><resource id="db" role="FIRST" failed="false"><node name="h1"/></resource><resource id="db" role="Unpromoted" failed="false"><node name="h2"/></resource></clone></resources>`
	raw := strings.NewReplacer("H2ON", "true", "H2PENDING", "false", "ROLE", "Started", "FAILURES", "", "</resources>", clone).Replace(answer)
	for first, settled := range map[string]bool{"Promoted": true, "Unpromoted": false, "Stopped": false} {
		st, err := parseStatus(strings.Replace(raw, "FIRST", first, 1))
		if err != nil {
			t.Fatal(err)
		}
		if why := st.unsettled([]string{"h1", "h2", "h3"}, []string{"guest"}); (why == "") != settled {
			t.Errorf("%s: unsettled: %q", first, why)
		}
	}
}

func TestTally(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(0, 0).Add(time.Duration(n) * lab.PingInterval) }
	var probes []probed
	for i, c := range "..xx.x.xxx...c" {
		probes = append(probes, probed{sent: at(i), ok: c == '.', cut: c == 'c'})
	}
	p := tally(probes)
	if p.Sent != 13 || p.Lost != 6 || len(p.Outages) != 3 {
		t.Fatalf("%+v: want 13 sent, 6 lost, 3 outages", p)
	}
	if o := longest(p); !o.Start.Equal(at(7)) || !o.End.Equal(at(10)) || o.Lost != 3 {
		t.Errorf("longest outage %+v: want from 7 to 10", o)
	}
	if p.Longest != 4*lab.PingInterval {
		t.Errorf("longest time between answers %s: want 80ms", p.Longest)
	}
}

func TestUpRefuses(t *testing.T) {
	if m := Missing(); len(m) > 0 {
		t.Skip("missing: " + strings.Join(m, ", "))
	}
	taken := t.TempDir()
	if err := os.WriteFile(filepath.Join(taken, "state.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]Options{
		"without a laboratory": {Lab: lab.Options{Dir: taken}},
		"Holdfast's agents":    {Lab: lab.Options{Dir: t.TempDir(), Agents: true}},
		"monitor interval":     {Lab: lab.Options{Dir: t.TempDir()}, Profile: Profile{Name: "wrong"}},
	} {
		if _, err := Up(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error with %q", o, err, want)
		}
	}
}
