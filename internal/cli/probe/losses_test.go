package probe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/fleet/losses"
	"holdfast/internal/lib/fail"
)

// TestLossesFit: on a terminal nothing wraps, and no figure is cut.
func TestLossesFit(t *testing.T) {
	r := &losses.Result{Rate: 1000, Interrupted: true}
	r.Began = losses.Moment{Time: clitest.Time()}
	r.Ended = losses.Moment{Time: clitest.Time().Add(time.Hour)}
	for i := range 30 {
		a := losses.Address{IP: netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)),
			Name: strings.Repeat("guest-with-a-long-name-", 2) + fmt.Sprint(i)}
		r.Targets = append(r.Targets, losses.Target{Address: a, By: losses.ICMP, Sent: 3_600_000, Lost: 12_345,
			LongestMS: 12_345.6, Gaps: []losses.Gap{{At: r.Began, MS: 12_345.6}}, GapsLeftOut: 1000, Reordered: new(int64(1)), UnwatchedMS: 36_000})
		r.Silent = append(r.Silent, losses.Silent{Address: a, AskedBy: []losses.Means{losses.ICMP, losses.ARP}})
	}
	r.Sum()
	text := lossesText(r, output.Painter{Cuts: true, Colours: true})
	if bad := clitest.TooWide(text, output.Width); len(bad) > 0 {
		t.Errorf("%s", strings.Join(bad, "\n"))
	}
	for _, want := range []string{"2001:db8::14", "3,600,000", "12,345.6 ms", "1,001", "10 targets more",
		"30 targets did", "1.0 % of the time", "interrupted after 1h0m0s", "370,350 of 108,000,000", "30 answers"} {
		if !strings.Contains(clitest.Escapes.ReplaceAllString(text, ""), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	joined := func() string {
		r.Name, r.Silent = strings.Repeat("vantage-", 8), nil
		b := *r
		b.Name = "b"
		b.Targets = slices.Clone(r.Targets)
		b.Targets[3].Lost, b.Targets[3].Gaps = 0, nil
		b.Sum()
		j, err := losses.Join([]*losses.Result{r, &b})
		if err != nil {
			t.Fatal(err)
		}
		return joinedText(j, output.Painter{Cuts: true, Colours: true})
	}()
	if bad := clitest.TooWide(joined, output.Width); len(bad) > 0 {
		t.Errorf("%s", strings.Join(bad, "\n"))
	}
	for _, want := range []string{"2001:db8::14", "12,345.6 ms", "10 targets more", "29 of 30 targets lost from all",
		"longest 12,345.6 ms, of 2001:db8::1", "1 of 30 targets lost from some", "60,000 gaps were not judged"} {
		if !strings.Contains(clitest.Escapes.ReplaceAllString(joined, ""), want) {
			t.Errorf("no %q in\n%s", want, joined)
		}
	}
	if line := probeLine(losses.Progress{Asking: losses.ARP, Targets: 1}, time.Hour); line != "asking by ARP which of 1 target answer" {
		t.Errorf("%q", line)
	}
	for ms, want := range map[float64]string{0: "0.0", 0.06: "0.1", 1.96: "2.0", 1234.5: "1,234.5"} {
		if got := millis(ms); got != want {
			t.Errorf("%v ms is written %s, want %s", ms, got, want)
		}
	}
}

// TestLossMap: on a terminal losses are shown over the time, in place; it fits, and the last map stays.
func TestLossMap(t *testing.T) {
	master, slave := clitest.OpenPTY(t)
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 9, Col: 100}); err != nil {
		t.Fatal(err)
	}
	var shown bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&shown, master) // ends with EIO when the other end is closed
	}()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	const n = 23
	measure := func(_ context.Context, o losses.Order, tell func(losses.Progress)) (*losses.Result, error) {
		each := make([]losses.Counted, n)
		for i := range each {
			each[i].IP = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			if i != 15 {
				each[i].Name = fmt.Sprintf("web%d", i+1)
			}
		}
		for s := 1; s <= 200; s++ {
			for i := range each {
				each[i].Sent += 10
			}
			switch {
			case s == 40:
				each[0].Lost++
			case s > 100 && s <= 150:
				for i := 5; i < 10; i++ {
					each[i].Lost += 10
				}
			}
			tell(losses.Progress{Targets: n, Passed: time.Duration(s) * time.Second, Sent: int64(10 * n * s), Lost: 1, Each: each})
		}
		return nil, fail.Errorf(fail.Refused, "that is all")
	}
	root := Command(&command.App{Env: command.Env{Stdout: io.Discard, Stderr: slave,
		Stdin: strings.NewReader("10.0.0.1\n"),
		Probe: measure}, Output: "text"})
	root.SetArgs([]string{"--targets", "-", "--for", "200s"})
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "that is all") {
		t.Errorf("got %v", err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	<-read
	text := shown.String()
	last := text[strings.LastIndex(text, "\x1b[6A"):]
	lines := strings.Split(strings.ReplaceAll(clitest.Escapes.ReplaceAllString(last, ""), "\r", ""), "\n")
	want := []string{
		"web1 +4                  ·········░········································",
		"web6 +4                  ·························████████████▓············",
		"web11 +4                 ··················································",
		"10.0.0.16 +4             ··················································",
		"web21 +2                 ··················································",
		"a column is 4s; lost: · none  ░ less than 10 %  ▒ than 50 %  ▓ more  █ all",
	}
	if len(lines) < len(want) || !slices.Equal(lines[:len(want)], want) {
		t.Errorf("shown at last:\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if bad := clitest.TooWide(clitest.Escapes.ReplaceAllString(last, ""), 99); len(bad) > 0 {
		t.Errorf("%s", strings.Join(bad, "\n"))
	}
}
