package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/job"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/browser"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// keepSeen has a page keep what its elements have said one after the other, by the names of these, as long as it is not loaded
// anew: that is a list of [name, text] for each change.
const keepSeen = `(() => {
	const last = {};
	window.seen = [];
	const look = () => {
		const now = {};
		for (const c of document.querySelectorAll("table.steps tbody td .unseen")) {
			now[c.closest("tr").children[0].innerText + "/" + c.closest("td").cellIndex] = c.innerText.split(/[,:]/)[0];
		}
		for (const row of document.querySelectorAll("table.stages tbody tr:has(th[scope=row])")) {
			const stage = row.parentElement.querySelector("th[scope=rowgroup]").firstChild.textContent.trim();
			now[stage + "/" + row.children[0].innerText] = row.children[2].innerText;
		}
		now.said = document.querySelector("pre.code")?.innerText;
		for (const name in now) if (now[name] !== last[name]) seen.push([name, last[name] = now[name]]);
	};
	new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
	return !look();
})()`

// TestConsoleDuringAnUpgrade leaves pages open while a transition upgrades three hosts one after the other: they tell how it goes
// without being loaded anew. In the middle the agent that serves them is killed, and not reached until they have said so.
func TestConsoleDuringAnUpgrade(t *testing.T) {
	need.Drill(t, "console: pages left open tell how a transition and its rolling upgrade go, also after the agent that serves them died")
	need.Real(t, need.Programs("chromium", "chromium"))
	onLab(t, few, consoleDuringAnUpgrade)
}

func consoleDuringAnUpgrade(t testing.TB, r *rig) {
	r.spent(t, true)
	r.installPlatform(t)
	hosts := r.lab.Hosts()
	// The host of the management VM has its turn last. Another one's agent may die, see killCoordinators.
	console := hosts[1]
	if string(r.healthy(t).Owner.Host) == console {
		console = hosts[2]
	}
	var away atomic.Bool
	at := r.relayedWhile(t, console, func() bool { return !away.Load() })
	key := newKey(t)
	bundle := r.bundleOn(t, hosts[0], platformBundle(t, key, false), key)
	x := r.carry(t, hosts[0], bundle[1], slices.Concat([]string{"--version", platformOld}, bundle[2:])...)
	carried := r.watcher(t, console, at)
	carried.Go(t, at+"/transition", "main h1")
	upgraded, step := carried.Tab(t), carried.Tab(t)
	upgraded.Go(t, at+"/upgrade", "main h1")
	step.Go(t, at+"/jobs/"+x.id+"/step?step=hosts/upgrade", "main h1")
	pages := map[string]*browser.Browser{"transition": carried, "upgrade": upgraded, "step": step}
	for _, b := range pages {
		b.Look(t, 1280, "light")
		browser.Value[bool](t, b, keepSeen)
	}
	x.cutOver(t)
	upgraded.Waits(t, "h1", "Upgrade to "+platformNew+": 1 of 3 hosts are done.")
	complain(t, pages)
	away.Store(true)
	try.Must(t, r.lab.Kill(t.Context(), console, lab.AgentDaemon))
	for _, b := range pages {
		b.Waits(t, "#life", "what is shown is old")
		b.Waits(t, "#elsewhere", hosts[0])
	}
	away.Store(false)
	for name, b := range pages {
		b.Waits(t, "#life", "live")
		try.Must(t, os.WriteFile(filepath.Join(t.ArtifactDir(), name+".png"), b.Picture(t), 0o644))
	}
	complain(t, pages, "net::ERR_", "EventSource")

	upgraded.Waits(t, "h1", "The upgrade to "+platformNew+" is done, and not committed yet.")
	carried.Waits(t, "main", "holdfast jobs resume "+x.id)
	step.Waits(t, ".head .tag", "done")
	x.ends(t)
	carried.Waits(t, "h1", "The transition of lab is done.")
	complain(t, pages)
	r.toldTheRun(t, upgraded)
	x.toldSteps(t, carried)
	x.toldLog(t, step)
}

// complain wants pages to have complained of nothing but what has an expected word.
func complain(t testing.TB, pages map[string]*browser.Browser, expected ...string) {
	t.Helper()
	for name, b := range pages {
		for _, c := range b.Complaints() {
			if !slices.ContainsFunc(expected, func(word string) bool { return strings.Contains(c, word) }) {
				t.Errorf("%s: the browser says: %s", name, c)
			}
		}
	}
}

// texts are those of the page's elements.
func texts(t testing.TB, b *browser.Browser, selector string) []string {
	t.Helper()
	return browser.Value[[]string](t, b, fmt.Sprintf("[...document.querySelectorAll(%q)].map((x) => x.innerText)", selector))
}

// seenOn are the texts that an element of a page has had, by its name. It fails where the page was loaded anew.
func seenOn(t testing.TB, b *browser.Browser) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, s := range browser.Value[[][2]string](t, b, "seen") {
		out[s[0]] = append(out[s[0]], s[1])
	}
	return out
}

// went says whether something was first waiting, then running, then done.
func went(states []string) bool {
	want := []string{"pending", "running", "done"}
	for _, s := range states {
		if len(want) > 0 && strings.HasPrefix(s, want[0]) {
			want = want[1:]
		}
	}
	return len(want) == 0
}

// toldTheRun wants the page of the upgrade to have shown steps of each host one after the other, and to say what the command says.
func (r *rig) toldTheRun(t testing.TB, b *browser.Browser) {
	t.Helper()
	var u request.Standing
	try.Must(t, json.Unmarshal([]byte(r.command(t, r.lab.Hosts()[0], "upgrade", "status", "-o", "json")), &u))
	seen, main := seenOn(t, b), texts(t, b, "main")[0]
	for i, h := range u.Hosts {
		moved := 0
		for name, states := range seen {
			if strings.HasPrefix(name, string(h.Name)+"/") && went(states) {
				moved++
			}
		}
		cells := texts(t, b, fmt.Sprintf("table.steps tbody tr:nth-child(%d) > :is(:first-child, :nth-last-child(-n+3))", i+1))
		if want := []string{string(h.Name), fmt.Sprint(h.Wave), string(h.State), "-"}; moved == 0 || !slices.Equal(cells, want) {
			t.Errorf("%+v: %d cells moved: %v, at the end %q", h, moved, seen, cells)
		}
	}
	if want := fmt.Sprintf("%d of %d steps", u.Steps.Over, u.Steps.Total); u.Job.Result != "done" || u.Steps.Over != u.Steps.Total ||
		!strings.Contains(main, want) || !strings.Contains(main, u.Job.ID) {
		t.Errorf("the upgrade is %+v, job %+v: the page says %s", u, u.Job, main)
	}
}

// toldSteps wants the page of the transition to have shown its steps one after the other, and to say what the command says.
func (c *carried) toldSteps(t testing.TB, b *browser.Browser) {
	t.Helper()
	var j job.View
	try.Must(t, json.Unmarshal([]byte(c.command(t, c.lab.Hosts()[0], "jobs", "show", c.id, "-o", "json")), &j))
	var want []string
	for _, s := range j.Steps {
		want = append(want, s.ID[strings.Index(s.ID, "/")+1:], s.State)
	}
	if got := texts(t, b, "table.stages tbody tr > :is([scope=row], :nth-child(3))"); !slices.Equal(got, want) || j.Result != "done" {
		t.Errorf("the page has %q, the command %q, %s", got, want, j.Result)
	}
	if seen := seenOn(t, b)["Hosts/upgrade"]; !went(seen) {
		t.Errorf("the page has shown that the upgrade was %q", seen)
	}
}

// toldLog wants the page of the step to have shown how its log grew, to its end.
func (c *carried) toldLog(t testing.TB, b *browser.Browser) {
	t.Helper()
	said := seenOn(t, b)["said"]
	o, err := ask(c.rig, c.from, func(a *api.Client) (job.Output, error) { return a.StepOutput(t.Context(), c.id, "hosts/upgrade") })
	try.Must(t, err)
	for i, s := range said {
		if i > 0 && !strings.HasPrefix(s, said[i-1]) {
			t.Errorf("%q came after %q", s, said[i-1])
		}
	}
	if !browser.Value[bool](t, b, `(x => x.scrollHeight - x.clientHeight - x.scrollTop < 3)(document.querySelector("pre.code"))`) {
		t.Error("the page does not show the end of the log")
	}
	if n := len(said); n < 3 || strings.TrimSpace(said[n-1]) != strings.TrimSpace(o.Log) {
		t.Errorf("the log is %q, the page has shown %q", o.Log, said)
	}
}
