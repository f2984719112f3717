package e2e

import (
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"holdfast/internal/install"
	"holdfast/testbed/browser"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// firstRun is "holdfast console" on a host, as a browser of this machine has it.
type firstRun struct {
	cmd *exec.Cmd
	at  string // address on this machine
	*browser.Browser
}

// firstRun starts it on h1, and lets a browser in.
func (b *bareRig) firstRun(t *testing.T, args ...string) *firstRun {
	t.Helper()
	need.Real(t, need.Programs("chromium", "chromium"))
	cmd, err := b.lab.Command(t.Context(), "h1", append([]string{b.exe, "console", "--known-hosts", "/srv/host/known_hosts",
		"-o", "json"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &firstRun{cmd: cmd}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	var said struct {
		Addresses []string
		Code      string
	}
	if err := json.NewDecoder(out).Decode(&said); err != nil || len(said.Addresses) == 0 {
		t.Fatalf("it said %+v, %v", said, err)
	}
	f.at = b.here(t, "127.0.0.1:8444")
	f.Browser = browser.Open(t, "en", f.at)
	f.Go(t, f.at+"/login", "input[name=code]")
	f.Fill(t, "input[name=code]", "not it")
	f.Click(t, ".btn.main")
	f.Waits(t, "main .note.bad", "This is not the code")
	f.Fill(t, "input[name=code]", said.Code)
	f.Click(t, ".btn.main")
	f.Waits(t, "main", "This host is of no cluster yet")
	return f
}

// here is where this machine reaches an address of h1 as "ssh -L" does: the host has a firewall.
func (b *bareRig) here(t *testing.T, addr string) string {
	t.Helper()
	const port = "22"
	sshd := net.JoinHostPort(b.lab.Addr("h1").String(), port)
	conn, err := b.lab.Dial(t.Context(), "tcp", sshd)
	try.Must(t, err)
	c, chans, reqs, err := ssh.NewClientConn(conn, sshd, &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.Password(b.password)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	try.Must(t, err)
	tunnel := ssh.NewClient(c, chans, reqs)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		_ = tunnel.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				to, err := tunnel.Dial("tcp", addr)
				if err != nil {
					return // the browser sees it
				}
				defer to.Close()
				wg.Go(func() {
					_, _ = io.Copy(to, c)
					_ = to.Close()
				})
				_, _ = io.Copy(c, to)
			})
		}
	})
	return "https://" + ln.Addr().String()
}

// next sends the form of a page.
func (f *firstRun) next(t *testing.T) {
	t.Helper()
	f.Click(t, "form[method=post] .btn.main")
}

// keys sees that the hosts' keys are asked about, and takes them.
func (f *firstRun) keys(t *testing.T, want ...string) {
	t.Helper()
	f.Waits(t, "main", "These keys of hosts are not known yet")
	text := browser.Value[string](t, f.Browser, "document.querySelector('main').innerText")
	for _, k := range want {
		if !strings.Contains(text, k) {
			t.Errorf("the key %s is not in %s", k, text)
		}
	}
	f.next(t)
}

// stands waits until it stands, or has failed.
func (f *firstRun) stands(t *testing.T) {
	t.Helper()
	var text string
	defer func() {
		if t.Failed() {
			t.Logf("the page has %s", text)
		}
	}()
	try.Until(t, "it to stand", func() bool {
		now, err := browser.Try[string](f.Browser,
			"(document.querySelector('.head .tag.bad') ? 'FAILED ' : '') + document.querySelector('main').textContent")
		if err != nil {
			return false // between two pages
		}
		if text = now; strings.HasPrefix(text, "FAILED ") {
			t.Fatal("it has failed")
		}
		return strings.Contains(text, "It stands")
	})
}

// ends ends the first run by its page.
func (f *firstRun) ends(t *testing.T) {
	t.Helper()
	f.Click(t, "form[action='/work/finish'] button")
	if err := f.cmd.Wait(); err != nil {
		t.Errorf("the first run ended with %v", err)
	}
}

// text is a value as a form takes it.
func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestFirstRun takes three hosts to a management VM that runs, in a browser, after a wrong password and a page that is opened
// anew in the middle; and back.
func TestFirstRun(t *testing.T) {
	need.Drill(t, "console: three hosts become a cluster in the browser, and go back")
	b := newBareRig(t, 3)
	args := b.files(t, "h1", b.lab.BareCluster())
	unchanged := b.unchanged(t)
	f := b.firstRun(t, "--allow-undersized")
	fill := func(password string) {
		f.Go(t, f.at+"/cluster?text", "textarea[name=text]")
		f.Fill(t, "textarea[name=text]", text(t, b.lab.BareCluster()))
		f.Click(t, "details.more summary")
		f.Fill(t, "textarea[name=settings]", text(t, lab.BareSettings()))
		f.Fill(t, "input[name=password]", password)
		f.next(t)
	}
	fill("wrong")
	f.keys(t, b.keys(t)...)
	f.Waits(t, "main", "denies the login")
	b.sh(t, "h1", "rm /srv/host/known_hosts")
	unchanged("what was refused")
	fill(b.password)
	f.keys(t, b.keys(t)...)
	f.Waits(t, "main", "What will be done")
	f.Go(t, f.at+"/", "main")
	f.Waits(t, "main", "Something was begun here")
	f.Go(t, f.at+"/work", "main")
	f.next(t)
	f.stands(t)
	f.Waits(t, "main", "The management VM runs on h")
	b.logsIn(t, &install.Console{
		Addresses: browser.Value[[]string](t, f.Browser, "[...document.querySelectorAll('main ul a')].map(a => a.href.replace(/\\/$/, ''))"),
		User:      install.FirstAdmin, Password: browser.Value[string](t, f.Browser, "document.querySelector('.secret').innerText"),
	})
	f.ends(t)
	b.exe = install.Command
	b.runs(t, 3)
	if out, err := b.lab.Exec(t.Context(), "h1", b.exe, "console"); err == nil || !strings.Contains(err.Error()+out, "of a cluster already") {
		t.Errorf("a first run on a host of a cluster: %v, %s", err, out)
	}
	b.exe = b.lab.Exe()
	b.uninstall(t, "h1", args...)
	unchanged("an installation that was taken back")
}

// TestFirstRunOfAPair takes two hosts with databases, and a third one that votes, to a pair in a browser: what is wrong is
// refused at its field, the word is wanted, and the pages go on when they are opened anew in the midst of the copy.
func TestFirstRunOfAPair(t *testing.T) {
	need.Drill(t, "console: two hosts with databases become a pair in the browser, and go back")
	b := newPairNodes(t, 3)
	files := b.files(t, "h1", b.pairCluster())
	cl := b.pairCluster()
	f := b.firstRun(t)
	fill := func(vip string) {
		f.Go(t, f.at+"/pair", "input[name=vip]")
		f.Fill(t, "input[name=vip]", vip)
		f.Fill(t, "input[name=peer]", b.lab.Addr("h2").String())
		f.Click(t, "input[name=arbiter][value=quorum]")
		f.Fill(t, "input[name=arbiter-quorum]", b.lab.Addr("h3").String())
		f.Fill(t, "input[name=hosts]", "4")
		f.Fill(t, "input[name=vms]", "20")
		f.Click(t, "details.more summary")
		f.Fill(t, "textarea[name=group]", text(t, map[string]any{"Group": cl.Pair.Group[:1], "Database": map[string]any{
			"OptionFile": cl.Pair.Database.OptionFile, "Datadir": cl.Pair.Database.Datadir}}))
		f.Fill(t, "textarea[name=settings]", text(t, lab.BareSettings()))
		f.Fill(t, "textarea[name=fencing]", text(t, cl.Fencing))
		f.Fill(t, "input[name=password]", b.password)
		f.next(t)
	}
	fill("somewhere")
	f.Waits(t, "label:has(input[name=vip])", "want ADDRESS/LENGTH")
	if shown := browser.Value[string](t, f.Browser, "document.documentElement.outerHTML"); strings.Contains(shown, b.password) {
		t.Error("the page shows the password")
	}
	fill(b.lab.FloatingAddr().String() + "/24")
	f.keys(t, b.keys(t)[1:]...) // of the other two
	f.Waits(t, "main", "What will be done")
	f.Waits(t, "main", "The data of h2 are moved aside there")
	f.Fill(t, "input[name=word]", "CONFIRM")
	f.next(t)
	f.Waits(t, "main ol", "the copy of all data")
	f.Go(t, f.at+"/work", "main")
	f.stands(t)
	f.Waits(t, "main", "the other node could take them over")
	f.ends(t)
	b.exe = install.Command
	b.pairHealthy(t)
	b.exe = b.lab.Exe()
	b.uninstall(t, "h1", files...)
	for _, h := range b.lab.Hosts()[:2] {
		if left := b.pairLeft(t, h); left != "" {
			t.Errorf("%s: left are %s", h, left)
		}
	}
}
