package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"holdfast/testbed/browser"
	"holdfast/testbed/demo"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// standing starts the demo of hosts made of processes, which stands until the test ends, and returns how to come in. A fault comes
// some seconds later.
func standing(t *testing.T, fault string) demo.Login {
	t.Helper()
	cmd := exec.CommandContext(try.Context(t), theLab, "demo", "--fault", fault, "--hold", "1h", "-o", "json")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	out, err := cmd.StdoutPipe()
	try.Must(t, err)
	var said strings.Builder
	cmd.Stderr = &said
	try.Must(t, cmd.Start())
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	t.Cleanup(func() {
		if serr := cmd.Process.Signal(syscall.SIGINT); serr != nil {
			t.Error(serr)
		}
		if _, rerr := io.Copy(io.Discard, lines); rerr != nil {
			t.Error(rerr)
		}
		if werr := cmd.Wait(); werr != nil && !strings.Contains(said.String(), "interrupted; all of the demo is removed") {
			t.Errorf("the demo: %v: %s", werr, said.String())
		}
	})
	var l demo.Login
	if err == nil {
		err = json.Unmarshal([]byte(first), &l)
	}
	if err != nil || l.Console == "" || l.User == "" || l.Password == "" || l.Token == "" {
		t.Fatalf("%q: %v: %s", first, err, said.String())
	}
	return l
}

// TestConsole: somebody logs in, looks, empties a host, and an open page shows at once what somebody else does.
func TestConsole(t *testing.T) {
	need.Real(t, built, need.Programs("chromium", "chromium"))
	l := standing(t, "none")
	b := browser.Open(t, "en", l.Console)
	b.Go(t, l.Console, "input[name=password]")
	b.Fill(t, "input[name=name]", l.User)
	b.Fill(t, "input[name=password]", "it is not this one")
	b.Click(t, ".btn.main")
	b.Waits(t, "[role=alert]", "wrong name or password")
	b.Fill(t, "input[name=password]", l.Password)
	b.Click(t, ".btn.main")
	b.Waits(t, "h1", "The management VM runs on ")
	b.Waits(t, "main", "possible within ")
	b.Waits(t, "#life", "live")
	served := strings.TrimPrefix(browser.Value[string](t, b, `document.querySelector(".by").innerText.match(/served by \S+/)[0]`), "served by ")
	host := map[string]string{"h1": "h2", "h2": "h3", "h3": "h1"}[served] // another one than serves the page

	other := browser.Open(t, "zh-CN", l.Console)
	other.Go(t, l.Console+"/hosts", "input[name=password]")
	other.Fill(t, "input[name=name]", l.User)
	other.Fill(t, "input[name=password]", l.Password)
	other.Click(t, ".btn.main")
	form := `table form[action="/hosts/` + host + `/maintenance"]`
	other.Waits(t, form, "")
	other.Click(t, form+" button")
	other.Waits(t, "main", host+"：处于维护")

	b.Waits(t, "main", host+": in maintenance")
	if got := browser.Value[string](t, b, "location.pathname"); got != "/" {
		t.Errorf("the first page is %s now", got)
	}
	other.Click(t, form+" button")
	try.Until(t, "the note is gone", func() bool {
		return !strings.Contains(browser.Value[string](t, b, `document.querySelector("main").innerText`), host+": in maintenance")
	})
	b.Waits(t, "main", "user "+l.User+" (console, ")
	for _, x := range []*browser.Browser{b, other} {
		for _, c := range x.Complaints() {
			if !strings.Contains(c, "403") { // of the wrong password
				t.Error(c)
			}
		}
	}
}
