package ha

import (
	"strings"
	"testing"
	"time"

	"holdfast/internal/api/told"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster"
)

// TestACutOffHostDoesNotSayThatTheVMIsOnIt: its own line is of now, the owner record is not.
func TestACutOffHostDoesNotSayThatTheVMIsOnIt(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	s := cluster.Status{Time: now, Self: "h1", AsOf: now.Add(-33 * time.Second),
		Owner: cluster.Owner{State: cluster.Running, Host: "h1", Epoch: cluster.Epoch{Gen: 1, Seq: 3}},
		Hosts: []cluster.HostStatus{{Host: cluster.Host{Name: "h1", Guest: cluster.GuestAbsent}},
			{Host: cluster.Host{Name: "h2", Guest: cluster.GuestUnknown}}}}
	const gone = "not on this host any more; where it runs now is not known"
	for _, c := range []struct {
		what   string
		change func(*cluster.Status)
		want   bool
	}{
		{"cut off, without the guest", func(*cluster.Status) {}, true},
		{"cut off, and it still runs here", func(s *cluster.Status) { s.Hosts[0].Guest = cluster.GuestRunning }, false},
		{"connected", func(s *cluster.Status) { s.Connected = true }, false},
		{"another host's", func(s *cluster.Status) { s.Owner.Host = "h2" }, false},
	} {
		x := s
		x.Hosts = append([]cluster.HostStatus{}, s.Hosts...)
		c.change(&x)
		text := strings.Join(strings.Fields(StatusText(x, output.Painter{})), " ")
		if got := strings.Contains(text, gone); got != c.want {
			t.Errorf("%s: %t, want %t:\n%s", c.what, got, c.want, text)
		}
	}
}

// TestAHostOfWhichOneRecordWasRead: it is not called silent before a lease has passed, nor alive.
func TestAHostOfWhichOneRecordWasRead(t *testing.T) {
	h := cluster.HostStatus{Host: cluster.Host{Name: "h1"}, Silent: time.Second}
	for want, lease := range map[string]time.Duration{"unknown": 6 * time.Second, "silent 1s": time.Second} {
		s := cluster.Status{Connected: true, Timings: cluster.Timings{Lease: lease}, Hosts: []cluster.HostStatus{h}}
		if got := told.Status(s, nil).Hosts[0].Cells[2].Text; got != want {
			t.Errorf("status: %q, want %q", got, want)
		}
		if got := hostLines(s, nil)[0].cells()[2].Text; got != want {
			t.Errorf("host list: %q, want %q", got, want)
		}
	}
}

// TestASilentHolder: what it said last has its age, and its takeover is under way.
func TestASilentHolder(t *testing.T) {
	s := cluster.Status{
		Connected: true, Self: "h2", Timings: cluster.Timings{Lease: 6 * time.Second},
		Takeover: cluster.Takeover{Possible: true, Within: 9 * time.Second},
		Owner:    cluster.Owner{State: cluster.Running, Host: "h1", Epoch: cluster.Epoch{Gen: 1, Seq: 3}},
		Hosts: []cluster.HostStatus{{Host: cluster.Host{Name: "h1"}, Silent: 7 * time.Second},
			{Host: cluster.Host{Name: "h2", Fit: true}, Alive: true}},
	}
	text := strings.Join(strings.Fields(StatusText(s, output.Painter{})), " ")
	for _, want := range []string{"running on h1, epoch 1.3; this is 7s old: h1 is silent",
		"takeover under way, 9s after the last word of h1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	s.Hosts[0].Silent = time.Second // its renewal may be on its way
	if text := StatusText(s, output.Painter{}); strings.Contains(text, "under way") || strings.Contains(text, "1s old") {
		t.Error(text)
	}
}

// TestACutOffHostIsNotFit: it starts nothing without a quorum, and both commands say so.
func TestACutOffHostIsNotFit(t *testing.T) {
	s := cluster.Status{Self: "h1", Hosts: []cluster.HostStatus{{Host: cluster.Host{Name: "h1", Fit: true}}}}
	row, line := told.Status(s, nil).Hosts[0].Cells, hostLines(s, nil)[0].cells()
	if fit, able := row[len(row)-1].Text, line[len(line)-1].Text; fit != "no" || !strings.HasPrefix(able, "no: ") {
		t.Errorf("FIT %q, ABLE %q", fit, able)
	}
}
