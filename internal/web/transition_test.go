package web

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"holdfast/internal/job"
	"holdfast/internal/transition"
	"holdfast/testbed/try"
)

// site-a has a platform, a question and a command of its own.
const siteA = `format: 1
name: site-a
host: node1 # it does the work
platform: {file: /var/lib/a.json, source: /root/old-openrc, target: /root/new-openrc}
databases:
  profile: openstack-liberty-zed
  ids: /etc/holdfast/ids
  source: /?option-file=/etc/holdfast/old.cnf
  target: /?option-file=/etc/holdfast/new.cnf
  sourceDB: {nova: liberty_nova}
  skip: [neutron.agents, nova.services]
  follow: true
stages:
  collect:
    before:
      - {name: packages, host: node2, run: [/usr/local/bin/keep, "a b"], timeout: 30s}
  cleanup: {confirm: "look at <script>alert(1)</script>"}
`

// TestATransitionFromTheBrowser: a file is written, its faults are shown at their lines, every step is shown, it begins only as
// it was checked, and its page shows how it goes.
func TestATransitionFromTheBrowser(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	if _, body, _ := x.get(c, transitionPath); !strings.Contains(text(t, body), "No transition has been run yet.") {
		t.Error(text(t, body))
	}
	code, body, _ := x.post(c, describePath, "do", "check", "text", strings.Replace(siteA, "host: node2", "host: node9", 1)+"wrong: 1\n")
	for _, want := range []string{"The file has 2 faults. Nothing was begun.",
		"line 16, column 32", "stages.collect.before[0].host", `"node9"`,
		"no host of that name reports", "line 18"} {
		if code != http.StatusBadRequest || !strings.Contains(text(t, body), want) {
			t.Errorf("without %q: %d: %s", want, code, text(t, body))
		}
	}
	code, body, _ = x.post(c, describePath, "do", "begin", "text", siteA, "checked", "")
	for _, want := range []string{"The text is not the one that was checked.", "What a run would do: 11 steps",
		"/usr/local/bin/keep 'a b'", "waits for a person", "look at <script>alert(1)</script>", "node2", "Begin the transition"} {
		if code != http.StatusOK || !strings.Contains(text(t, body), want) {
			t.Errorf("without %q: %d: %s", want, code, text(t, body))
		}
	}
	if strings.Contains(body, "<script>alert") {
		t.Error("a text of the file is a part of the page")
	}
	checked := regexp.MustCompile(`name="checked" value="([0-9a-f]+)"`).FindStringSubmatch(body)
	if checked == nil {
		t.Fatal(body)
	}
	fields := []string{"do", "begin", "text", siteA, "checked", checked[1]}
	if code, _, to := x.post(x.as("the-operator"), describePath, fields...); code != http.StatusForbidden {
		t.Errorf("an operator: %d, to %q", code, to)
	}
	if code, _, to := x.post(c, describePath, fields...); code != http.StatusSeeOther || to != transitionPath {
		t.Fatalf("%d, to %q", code, to)
	}
	_, body, _ = x.get(c, transitionPath)
	for _, want := range []string{"Transition of site-a: 0 of 11 steps are done.",
		"What the old platform has", "packages", "Cut-over", "Pause"} {
		if !strings.Contains(text(t, body), want) {
			t.Errorf("without %q: %s", want, text(t, body))
		}
	}
	_, body, _ = x.get(x.as("the-viewer"), transitionPath)
	if strings.Contains(text(t, body), "Pause") || !strings.Contains(text(t, body), "site-a") {
		t.Errorf("for a viewer: %s", text(t, body))
	}
}

// TestTheFormOfATransition: a text becomes a form and the same file again, with the commands that the form does not have; what
// was filled in is put into it.
func TestTheFormOfATransition(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	code, body, _ := x.post(c, describePath, "do", "form", "text", siteA)
	if code != http.StatusOK || !strings.Contains(text(t, body), "The stages have 1 commands of their own") ||
		!strings.Contains(text(t, body), "remarks in it are lost") {
		t.Fatalf("%d: %s", code, text(t, body))
	}
	fields := filledIn(t, body)
	if code, body, _ = x.post(c, formPath, fields...); code != http.StatusOK {
		t.Fatalf("%d: %s", code, text(t, body))
	}
	want, faults := transition.Parse([]byte(siteA))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	wrote, err := want.Write()
	try.Must(t, err)
	if got := editorText(t, body); got != string(wrote) {
		t.Errorf("got\n%s\nwant\n%s", got, wrote)
	}
	if again, faults := transition.Parse(wrote); len(faults) > 0 || len(transition.Build(again).Steps) != len(transition.Build(want).Steps) {
		t.Errorf("what was written: %v", faults)
	}
	for _, bad := range [][2]string{{"network.jobs", "many"}, {"databases.sourceDB", "nova"}} {
		with := append([]string{"section.network", "yes"}, fields...)
		for i := 0; i+1 < len(with); i += 2 {
			if with[i] == bad[0] {
				with[i+1] = bad[1]
			}
		}
		if code, body, _ := x.post(c, formPath, with...); code != http.StatusBadRequest || !strings.Contains(text(t, body), bad[0]) {
			t.Errorf("%v: %d: %s", bad, code, text(t, body))
		}
	}
	if code, body, _ := x.post(c, describePath, "do", "form", "text", "format: ["); code != http.StatusBadRequest {
		t.Errorf("of what is no YAML: %d: %s", code, text(t, body))
	}
}

// filledIn are the fields of a form as it is shown.
func filledIn(t *testing.T, page string) (out []string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	try.Must(t, err)
	for n := range doc.Descendants() {
		a := map[string]string{}
		for _, x := range n.Attr {
			a[x.Key] = x.Val
		}
		_, checked := a["checked"]
		switch {
		case a["name"] == "" || n.Data != "input" && n.Data != "textarea" || a["type"] == "checkbox" && !checked:
		case n.Data == "textarea" && n.FirstChild != nil:
			out = append(out, a["name"], n.FirstChild.Data)
		default:
			out = append(out, a["name"], a["value"])
		}
	}
	return out
}

// editorText is what stands in the editor.
func editorText(t *testing.T, page string) string {
	t.Helper()
	fields := filledIn(t, page)
	for i := 0; i < len(fields); i += 2 {
		if fields[i] == "text" {
			return strings.TrimPrefix(fields[i+1], "\n")
		}
	}
	t.Fatal(page)
	return ""
}

// TestPartsOf: what is wrong comes first, then what runs; of many the rest is counted.
func TestPartsOf(t *testing.T) {
	all := []job.Part{{Name: "a", State: "done"}, {Name: "b", State: "running", Done: 50, Total: 200}, {Name: "c", State: "waiting"},
		{Name: "d", State: "done", Differences: 1}}
	got, more := partsOf(job.Output{Parts: all})
	names := ""
	for _, p := range got {
		names += p.Name
	}
	if names != "dbca" || more != 0 || partDone(all[1]) != 25 || partDone(all[0]) != 100 || partDone(all[2]) != -1 {
		t.Errorf("%s, %d more", names, more)
	}
	if got, more := partsOf(job.Output{Parts: make([]job.Part, partsShown+3), More: 4}); len(got) != partsShown || more != 7 {
		t.Errorf("%d, %d more", len(got), more)
	}
}
