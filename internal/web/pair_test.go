package web

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/browser"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// lay makes the site's cluster a pair, changed by f, and waits until the console knows it.
func (x *site) lay(f func(*cluster.PairStatus)) {
	x.t.Helper()
	x.pair.Lay(f)
	x.cluster.Update(func(*cluster.Status) {})
	try.Until(x.t, "it is a pair", func() bool { s, _ := x.console.live.now(); return s.OfPair() })
}

// pairStates are states of a pair: what is changed of one that is well.
var pairStates = map[string]func(*cluster.PairStatus){
	"in sync": func(*cluster.PairStatus) {},
	"switched": func(p *cluster.PairStatus) {
		p.Owner.Proof = cluster.Proof{Kind: cluster.ProofReleased, Host: "node2"}
		p.Takeover.ByDeadline, p.Takeover.ByFence = true, true
	},
	"standby lost": func(p *cluster.PairStatus) {
		p.Nodes[1].Alive, p.Nodes[1].Time = false, p.Time.Add(-3*time.Minute)
		p.InSync, p.Nodes[0].Waits = []cluster.HostID{"node1"}, false
		p.Takeover = cluster.Takeover{Why: "no other host is able to run it: node2 is silent"}
	},
	"copying": func(p *cluster.PairStatus) {
		p.InSync = []cluster.HostID{"node1"}
		n := &p.Nodes[1]
		n.Linked, n.Fit, n.Why = false, false, "its copy does not have every acknowledged write"
		n.Copy = &cluster.PairCopy{Stage: "receiving", Bytes: 6e10, About: 1e11, Percent: 60, Rate: 83_333_333,
			Elapsed: 12 * time.Minute, Left: 8 * time.Minute}
	},
	"partitioned": func(p *cluster.PairStatus) {
		for i, n := range []*cluster.PairNode{&p.Nodes[0], &p.Nodes[1]} {
			n.Partition = &cluster.PairPartition{Name: "templates", Disk: "/dev/sdb", Mount: "/srv/templates",
				State: cluster.PartitionReady, Role: []string{"active", "standby"}[i], Copy: []string{"UpToDate", "Inconsistent"}[i], Percent: 42}
		}
	},
	"rows differ": func(p *cluster.PairStatus) {
		p.Nodes[1].Compared = &cluster.PairCompared{Ended: p.Time.Add(-2 * time.Hour), Tables: 2, Rows: 7,
			Differ: []string{"app.log: id 5: node2 lacks this row"}, Left: []string{"app.old: its engine is Aria"}}
		p.Nodes[0].Weak = []string{"app.cache (MEMORY): it is empty after each start of a database, on one node alone as well"}
	},
	"split brain": split,
	"waiting": func(p *cluster.PairStatus) {
		split(p)
		p.Waiting, p.Nodes[0].Off = "a host that is able to run it: node2: its copy does not have every acknowledged write", true
	},
	"stopped": func(p *cluster.PairStatus) {
		p.Want.Run, p.Owner.State = false, cluster.Released
		for i := range p.Nodes {
			p.Nodes[i].Role = "standby"
			for j := range p.Nodes[i].Members {
				p.Nodes[i].Members[j].State = "down"
			}
		}
	},
}

// split is a pair of which the only copy with every acknowledged write is lost.
func split(p *cluster.PairStatus) {
	p.InSync = []cluster.HostID{"node1"}
	p.Nodes[0].Alive, p.Nodes[0].Time = false, p.Time.Add(-10*time.Minute)
	n := &p.Nodes[1]
	n.Role, n.Linked, n.Fit, n.Why = "off", false, false, "its copy does not have every acknowledged write"
	p.Takeover = cluster.Takeover{Why: "no host is able to run it: node2: its copy does not have every acknowledged write"}
}

// TestPairStates: each state of a pair is told, in the words of the command, with the orders that are possible, to those who
// may give them.
func TestPairStates(t *testing.T) {
	x := newSite(t)
	const (
		change, halt, start = `href="/pair/switch"`, `href="/pair/stop"`, `action="/pair/start"`
		choose, recover     = `href="/pair/resolve"`, "holdfast pair recover 10.0.0.12"
	)
	viewer, operator, admin := x.as("the-viewer"), x.as("the-operator"), x.as("the-admin")
	for name, c := range map[string]struct {
		says      []string
		operators []string // links of who may act
		admins    []string
		not       []string
	}{
		"in sync": {[]string{"The services run on node1.", "pair healthy", "guarantee safe", "complete node1, node2", "lag 0s",
			"takeover possible within 8.6s", "node3 alive", "Commits wait for the standby yes",
			"172.16.60.55 started", "tomcat started", "Data /var/lib/mysql-share", "running on node1, epoch 0.3"},
			[]string{change, halt}, nil, []string{start, choose, recover, "last switch"}},
		"switched": {[]string{"proof a fence device that shows it off, or its own reset",
			"node1 serves in place of node2 after 0.25 s: services stopped 0.05, all data handed over 0.04, taken 0.01, promoted 0.05, " +
				"services started 0.10"}, []string{change}, nil, nil},
		"standby lost": {[]string{"pair degraded", "node2 is silent", "What follows it has told last: it is 3m old.",
			"takeover NOT possible: no other host is able to run it", "complete node1", "Commits wait for the standby no", recover},
			[]string{change, halt}, nil, []string{choose}},
		"copying": {[]string{"node2: receiving: 60 %, 60.0 GB of about 100.0 GB, 83.3 MB/s, 12m0s so far, about 8m0s left",
			"does not have every acknowledged write", "Could be promoted no: its copy does not have every"},
			[]string{change}, nil, []string{choose, recover}},
		"partitioned": {[]string{"templates on node2 /dev/sdb: Inconsistent, 42 % in common", "/dev/sdb → /srv/templates"},
			[]string{`href="/pair/partition"`}, nil, nil},
		"rows differ": {[]string{"the rows of the nodes differ: app.log: id 5: node2 lacks this row", "2h ago: differences: 1; tables: 2, rows: 7",
			"not compared: app.old: its engine is Aria",
			"app.cache (MEMORY): it is empty after each start of a database, on one node alone as well", recover}, nil, nil,
			[]string{choose}},
		"split brain": {[]string{"The services do not run.", "pair down", "node1 is silent",
			"No copy that has every acknowledged write can be promoted now."},
			[]string{halt}, []string{choose}, []string{change, recover, "takeover NOT"}},
		"waiting": {[]string{"a host that is able to run it: node2: its copy does not", "node1 switched off",
			"node1 was shown off by its fence device: switch it on when it is in order"}, nil, []string{choose}, []string{change}},
		"stopped": {[]string{"It is stopped, as somebody has asked for.", "pair down it was asked to stop"}, []string{start}, nil,
			[]string{change, halt, choose}},
	} {
		x.lay(pairStates[name])
		for _, who := range []*http.Client{viewer, operator, admin} {
			code, body, _ := x.get(who, "/pair")
			said := text(t, body)
			if code != http.StatusOK {
				t.Errorf("%s: %d: %s", name, code, said)
				continue
			}
			for _, want := range c.says {
				if !strings.Contains(said, want) {
					t.Errorf("%s: without %q: %s", name, want, said)
				}
			}
			for _, link := range slices.Concat(c.operators, c.admins) {
				may := who == admin || who == operator && slices.Contains(c.operators, link)
				if strings.Contains(body, link) != may {
					t.Errorf("%s: %q is shown: %v, want %v", name, link, !may, may)
				}
			}
			for _, bad := range c.not {
				if strings.Contains(body, bad) || strings.Contains(said, bad) {
					t.Errorf("%s: it has %q", name, bad)
				}
			}
		}
	}
}

// TestNoPair: a cluster that is none has no such pages, but for the space that one needs.
func TestNoPair(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	_, body, _ := x.get(c, "/")
	if strings.Contains(body, `href="/pair"`) {
		t.Error("the menu has a pair")
	}
	if code, body, _ := x.get(c, "/pair"); code != http.StatusConflict || !strings.Contains(body, "This cluster is no pair.") {
		t.Errorf("%d: %s", code, body)
	}
	for query, want := range map[string][]string{"": {"Space that a pair needs"},
		"?hosts=4&vms=20":       {"database partition 15 GB /vms partition 30 GB"},
		"?hosts=0&vms=20":       {`hosts: value "0": want a number from 1 to 100000`},
		"?hosts=4&vms=x%3Cb%3E": {`vms: value "x<b>": want a number from 0 to 10000000`}, "?hosts=4": {"Space that a pair needs"}} {
		code, body, _ := x.get(c, "/pair/size"+query)
		for _, w := range want {
			if said := text(t, body); code != http.StatusOK || !strings.Contains(said, w) {
				t.Errorf("%s: %d, without %q: %s", query, code, w, said)
			}
		}
		if strings.Contains(body, `href="/pair"`) {
			t.Errorf("%s: the menu has a pair", query)
		}
	}
	x.lay(nil)
	if _, body, _ := x.get(c, "/"); !strings.Contains(body, `href="/pair"`) {
		t.Error("the menu of a pair has it not")
	}
}

// TestPairOrders: each is carried out in the user's name, and not before he has said that he means it.
func TestPairOrders(t *testing.T) {
	x := newSite(t)
	x.lay(nil)
	operator, admin := x.as("the-operator"), x.as("the-admin")
	wants := func(what string, is func(w cluster.Want) bool) {
		t.Helper()
		try.Until(t, what, func() bool { return is(x.cluster.Status().Want) })
	}
	for _, path := range []string{"/pair/switch", "/pair/stop"} {
		if code, _, to := x.post(operator, path); code != http.StatusSeeOther || to != path || len(x.cluster.Users()) != 0 {
			t.Errorf("%s, not sure: %d, to %q, %q", path, code, to, x.cluster.Users())
		}
	}
	if _, body, _ := x.get(operator, "/pair/switch"); !strings.Contains(text(t, body), "Switch the services to node2") {
		t.Error(text(t, body))
	}
	if code, body, to := x.post(operator, "/pair/switch", "sure", "yes"); code != http.StatusSeeOther || to != "/pair" {
		t.Errorf("%d, to %q: %s", code, to, text(t, body))
	}
	wants("a switch", func(w cluster.Want) bool { return w.MoveTo == "node2" })
	if code, body, _ := x.post(operator, "/pair/switch", "sure", "yes"); code != http.StatusConflict ||
		!strings.Contains(body, "a switch to node2 is under way") {
		t.Errorf("again: %d: %s", code, text(t, body))
	}
	x.cluster.Update(func(s *cluster.Status) { s.Want.MoveTo = "" })
	x.lay(func(p *cluster.PairStatus) {
		p.InSync, p.Nodes[1].Role = p.InSync[:1], "unknown"
		p.Nodes[0].Weak = []string{"app.cache (MEMORY): it is empty after each start of a database, on one node alone as well"}
	})
	const why = "node2 does not have everything yet: its database does not answer"
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		_, body, _ := x.do(operator, x.request(method, "/pair/switch", "sure", "yes"))
		if said := text(t, body); !strings.Contains(said, why) || strings.Contains(body, `class="btn danger"`) ||
			(method == http.MethodGet) != strings.Contains(said, "tables that may lose rows by this switch: app.cache (MEMORY)") {
			t.Errorf("%s: %s", method, said)
		}
	}
	x.lay(nil)
	x.post(operator, "/pair/stop", "sure", "yes")
	wants("a stop", func(w cluster.Want) bool { return !w.Run })
	x.post(operator, "/pair/start")
	wants("a start", func(w cluster.Want) bool { return w.Run })
	if u := x.cluster.Users(); len(u) != 3 || u[0] != "the-operator (console, 127.0.0.1)" {
		t.Errorf("%q", u)
	}
	for _, f := range [][]string{{"name", "a", "disk", "sdb", "unmanaged", "yes"}, {"name", "a", "disk", "/dev/sdb"}} {
		if code, body, _ := x.post(operator, "/pair/partition", f...); code < 400 {
			t.Errorf("%q: %d: %s", f, code, text(t, body))
		}
	}
	x.post(operator, "/pair/partition", "name", "templates", "disk", "/dev/sdb", "unmanaged", "yes")
	if _, body, _ := x.get(operator, "/pair"); !strings.Contains(text(t, body), "/dev/sdb → /srv/templates") {
		t.Error(text(t, body))
	}
	if code, _, _ := x.post(operator, "/pair/partition/remove", "name", "templates", "again", "template"); code != http.StatusBadRequest {
		t.Error(code)
	}
	x.post(operator, "/pair/partition/remove", "name", "templates", "again", "templates")
	if _, body, _ := x.get(operator, "/pair"); strings.Contains(body, "/srv/templates") {
		t.Error(text(t, body))
	}
	x.pair.Unset()
	_, body, _ := x.get(admin, "/pair")
	if !strings.Contains(text(t, body), "The pair is not set up.") || !strings.Contains(body, `href="/pair/begin"`) {
		t.Error(text(t, body))
	}
	if code, _, _ := x.post(admin, "/pair/begin", "again", "node2"); code != http.StatusBadRequest {
		t.Error(code)
	}
	if code, body, to := x.post(admin, "/pair/begin", "again", "node1"); code != http.StatusSeeOther || to != "/pair" {
		t.Errorf("%d: %s", code, body)
	}
}

// TestPairChoice: both sides are shown with what is known of the other one. This host's copy is kept by its name; for the other
// one there is a way to its console.
func TestPairChoice(t *testing.T) {
	x := newSite(t)
	x.lay(split)
	c := x.as("the-admin")
	code, body, _ := x.get(c, "/pair/resolve")
	port := x.URL[strings.LastIndex(x.URL, ":")+1:]
	said := text(t, body)
	for _, want := range []string{"keep the data of node2, and give up what only the other node has (node1: has every acknowledged write; " +
		"is silent; has told last at ", "keep the data of node1, and give up what only the other node has (node2; has told last at ",
		"Type its name: node1", "Console of node2", "holdfast pair resolve --keep node2",
		"has every acknowledged write", "does not have every acknowledged write"} {
		if code != http.StatusOK || !strings.Contains(said, want) {
			t.Errorf("%d, without %q: %s", code, want, said)
		}
	}
	if !strings.Contains(body, `href="https://10.0.0.12:`+port+`/pair/resolve"`) || strings.Contains(body, `value="node2"`) {
		t.Error(body)
	}
	if code, body, _ := x.post(c, "/pair/resolve", "keep", "node1", "again", "node"); code != http.StatusBadRequest {
		t.Errorf("%d: %s", code, body)
	}
	if code, body, _ := x.post(c, "/pair/resolve", "keep", "node2", "again", "node2"); code != http.StatusConflict ||
		!strings.Contains(body, "this is node1") {
		t.Errorf("%d: %s", code, text(t, body))
	}
	if code, body, to := x.post(c, "/pair/resolve", "keep", "node1", "again", "node1"); code != http.StatusSeeOther || to != "/pair" {
		t.Errorf("%d: %s", code, text(t, body))
	}
	if _, body, _ := x.get(c, "/pair/resolve"); !strings.Contains(body, "Nothing needs a choice now") {
		t.Error(text(t, body))
	}
}

// TestPairUnread: a host that reads no records says so, and an admin may have its copy kept, as of a pair without a third host.
func TestPairUnread(t *testing.T) {
	x := newSite(t)
	x.lay(nil)
	const why = "node1: alone, it waits for the other node"
	x.pair.Cut(fail.Errorf(fail.Unavailable, why))
	for _, role := range cluster.Roles {
		code, body, _ := x.get(x.as("the-"+string(role)), "/pair")
		if said := text(t, body); code != http.StatusOK || !strings.Contains(said, "How the pair is can not be read.") ||
			!strings.Contains(said, why) || strings.Contains(body, `href="/pair/resolve"`) != (role == cluster.Admin) {
			t.Errorf("%s: %d: %s", role, code, said)
		}
	}
	c := x.as("the-admin")
	if code, body, _ := x.get(c, "/pair/resolve"); code != http.StatusOK || !strings.Contains(text(t, body),
		"keep the data of node1, and give up what the other node has written alone, which has to be off.") {
		t.Errorf("%d: %s", code, text(t, body))
	}
	if code, body, to := x.post(c, "/pair/resolve", "keep", "node1", "again", "node1"); code != http.StatusSeeOther || to != "/pair" {
		t.Errorf("%d: %s", code, text(t, body))
	}
	if _, body, _ := x.get(c, "/pair"); !strings.Contains(body, "The services run on node1.") {
		t.Error(text(t, body))
	}
}

// TestPairPages: who may not give an order does not come to its page.
func TestPairPages(t *testing.T) {
	x := newSite(t)
	x.lay(nil)
	for _, role := range cluster.Roles {
		c := x.as("the-" + string(role))
		for _, p := range pairPages {
			want := http.StatusOK
			if p.least != "" && !role.May(p.least) {
				want = http.StatusForbidden
			}
			if code, body, _ := x.get(c, p.path); code != want {
				t.Errorf("%s as %s: %d, want %d: %s", p.path, role, code, want, text(t, body))
			}
		}
	}
}

// TestPairTextsAreNoMarkup: what nodes and their databases say stays text.
func TestPairTextsAreNoMarkup(t *testing.T) {
	x := newSite(t)
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	x.cluster.Update(func(s *cluster.Status) { s.Hosts[1].Addr = evil })
	x.lay(func(p *cluster.PairStatus) {
		split(p)
		p.Waiting, p.Arbiter, p.Owner.Reason, p.InSync = evil, evil, evil, []cluster.HostID{evil}
		p.Voters[0].Host = evil
		for i := range p.Nodes {
			n := &p.Nodes[i]
			n.Role, n.Why, n.Problem, n.Data, n.Weak = evil, evil, evil, evil, []string{evil}
			n.Members = []cluster.PairMember{{Name: evil, VIP: evil, State: evil}}
			n.Copy = &cluster.PairCopy{Stage: evil}
			n.Compared = &cluster.PairCompared{Ended: p.Time, Differ: []string{evil}, Left: []string{evil}, Failed: evil}
			n.Partition = &cluster.PairPartition{Name: evil, Disk: evil, Mount: evil, State: evil, Copy: evil, Problem: evil}
		}
		p.Nodes[1].Host = evil
	})
	c := x.as("the-admin")
	for path, least := range map[string]int{"/pair": 20, "/pair/resolve": 10, "/pair/partition": 3, "/pair/switch": 1} {
		_, body, _ := x.get(c, path)
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") ||
			strings.Count(body, "&lt;script&gt;alert") < least {
			t.Errorf("%s: %d times: %s", path, strings.Count(body, "&lt;script&gt;alert"), body)
		}
	}
	for path, fields := range map[string][]string{"/pair/partition": {"name", evil, "disk", evil},
		"/pair/resolve": {"keep", "node1", "again", evil}} {
		if code, body, _ := x.post(c, path, fields...); code < 400 || strings.Contains(body, "<script>alert") {
			t.Errorf("%s: %d: %s", path, code, body)
		}
	}
	if _, body, _ := x.get(c, "/pair/size?hosts="+url.QueryEscape(evil)+"&vms=1"); strings.Contains(body, "<script>alert") {
		t.Error(body)
	}
}

// TestPairInChinese: what the pages say of all states has no English left but names and units.
func TestPairInChinese(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	x.post(c, "/language", "language", "zh", "back", "/")
	latin := regexp.MustCompile(`[A-Za-z][A-Za-z_]+`)
	known := regexp.MustCompile(`^(Holdfast|node|tomcat|webip|var|lib|mysql|share|MB|GB|VM|vms|DRBD|FC|iSCSI|dev|sdb|srv|templates|NAME|` +
		`holdfast|pair|recover|resolve|keep|app|log|id|old|Aria|cache|MEMORY|Inconsistent|UpToDate|begin|size|status|start)$`)
	for name, f := range pairStates {
		x.lay(f)
		for _, p := range append([]*page{pairPage}, pairPages...) {
			code, body, _ := x.get(c, p.path)
			if p == pairSwitchPage && code == http.StatusConflict {
				continue // it can not be switched
			}
			_, main, _ := strings.Cut(body, "<main")
			_, main, _ = strings.Cut(main, ">")
			var words []string
			for _, w := range latin.FindAllString(text(t, main), -1) {
				if !known.MatchString(w) {
					words = append(words, w)
				}
			}
			if len(words) > 0 {
				t.Errorf("%s, %s: %q in %s", name, p.path, words, text(t, main))
			}
		}
	}
}

// TestPairLive: a page that is open gets what becomes of the pair.
func TestPairLive(t *testing.T) {
	x := newSite(t)
	x.lay(nil)
	resp, err := x.as("the-viewer").Get(x.URL + "/live/pair")
	try.Must(t, err)
	defer resp.Body.Close()
	_, until := follow(t, resp.Body)
	until("The services run on node1.")
	x.lay(pairStates["copying"])
	until("node2: receiving: 60 %")
	x.lay(split)
	until("No copy that has every acknowledged write can be promoted now.")
}

// TestPairInABrowser: on a telephone nothing scrolls sideways, light and dark, in both languages; a page that is open shows what
// becomes of the pair by itself, and the space as one types.
func TestPairInABrowser(t *testing.T) {
	need.Drill(t, "console: pages of a pair in Chromium: as they change, at the width of a telephone, in both languages, light and dark")
	need.Real(t, need.Programs("chromium", "chromium"))
	x := newSite(t)
	const width = 360
	for lang, theme := range map[string]string{"en": "dark", "zh-CN": "light"} {
		x.lay(nil)
		b := browser.Open(t, lang, x.URL)
		b.Look(t, width, theme)
		b.Go(t, x.URL, "input[name=password]")
		b.Fill(t, "input[name=name]", "the-admin")
		b.Fill(t, "input[name=password]", secret)
		b.Click(t, ".btn.main")
		b.Waits(t, ".by", "the-admin")
		for name, f := range pairStates {
			x.lay(f)
			for _, path := range []string{"/pair", "/pair/resolve", "/pair/partition", "/pair/size?hosts=4&vms=20"} {
				b.Go(t, x.URL+path, "main")
				if wide := browser.Value[int64](t, b, "document.documentElement.scrollWidth"); wide > width {
					t.Errorf("%s, %s, %s: it is %d wide on %d", lang, name, path, wide, width)
				}
			}
		}
		x.lay(nil)
		b.Go(t, x.URL+"/pair", "main")
		x.lay(pairStates["copying"])
		b.Waits(t, ".underway", "60")
		b.Go(t, x.URL+"/pair/size?hosts=4", "main")
		b.Fill(t, "input[name=vms]", "20")
		b.Waits(t, "#size", "15 GB")
		for _, c := range b.Complaints() {
			t.Error(c)
		}
	}
}
