package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"holdfast/internal/cluster"
	"holdfast/testbed/browser"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// shown is a guest without a disk, whose firmware asks for a key at its screen for a long time.
const shownName, shownUUID = "shown", "7e57ab1e-0000-4000-8000-000000000001"

const shownXML = `<domain type='qemu'>
  <name>` + shownName + `</name><uuid>` + shownUUID + `</uuid>
  <memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type><boot dev='hd'/><bootmenu enable='yes' timeout='65000'/></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>
  <devices>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>
    <video><model type='vga'/></video>
    <memballoon model='none'/>
  </devices>
</domain>
`

const virsh = "virsh -q -c qemu:///system "

// TestScreensInABrowser: an operator sees the screen of a guest on a host that runs guests only, and types there. The page goes on by
// itself when an agent between was killed, and when the guest has moved to another host.
func TestScreensInABrowser(t *testing.T) {
	need.Drill(t, "console: the screen of a guest in Chromium is shown and typed on, and goes on after agents died and the guest moved")
	need.Real(t, need.Programs("chromium", "chromium"))
	onLab(t, limited, screensInABrowser)
}

func screensInABrowser(t testing.TB, r *rig) {
	st := r.healthy(t)
	hosts := r.lab.Hosts()
	home, console, away := hosts[3], hosts[0], hosts[1] // home runs guests only
	try.Must(t, os.WriteFile(r.lab.HostPath(home, "shown.xml"), []byte(shownXML), 0o644))
	must := func(h, script string) {
		t.Helper()
		if out, err := r.script(t.Context(), h, script); err != nil {
			t.Fatalf("%s: %s: %v: %s", h, script, err, out)
		}
	}
	must(home, virsh+"create "+lab.HostDir+"/shown.xml")
	t.Cleanup(func() {
		for _, h := range []string{home, away} {
			if out, err := r.script(try.Context(t), h, virsh+"destroy "+shownName+" || true"); err != nil {
				t.Errorf("%s: %v: %s", h, err, out)
			}
		}
	})
	at := r.relayed(t, console)
	b := r.watcher(t, console, at)
	r.until(t, "the guest to be listed", func(context.Context) (string, bool) {
		b.Go(t, at+"/guests?q="+shownName, "main")
		n := browser.Value[int](t, b, `document.querySelectorAll('a[href$="/screen"]').length`)
		return fmt.Sprint(n, " screens"), n == 1
	})
	b.Click(t, `a[href$="/screen"]`)
	b.Waits(t, "#screen-state", "by host "+home)
	asks := r.written(t, b)
	b.Do(t, "press a key", chromedp.KeyEvent("\x1b"))
	r.until(t, "the firmware to show its menu", func(context.Context) (string, bool) {
		n := lit(t, b)
		return fmt.Sprint(n, " of ", asks, " pixels"), n > asks+aLine
	})

	again := func(what, host string) {
		t.Helper()
		b.Waits(t, "#screen-state", "not connected since")
		why := browser.Value[string](t, b, `document.getElementById("screen-why").textContent`)
		t.Logf("%s: %s", what, why)
		b.Waits(t, "#screen-state", "by host "+host)
		r.until(t, "the screen to be drawn", func(context.Context) (string, bool) { return "", lit(t, b) > aLine })
	}
	try.Must(t, r.lab.Kill(t.Context(), console, lab.AgentDaemon))
	again("the agent of the console was killed", home)
	try.Must(t, r.lab.Kill(t.Context(), home, lab.AgentDaemon))
	again("the agent of the guest's host was killed", home)
	must(home, virsh+"migrate --live --p2p "+shownName+" 'qemu+tcp://"+r.lab.Addr(away).String()+"/system'")
	again("the guest has moved", away)

	b.Do(t, "press a key", chromedp.KeyEvent("9"))
	b.Go(t, at+"/events", "main")
	r.until(t, "the events to tell it", func(context.Context) (string, bool) {
		text := browser.Value[string](t, b, `document.querySelector("main").innerText`)
		opened := "the screen of " + shownName + " (" + shownUUID + ") was opened"
		return text, strings.Count(text, opened) >= 4 && strings.Contains(text, ") was closed after ") &&
			strings.Contains(text, "watcher (console, ")
	})
	now := r.healthy(t)
	if now.Owner.Epoch != st.Owner.Epoch || now.Owner.State != cluster.Running {
		t.Errorf("the management VM was %+v, is %+v", st.Owner, now.Owner)
	}
}

// watcher is an operator of that name, until the test ends, who has logged in to the console of a host at an address.
func (r *rig) watcher(t testing.TB, h, at string) *browser.Browser {
	t.Helper()
	said := r.command(t, h, "user", "add", "watcher", "--role", "operator", "-o", "json")
	t.Cleanup(func() {
		if out, err := r.lab.Exec(try.Context(t), h, r.exe, "user", "remove", "watcher"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	_, rest, found := strings.Cut(said, `"password": "`)
	once, _, ended := strings.Cut(rest, `"`)
	if !found || !ended {
		t.Fatalf("no password: %s", said)
	}
	b := browser.Open(t, "en", at)
	b.Go(t, at, "input[name=password]")
	b.Fill(t, "input[name=name]", "watcher")
	b.Fill(t, "input[name=password]", once)
	b.Click(t, ".btn.main")
	b.Waits(t, "h1", "Choose a password")
	const chosen = "a console in a drill"
	for field, text := range map[string]string{"old": once, "new": chosen, "again": chosen} {
		b.Fill(t, "input[name="+field+"]", text)
	}
	b.Click(t, ".btn.main")
	b.Waits(t, "header", "watcher")
	return b
}

// aLine is how many pixels a short line of text has at least; a cursor has 18.
const aLine = 200

// lit is how many pixels of the screen are not black.
func lit(t testing.TB, b *browser.Browser) int {
	t.Helper()
	return browser.Value[int](t, b, `(() => {
  const c = document.querySelector("#screen canvas");
  if (!c || !c.width || !c.height) return 0;
  return new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer).filter((v) => v & 0xffffff).length;
})()`)
}

// written waits until the firmware has written what it writes by itself, and returns how many pixels that has.
func (r *rig) written(t testing.TB, b *browser.Browser) (pixels int) {
	t.Helper()
	same := 0
	r.until(t, "the firmware to ask for a key", func(context.Context) (string, bool) {
		n := lit(t, b)
		if n < aLine || n > pixels+aLine/2 || n < pixels-aLine/2 {
			pixels, same = n, 0
		}
		same++
		return fmt.Sprint(n, " pixels"), same > 25
	})
	return pixels
}

// relayed is the address of a member's console on this machine, where a browser reaches it, until the test ends.
func (r *rig) relayed(t testing.TB, h string) string {
	t.Helper()
	return r.relayedWhile(t, h, func() bool { return true })
}

// relayedWhile is relayed, where new connections are closed at once while reached says no.
func (r *rig) relayedWhile(t testing.TB, h string, reached func() bool) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	_, at, _ := strings.Cut(r.lab.ConsoleURL(h), "https://")
	if _, _, err := net.SplitHostPort(at); err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	t.Cleanup(func() {
		try.Must(t, ln.Close())
		open.Wait()
	})
	open.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				if !reached() {
					return
				}
				to, err := r.lab.Dial(t.Context(), "tcp", at)
				if err != nil {
					return // it is away, and the browser is told so
				}
				defer to.Close()
				done := make(chan struct{}, 2)
				for _, pair := range [][2]net.Conn{{c, to}, {to, c}} {
					go func() {
						_, _ = io.Copy(pair[0], pair[1]) // until one of them ends
						done <- struct{}{}
					}()
				}
				select {
				case <-done:
				case <-t.Context().Done():
				}
			})
		}
	})
	return "https://" + ln.Addr().String()
}
