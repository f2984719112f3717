package config

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// checkFaults holds for the faults of any input.
func checkFaults(t *testing.T, faults []Fault) {
	t.Helper()
	for _, f := range faults {
		if f.Where() == "0:0" || f.Want == "" {
			t.Errorf("fault without place or rule: %#v", f)
		}
		if strings.Contains(f.Error(), "\n") {
			t.Errorf("fault of more than one line: %q", f.Error())
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"base.json", "source-form.json"} {
		f.Add([]byte(fixture(f, name)), false, false)
	}
	own := `"CPU": 4, "VNC": {"Credential": "file:/etc/vnc"}, "DomainXML": ` +
		strconv.Quote(strings.NewReplacer("/srv/shared/mngt", "/srv/shared", "MAC0", "02:00:5e:10:00:01", "BRIDGE0",
			"br0", "MAC1", "02:00:5e:10:00:02", "BRIDGE1", "br1").Replace(ownDomain))
	f.Add([]byte(strings.Replace(fixture(f, "base.json"), `"CPU": 4`, own, 1)), false, false)
	f.Add([]byte(`{"Fencing": {"Unsafe": true, "h1": {"Devices": [null]}}, "Timings": {"Drift": 0.02, "Lease": "1h"}, "Labels": {"a": null}, "MemorySizeInMB": 128}`), false, true)
	f.Add([]byte("Node: [192.0.2.1 a, '192.0.2.2 b']\nDNS: &x [1.1.1.1]\nChronyServers: *x\nCPU: .nan\n"), true, true)
	f.Add([]byte("Timings: {Lease: 6s}\nLabels: {? a : b}\nDirectBoot: !!binary aGk=\n"), true, false)
	f.Fuzz(func(t *testing.T, data []byte, isYAML, undersized bool) {
		name := "c.json"
		if isYAML {
			name = "c.yaml"
		}
		opt := Options{AllowUndersized: undersized}
		cl, faults, _ := Parse(name, data, opt)
		checkFaults(t, faults)
		if len(faults) > 0 {
			return
		}
		again, err := json.Marshal(cl)
		if err != nil {
			t.Fatal(err)
		}
		back, faults, _ := Parse("again.json", again, opt)
		if len(faults) > 0 || !reflect.DeepEqual(back, cl) {
			t.Errorf("%s\nread again: %v\n%+v, want %+v", again, Faults(faults), back, cl)
		}
		var std Cluster
		if err := json.Unmarshal(again, &std); err != nil || !reflect.DeepEqual(std, cl) {
			t.Errorf("%s\nread by encoding/json: %v\n%+v, want %+v", again, err, std, cl)
		}
		for _, n := range cl.Nodes() {
			if nics, _ := cl.For(n.Host); len(nics) != len(cl.Network) {
				t.Errorf("%d cards on %s, want %d", len(nics), n.Host, len(cl.Network))
			}
		}
	})
}

func FuzzLoadNode(f *testing.F) {
	f.Add([]byte(fixture(f, "agent.json")))
	f.Add([]byte(`{"host": "h1", "addr": "::1", "cluster": "c", "driver": "process", "process": {"command": ["x"], "dir": "/x"}, "store": {"endpoints": ["http://h:1"]}, "watchdog": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, faults := ParseNode("agent.json", data)
		checkFaults(t, faults)
		if len(faults) > 0 {
			return
		}
		again, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		back, faults := ParseNode("again.json", again)
		if len(faults) > 0 || !reflect.DeepEqual(back, n) {
			t.Errorf("%s\nread again: %v\n%+v, want %+v", again, Faults(faults), back, n)
		}
	})
}
