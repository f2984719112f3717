package web

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/testbed/try"
)

// configured is a site whose cluster has a configuration, with a revision that alice has made.
func configured(t *testing.T) *site {
	t.Helper()
	x := newSite(t)
	text, err := os.ReadFile("../config/testdata/base.json")
	try.Must(t, err)
	x.cluster.SetConfig(string(text), "", time.Time{})
	x.cluster.SetConfig(strings.Replace(string(text), `"CPU": 4`, `"CPU": 5`, 1), "alice", time.Unix(1_800_000_000, 0), "CPU")
	return x
}

// form is what the editor would send.
type form struct{ text, base, checked, key, now string }

var (
	hidden = regexp.MustCompile(`<input type="hidden" name="(base|checked|key|now)" value="([^"]*)"`)
	area   = regexp.MustCompile(`(?s)<textarea[^>]*>\n?(.*?)</textarea>`)
)

// formOf reads the editor of a page as a browser does.
func formOf(t *testing.T, body string) (f form) {
	t.Helper()
	m := area.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("there is no editor: %s", body)
	}
	f.text = html.UnescapeString(m[1])
	for _, m := range hidden.FindAllStringSubmatch(body, -1) {
		*map[string]*string{"base": &f.base, "checked": &f.checked, "key": &f.key, "now": &f.now}[m[1]] = m[2]
	}
	return f
}

// press presses a button of the editor. A browser sends line breaks as CR LF.
func (x *site) press(c *http.Client, button string, f form) (code int, body, location string) {
	x.t.Helper()
	return x.post(c, "/configuration/edit", "do", button, "text", strings.ReplaceAll(f.text, "\n", "\r\n"), "base", f.base,
		"checked", f.checked, "key", f.key, "now", f.now)
}

// inForce is the number of the revision in force.
func (x *site) inForce() int {
	x.t.Helper()
	r, err := x.cluster.ReadConfig(x.t.Context(), 0)
	try.Must(x.t, err)
	return r.Number
}

// TestConfigurationRights: who is no admin sees nothing of the configuration, no link to it, and changes nothing.
func TestConfigurationRights(t *testing.T) {
	x := configured(t)
	for _, role := range cluster.Roles {
		c, may := x.as("the-"+string(role)), role == cluster.Admin
		if _, body, _ := x.get(c, "/"); strings.Contains(body, `href="/configuration"`) != may {
			t.Errorf("%s: the link is shown: %v", role, !may)
		}
		for _, path := range []string{"/configuration", "/configuration/edit", "/configuration/revisions/1", "/configuration/revisions/2/file",
			"/configuration/revisions/2/file?form=json"} {
			code, body, _ := x.get(c, path)
			if ok := code == http.StatusOK; ok != may || strings.Contains(body, "srv/shared") != may || !may && code != http.StatusForbidden {
				t.Errorf("%s, %s: %d: %s", role, path, code, body)
			}
		}
		if !may {
			for _, button := range []string{"check", "import"} {
				f := form{text: "{}", base: "2"}
				if code, body, _ := x.press(c, button, f); code != http.StatusForbidden || strings.Contains(body, "textarea") {
					t.Errorf("%s, %s: %d: %s", role, button, code, body)
				}
			}
		}
	}
	if n := x.inForce(); n != 2 {
		t.Errorf("revision %d", n)
	}
	code, body, _ := x.press(x.browser(), "check", form{text: "{}", base: "2"})
	if code != http.StatusForbidden || !strings.Contains(body, "your browser sends your text again") || strings.Contains(body, "textarea") {
		t.Errorf("who has not logged in: %d: %s", code, body)
	}
}

func TestConfigurationIsShown(t *testing.T) {
	x := configured(t)
	c := x.as("the-admin")
	has := func(path string, want ...string) {
		t.Helper()
		code, body, _ := x.get(c, path)
		for _, w := range want {
			if code != http.StatusOK || !strings.Contains(body, w) {
				t.Errorf("%s: %d, without %q: %s", path, code, w, body)
			}
		}
		if strings.Contains(body, "sse-connect") {
			t.Errorf("%s is replaced under the hands of who reads it", path)
		}
	}
	has("/configuration", "CPU: 5", "revision 2, in force", "imported by alice on host node1 at 2027-01-15",
		"put there by the installation", "/configuration/revisions/1", "as of ",
		`href="/help/configuration#changing-it"`)
	has("/configuration/revisions/2", "What differs from revision 1", "CPU: 4 -&gt; 5",
		`<span class="removed">-CPU: 4`, `<span class="added">+CPU: 5`)
	has("/configuration/revisions/1", "The one before is not kept.", "CPU: 4")
	has("/configuration/revisions/1?with=2", "CPU: 5 -&gt; 4", `<option value="2" selected>`)
	has("/configuration/edit?from=1", "CPU: 4", `name="base" value="2"`, "This is the text of revision 1.")
	for _, path := range []string{"/configuration/revisions/9", "/configuration/revisions/x", "/configuration/revisions/-1",
		"/configuration/revisions/1?with=x", "/configuration/edit?from=0", "/configuration/revisions/1/file?form=xml"} {
		if code, body, _ := x.get(c, path); code != http.StatusBadRequest {
			t.Errorf("%s: %d: %s", path, code, body)
		}
	}
	for form, name := range map[string]string{"yaml": "configuration-2.yaml", "json": "configuration-2.json"} {
		resp, err := c.Get(x.URL + "/configuration/revisions/2/file?form=" + form)
		try.Must(t, err)
		text := make([]byte, 1<<16)
		n, _ := resp.Body.Read(text)
		try.Must(t, resp.Body.Close())
		cl, faults, _ := config.Parse(name, text[:n], config.Options{})
		if got := resp.Header.Get("Content-Disposition"); got != "attachment; filename="+name || len(faults) > 0 || cl.CPU != 5 {
			t.Errorf("%s: %s: %v: %s", form, got, faults, text[:n])
		}
	}
}

// TestConfigurationIsImported: after a check of exactly what is imported, once.
func TestConfigurationIsImported(t *testing.T) {
	x := configured(t)
	c := x.as("the-admin")
	_, body, _ := x.get(c, "/configuration/edit")
	f := formOf(t, body)
	if code, body, _ := x.press(c, "check", f); code != http.StatusOK || !strings.Contains(body, "nothing differs from revision 2") ||
		strings.Contains(body, `value="import"`) {
		t.Errorf("%d: %s", code, body)
	}
	f.text = strings.Replace(f.text, "CPU: 5", "CPU: 6", 1)
	if code, body, _ := x.press(c, "import", f); code != http.StatusOK || x.inForce() != 2 ||
		!strings.Contains(body, "It has been checked now, and nothing was imported.") {
		t.Fatalf("without a check: %d, revision %d: %s", code, x.inForce(), body)
	}
	code, body, _ := x.press(c, "check", f)
	if code != http.StatusOK || !strings.Contains(body, "takes effect at the next start of the management VM") ||
		!strings.Contains(body, "CPU: 5 -&gt; 6") || !strings.Contains(body, `value="import"`) || x.inForce() != 2 {
		t.Fatalf("%d: %s", code, body)
	}
	checked := formOf(t, body)
	if checked.text != f.text || checked.checked == "" || checked.key == "" {
		t.Fatalf("%+v", checked)
	}
	other := checked
	other.text = strings.Replace(f.text, "CPU: 6", "CPU: 7", 1)
	if code, body, _ := x.press(c, "import", other); code != http.StatusOK || x.inForce() != 2 || !strings.Contains(body, "CPU: 5 -&gt; 7") {
		t.Fatalf("a text that was changed after the check: %d, revision %d: %s", code, x.inForce(), body)
	}
	code, body, to := x.press(c, "import", checked)
	if x.inForce() != 3 || code != http.StatusSeeOther || to != "/configuration/revisions/3" {
		t.Fatalf("%d, to %q, revision %d: %s", code, to, x.inForce(), body)
	}
	r, err := x.cluster.ReadConfig(t.Context(), 3)
	try.Must(t, err)
	if r.User != "the-admin (console, 127.0.0.1)" || !strings.Contains(string(r.Config), `"CPU": 6`) {
		t.Errorf("%+v: %s", r, r.Config)
	}
	x.cluster.SetConfig(string(r.Config), "bob", time.Unix(1_800_000_100, 0))
	f = form{text: `{"Node": []}`, base: "4"} // as JSON
	if code, body, _ := x.press(c, "check", f); code != http.StatusBadRequest || !strings.Contains(body, "line 1, column 10") {
		t.Errorf("%d: %s", code, body)
	}
}

// TestWhatAnImportDoesNotDo is told by a check, and can not be asked for.
func TestWhatAnImportDoesNotDo(t *testing.T) {
	x := configured(t)
	c := x.as("the-admin")
	_, body, _ := x.get(c, "/configuration/edit")
	f := formOf(t, body)
	f.text = strings.Replace(f.text, "/srv/shared", "/srv/other", 1)
	code, body, _ := x.press(c, "check", f)
	for _, want := range []string{"can not be changed while the cluster runs:", "ImageFolder", "it names the disk",
		"The others can be imported by themselves."} {
		if code != http.StatusOK || !strings.Contains(body, want) || strings.Contains(body, `value="import"`) {
			t.Errorf("%d, without %q: %s", code, want, body)
		}
	}
}

// TestFindings: each fault stands at its line, with what is allowed; what was typed stays.
func TestFindings(t *testing.T) {
	x := configured(t)
	c := x.as("the-admin")
	_, body, _ := x.get(c, "/configuration/edit")
	f := formOf(t, body)
	good := f.text
	var long strings.Builder
	for i := range 40 {
		fmt.Fprintf(&long, "No%d: 1\n", i)
	}
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"two faults": {strings.Replace(strings.Replace(good, "CPU: 5", "CPU: 0", 1), "02:00:5e:10:00:01", "02:00", 1),
			[]string{"The configuration has 2 faults.", `data-line="6"`, "<b class=\"mono\">CPU</b>", "<code>&#34;0&#34;</code>", "want 4 to 1024",
				`<span class="here"><i>6</i>CPU: 0`, "Network[0].MacAddress"}},
		"too small, and another fault": {strings.Replace(strings.Replace(good, "CPU: 5", "CPU: 2", 1), "02:00:5e:10:00:01", "02:00", 1),
			[]string{"The configuration has 2 faults.", "want 4 to 1024", "Network[0].MacAddress"}},
		"an unknown field": {good + "Cpus: 3\n", []string{"unknown field", "Cpus", "The configuration has a fault."}},
		"no YAML":          {good + "\tx: [", []string{"The configuration has a fault.", "data-line="}},
		"many":             {good + long.String(), []string{"The configuration has 40 faults.", "No39"}},
		"nothing":          {"", []string{"The configuration has "}},
		"binary":           {good + "\x00\xff", []string{"The configuration has a fault."}},
	} {
		t.Run(name, func(t *testing.T) {
			x.t = t
			f.text = tc.text
			code, body, _ := x.press(c, "check", f)
			for _, w := range tc.want {
				if code != http.StatusBadRequest || !strings.Contains(body, w) {
					t.Errorf("%d, without %q: %s", code, w, body)
				}
			}
			if got := formOf(t, body); name != "binary" && got.text != tc.text || got.checked != "" || strings.Contains(body, `value="import"`) {
				t.Errorf("%q has become %q", tc.text, got.text)
			}
		})
	}
	x.t = t
	f.text = good + "# " + strings.Repeat("\x01", config.MaxImport)
	if code, body, _ := x.press(c, "check", f); code != http.StatusBadRequest || !strings.Contains(body, "The configuration has a fault.") {
		t.Errorf("as long as it may be: %d: %.3000s", code, body)
	}
	f.text = strings.Repeat("\x01", 2*config.MaxImport)
	if code, body, _ := x.press(c, "check", f); code != http.StatusBadRequest || !strings.Contains(body, "text: want at most 262144 bytes") {
		t.Errorf("too long: %d: %.3000s", code, body)
	}
	if x.inForce() != 2 {
		t.Error("it was imported")
	}
}

// TestTwoImport: who comes second is refused, is told what is new, and keeps his text.
func TestTwoImport(t *testing.T) {
	x := configured(t)
	alice, bob := x.as("the-admin"), x.as("the-admin")
	var forms [2]form
	for i, c := range []*http.Client{alice, bob} {
		_, body, _ := x.get(c, "/configuration/edit")
		f := formOf(t, body)
		f.text = strings.Replace(f.text, []string{"CPU: 5", "MemorySizeInGB: 8"}[i], []string{"CPU: 6", "MemorySizeInGB: 9"}[i], 1)
		_, body, _ = x.press(c, "check", f)
		forms[i] = formOf(t, body)
	}
	if code, body, _ := x.press(alice, "import", forms[0]); code != http.StatusSeeOther || x.inForce() != 3 {
		t.Fatalf("%d: %s", code, body)
	}
	for _, button := range []string{"import", "check"} {
		code, body, _ := x.press(bob, button, forms[1])
		for _, want := range []string{"Nothing was imported: the configuration has been changed by the-admin (console, 127.0.0.1) since you began.",
			"CPU: 5 -&gt; 6", "Check on revision 3", "MemorySizeInGB: 9"} {
			if code != http.StatusConflict || !strings.Contains(body, want) || strings.Contains(body, `value="import"`) {
				t.Errorf("%s: %d, without %q: %s", button, code, want, body)
			}
		}
		forms[1].now = formOf(t, body).now
	}
	if x.inForce() != 3 {
		t.Error("the second was imported")
	}
	forms[1].text = strings.Replace(forms[1].text, "CPU: 5", "CPU: 6", 1)
	code, body, _ := x.press(bob, "rebase", forms[1])
	if again := formOf(t, body); code != http.StatusOK || again.base != "3" || again.checked == "" || strings.Contains(body, "CPU: 6 -&gt;") {
		t.Fatalf("%d: %s", code, body)
	}
	if code, body, _ := x.press(bob, "import", formOf(t, body)); code != http.StatusSeeOther || x.inForce() != 4 {
		t.Errorf("%d: %s", code, body)
	}
}

// TestConfigurationIsNoMarkup: values of the configuration, and what somebody types, stay texts.
func TestConfigurationIsNoMarkup(t *testing.T) {
	x := configured(t)
	const evil = `</textarea></pre>"><script>alert(1)</script><img src=x onerror=alert(2)>`
	now, err := x.cluster.ReadConfig(t.Context(), 0)
	try.Must(t, err)
	cl, err := now.Cluster()
	try.Must(t, err)
	cl.Labels = map[string]string{"a": evil}
	x.cluster.SetConfig(string(cl.JSON()), evil, time.Unix(1_800_000_200, 0), evil)
	c := x.as("the-admin")
	bad := func(what, body string) {
		t.Helper()
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") || !strings.Contains(body, "&lt;script&gt;alert(1)") {
			t.Errorf("%s: %s", what, body)
		}
	}
	for _, path := range []string{"/configuration", "/configuration/revisions/3", "/configuration/edit"} {
		_, body, _ := x.get(c, path)
		bad(path, body)
	}
	_, body, _ := x.get(c, "/configuration/edit")
	f := formOf(t, body)
	if !strings.Contains(f.text, evil) {
		t.Errorf("the text is another one: %s", f.text)
	}
	f.text = strings.Replace(f.text, "CPU: 5", "CPU: '"+strings.ReplaceAll(evil, "'", "''")+"'", 1)
	code, body, _ := x.press(c, "check", f)
	if code != http.StatusBadRequest {
		t.Error(code)
	}
	bad("a fault", body)
	f.base, f.key, f.checked, f.now = evil, evil, evil, evil
	_, body, _ = x.press(c, "check", f)
	bad("a field that is not shown", body)
	if code, body, _ := x.get(c, "/configuration/revisions/"+url.PathEscape("<script>alert(1)")); code != http.StatusBadRequest {
		t.Errorf("%d: %s", code, body)
	} else {
		bad("a number", body)
	}
}
