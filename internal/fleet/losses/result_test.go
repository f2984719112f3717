package losses

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample is a minute of three targets and a silent one.
func sample() *Result {
	began := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	at := func(s float64) Moment { return Moment{began.Add(time.Duration(s * float64(time.Second)))} }
	ip := netip.MustParseAddr
	r := &Result{Name: "h1", Began: at(0), Ended: at(60), Rate: 10, ARPRate: 5, Targets: []Target{
		{Address: Address{ip("10.0.0.1"), "web"}, By: ICMP, Sent: 600, Gaps: []Gap{}, Reordered: new(int64(0))},
		{Address: Address{ip("10.0.0.2"), "<b>&"}, By: ICMP, Sent: 600, Lost: 13, LongestMS: 1200.5,
			Gaps: []Gap{{At: at(10.5), MS: 100}, {At: at(30.25), MS: 1200.5}}, Reordered: new(int64(1))},
		{Address: Address{IP: ip("10.0.0.3")}, By: ARP, Sent: 300, Lost: 150, LongestMS: 15000,
			Gaps: []Gap{{At: at(45), MS: 15000, Open: true}}, GapsLeftOut: 2, UnwatchedMS: 30000.2,
			Unwatched: []Gap{{At: at(10), MS: 29000.2}}, UnwatchedLeftOut: 3},
	}, Silent: []Silent{{Address{ip("10.0.0.9"), "gone"}, []Means{ICMP, ARP}}}}
	r.Sum()
	return r
}

func TestResultIsReadAsItWasWritten(t *testing.T) {
	r := sample()
	if want := (Total{Targets: 3, ByARP: 1, Losing: 2, Silent: 1, Sent: 1500, Lost: 163, LongestMS: 15000,
		LongestIP: "10.0.0.3", Reordered: 1, UnwatchedMS: 30000.2}); r.Total != want {
		t.Errorf("%+v, want %+v", r.Total, want)
	}
	if n := r.Unwatched(); n < 0.166 || n > 0.167 {
		t.Errorf("%v of the time was not watched, want a sixth", n)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`{"ip":"10.0.0.1","name":"web","by":"icmp","sent":600,"lost":0,"longest_gap_ms":0,"gaps":[],"gaps_left_out":0,"reordered":0,"unwatched_ms":0,"unwatched":[],"unwatched_left_out":0}`,
		`"gaps":[{"at":"2026-01-02T15:04:15.500Z","ms":100},{"at":"2026-01-02T15:04:35.250Z","ms":1200.5}]`,
		`"by":"arp","sent":300,`, `"reordered":null,`,
		`"silent":[{"ip":"10.0.0.9","name":"gone","asked_by":["icmp","arp"]}]`,
	} {
		if !bytes.Contains(text, []byte(part)) {
			t.Errorf("no %s in %s", part, text)
		}
	}
	again, err := Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if second, err := json.Marshal(again); err != nil || !bytes.Equal(text, second) {
		t.Errorf("%s\nis read as\n%s, %v", text, second, err)
	}
	for what, bad := range map[string]string{
		"not the JSON of a result":                  strings.Replace(string(text), `"rate"`, `"rat"`, 1),
		"more follows":                              string(text) + "{}",
		"unexpected EOF":                            string(text[:len(text)/2]),
		"version 4: want 1 to 3":                    strings.Replace(string(text), `"version":3`, `"version":4`, 1),
		"unwatched[0]: want a time":                 strings.Replace(string(text), `"ms":29000.2`, `"ms":-1`, 1),
		`name ""`:                                   strings.Replace(string(text), `"name":"h1"`, `"name":""`, 1),
		"arp_rate 11: want 0.1 to 10, or 0":         strings.Replace(string(text), `"arp_rate":5`, `"arp_rate":11`, 1),
		`targets[2]: by "arp": want icmp, or arp`:   strings.Replace(string(text), `"arp_rate":5`, `"arp_rate":0`, 1),
		`targets[0]: by "": want icmp`:              strings.Replace(string(text), `"by":"icmp"`, `"by":""`, 1),
		"targets[1]: 10.0.0.1 is there twice":       strings.Replace(string(text), `"10.0.0.2"`, `"10.0.0.1"`, 1),
		"silent[0]: 10.0.0.1 is there twice":        strings.Replace(string(text), `"10.0.0.9"`, `"10.0.0.1"`, 1),
		`silent[0]: asked_by "tcp"`:                 strings.Replace(string(text), `["icmp","arp"]`, `["icmp","tcp"]`, 1),
		"rate 0: want 0.1 to 1000":                  strings.Replace(string(text), `"rate":10`, `"rate":0`, 1),
		"want a time after began":                   strings.Replace(string(text), `"ended":"2026`, `"ended":"2025`, 1),
		"targets[0]: lost 601: want 0 to sent, 600": strings.Replace(string(text), `"lost":0`, `"lost":601`, 1),
		`targets[0]: ip "invalid IP"`:               strings.Replace(string(text), `"ip":"10.0.0.1",`, ``, 1),
		"targets[1]: gaps[0]":                       strings.Replace(string(text), `"ms":100}`, `"ms":-1}`, 1),
		`silent[0]`:                                 strings.Replace(string(text), `{"ip":"10.0.0.9",`, `{`, 1),
	} {
		if _, err := Read(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
}

// TestFirstVersionIsRead: before there were names and ARP.
func TestFirstVersionIsRead(t *testing.T) {
	const old = `{"version":1,"began":"2026-01-02T15:04:05.000Z","ended":"2026-01-02T15:05:05.000Z","interrupted":false,"rate":10,"total":{"targets":1,"losing":0,"silent":1,"sent":600,"lost":0,"longest_gap_ms":0,"reordered":2,"unwatched_ms":0},
		"targets":[{"ip":"10.0.0.1","sent":600,"lost":0,"longest_gap_ms":0,"gaps":[],"gaps_left_out":0,"reordered":2,"unwatched_ms":0}],"silent":[{"ip":"10.0.0.9"}]}`
	r, err := Read(strings.NewReader(old))
	if err != nil || r.Version != version || r.Name != "" || r.Targets[0].By != ICMP ||
		!slices.Equal(r.Silent[0].AskedBy, []Means{ICMP}) || r.Total.Reordered != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestPage(t *testing.T) {
	var b strings.Builder
	if err := sample().WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, part := range []string{
		"<b>163</b> of 1500 packets to 3 targets lost, by 2 of them", "15000 ms", "&lt;b&gt;&amp;", "10.0.0.9 (gone)", "16.7 % of the time",
		`<td class="s h5" title="15:04:51.000: 1000 ms">`, `<td class="s h1" title="15:04:15.000: 100 ms">`,
		`<td class="s h3" title="15:04:35.000: 750 ms">`, `<td class="s h2" title="15:04:36.000: 450.5 ms">`,
	} {
		if !strings.Contains(page, part) {
			t.Errorf("no %s in\n%s", part, page)
		}
	}
	if strings.Contains(page, "http") || strings.Contains(page, "<script") || strings.Contains(page, "<td>10.0.0.1<") {
		t.Errorf("it needs something else, or shows a target without losses:\n%s", page)
	}
	if n, want := strings.Count(page, `<td class="s`), 2*pageSlots; n != want {
		t.Errorf("%d slots, want %d", n, want)
	}
	if first := strings.Index(page, "10.0.0.3</td>"); first < 0 || first > strings.Index(page, "10.0.0.2</td>") {
		t.Error("the worst does not come first")
	}
	none := &Result{Rate: 1}
	none.Sum()
	b.Reset()
	if err := none.WriteHTML(&b); err != nil || !strings.Contains(b.String(), "No target lost any") {
		t.Errorf("without targets: %v\n%s", err, b.String())
	}
}
