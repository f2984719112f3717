package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// maker writes a random scenario.
type maker struct {
	*rand.Rand
	b       strings.Builder
	hosts   []string
	count   int
	devices bool // some host has a fence device
}

// Bounds of random scenarios.
const (
	faultsFrom  = 12 * time.Second
	faultsUntil = 75 * time.Second
	randomEnd   = 150 * time.Second
)

// Random gives the text of the random scenario of a seed: a cluster of three or
// five hosts with clocks at the limits of the drift, several faults that often
// come close together, then calm.
func Random(seed uint64) string { return random(seed, nil) }

// random puts the faults of focus among the others.
func random(seed uint64, focus func(*maker)) string {
	m := &maker{Rand: rand.New(rand.NewPCG(seed, 1))}
	hosts := []string{"h1", "h2", "h3"}
	if m.IntN(5) == 0 {
		hosts = append(hosts, "h4", "h5")
	}
	fmt.Fprintf(&m.b, "hosts %s\nseed %d\n", strings.Join(hosts, " "), seed)
	for _, h := range hosts {
		fmt.Fprintf(&m.b, "clock %s %s\n", h, m.pick("0.99", "1", "1.01", "0.995", "1.005"))
		fmt.Fprintf(&m.b, "boot %s %s\n", h, m.pick("2s", "4s", "10s", "25s"))
	}
	m.hosts = hosts
	if m.IntN(10) == 0 {
		fmt.Fprintf(&m.b, "watchdog %s none\n", m.pick(hosts...))
	}
	m.settings()
	m.at(2*time.Second, "want run")
	if focus == nil && m.IntN(5) == 0 {
		focus = focuses()[m.IntN(len(focuses()))].add
	}
	if focus != nil {
		focus(m)
	}
	for range 2 + m.IntN(6) {
		m.fault(m.time())
	}
	m.at(faultsUntil+10*time.Second, "calm")
	m.at(faultsUntil+10*time.Second, "handsoff off")
	if m.IntN(8) == 0 {
		m.at(faultsUntil+12*time.Second, "want stop")
	} else {
		m.at(faultsUntil+12*time.Second, "want run")
	}
	fmt.Fprintf(&m.b, "end %s\n", randomEnd)
	return m.b.String()
}

func (m *maker) pick(of ...string) string { return of[m.IntN(len(of))] }

func (m *maker) time() time.Duration {
	return faultsFrom + time.Duration(m.Int64N(int64(faultsUntil-faultsFrom))).Round(time.Millisecond)
}

func (m *maker) upTo(d time.Duration) time.Duration {
	return time.Duration(m.Int64N(int64(d))).Round(time.Millisecond)
}

// length is how long a fault lasts: short, about the lease, or long.
func (m *maker) length() time.Duration {
	return []time.Duration{m.upTo(2 * time.Second), 5*time.Second + m.upTo(6*time.Second), m.upTo(40 * time.Second)}[m.IntN(3)]
}

func (m *maker) at(t time.Duration, format string, args ...any) {
	fmt.Fprintf(&m.b, "at %s %s\n", min(t, faultsUntil+20*time.Second), fmt.Sprintf(format, args...))
}

// fault writes one fault, or a group that comes close together on one victim.
func (m *maker) fault(t time.Duration) {
	m.count++
	who := fmt.Sprintf("x%d", m.count)
	m.at(t, "let %s %s", who, m.pick("owner", "owner", "owner", "target", "coordinator", "other", "h1", "h2"))
	switch m.IntN(24) {
	case 0, 1, 2, 3:
		m.request(t)
	case 4, 5, 6, 7:
		m.migrate(t, who)
	case 8, 9:
		m.hang(t, who)
	case 10:
		m.restore(t, who)
	case 11:
		m.sick(t, who)
	case 12:
		m.gone(t, who)
	default:
		for range 1 + m.IntN(3) {
			m.single(t, who)
			t += m.upTo(4 * time.Second)
		}
	}
}

// hang writes a host that is slow, then stands still, and is then cut off: the
// case in which only its watchdog ends its guest.
func (m *maker) hang(t time.Duration, who string) {
	end := t + 12*time.Second + m.upTo(20*time.Second)
	m.at(t, m.pick("slow %[1]s reply 950ms", "slow %[1]s reply 950ms", "slow %[1]s request 950ms",
		"slow %[1]s watch 3s", "let %[1]s %[1]s"), who)
	t += time.Second + m.upTo(7*time.Second)
	m.at(t, m.pick("agent %s freeze", "kill %s stuck", "freeze %s"), who)
	m.at(t+m.upTo(time.Second), m.pick("isolate %[1]s", "cut %[1]s store", "cut %[1]s to-store", "let %[1]s %[1]s"), who)
	for _, mend := range []string{"thaw %s", "agent %s thaw", "kill %s ok", "heal %s"} {
		m.at(end, mend, who)
	}
}

// request writes something that operators do.
func (m *maker) request(t time.Duration) {
	switch m.IntN(4) {
	case 0:
		h := m.pick("h1", "h2", "h3")
		m.at(t, "rest %s on", h)
		m.at(t+m.length(), "rest %s off", h)
	case 1:
		m.at(t, "want stop")
		m.at(t+m.length(), "want run")
	case 2:
		m.at(t, "handsoff on")
		m.at(t+m.length(), "handsoff off")
	default:
		m.at(t, "move %s", m.pick("h1", "h2", "h3", "owner"))
	}
}

// migrate writes a migration with a fault in the middle.
func (m *maker) migrate(t time.Duration, who string) {
	m.at(t, "transfer all %s", m.pick("1s", "3s", "8s"))
	if m.IntN(3) == 0 {
		m.at(t, "migration all %s", m.pick("refuse", "fail", "late-fail", "unheard", "stall"))
		m.at(t+m.length(), "migration all ok")
	}
	m.at(t, "move %s", m.pick("h1", "h2", "h3"))
	t += m.upTo(10 * time.Second)
	m.at(t, "let %s %s", who, m.pick("owner", "target"))
	for range m.IntN(3) {
		m.single(t, who)
		t += m.upTo(3 * time.Second)
	}
	if m.IntN(3) == 0 {
		m.at(t, "%s", m.pick("cancel", "cancel", "move owner"))
	}
}

// single writes one fault and its end.
func (m *maker) single(t time.Duration, who string) {
	kinds := [][2]string{
		{"power %s off", "power %s on"}, {"power %s cycle", ""},
		{"agent %s crash", ""}, {"agent %s stop", "agent %s start"}, {"agent %s freeze", "agent %s thaw"},
		{"agent %s freeze", "agent %s thaw"}, {"freeze %s", "thaw %s"},
		{"isolate %s", "heal %s"}, {"isolate %s", "heal %s"}, {"cut %s store", "heal %s"}, {"cut %s to-store", "heal %s"},
		{"cut %s from-store", "heal %s"}, {"cut %s all", "heal %s"},
		{"slow %s request 950ms", "heal %s"}, {"slow %s reply 950ms", "heal %s"}, {"slow %s request 5s", "heal %s"},
		{"slow %s watch 6s", "heal %s"}, {"slow %s watch 15s", "heal %s"},
		{"slow %s watchdog 400ms", "heal %s"},
		{"quorum off", "quorum on"}, {"guest %s end", ""}, {"guest %s deaf", "guest %s hears"},
		{"start all fail", "start all ok"}, {"start %s hang", "start %s ok"}, {"start all lost", "start all ok"},
		{"start %s late", "start %s ok"},
		{"kill %s stuck", "kill %s ok"}, {"kill %s stuck", "kill %s ok"},
		{"cut %s beats", "heal %s"}, {"cut %s to-beats", "heal %s"}, {"cut %s from-beats", "heal %s"}, {"mute %s coordinator", "heal %s"},
		{"lossy %s 60", "heal %s"}, {"slow %s beats 1500ms", "heal %s"}, {"cut all beats", "heal all"}, {"guest %s sick", "guest %s well"},
		{"fence %s dead", "fence %s ok"}, {"fence all lies-on", "fence all ok"}, {"fence all late", "fence all ok"},
		{"fence all slow", "fence all ok"}, {"fence all verbose", "fence all ok"}, {"fence %s foreign", "fence %s ok"},
		{"refuse 60", "refuse 0"}, {"device %s 7s", "device %s 4s"}, {"guest %s still", "guest %s disk"},
		{"fit %s no", "fit %s yes"}, {"fit %s verbose", "fit %s yes"}, {"observe %s no", "observe %s yes"},
		{"watchdog %s none", "watchdog %s ok"},
	}
	k := kinds[m.IntN(len(kinds))]
	if strings.HasPrefix(k[0], "fence") && !m.devices {
		return
	}
	write := func(t time.Duration, format string) {
		if strings.Contains(format, "%s") {
			format = fmt.Sprintf(format, who)
		}
		m.at(t, "%s", format)
	}
	write(t, k[0])
	if k[1] != "" {
		write(t+m.length(), k[1])
	}
}

// settings writes what a cluster is configured with: timings of one of the
// profiles or other legal ones, fence devices, the policy of restarts.
func (m *maker) settings() {
	switch m.IntN(5) {
	case 0, 1:
		fmt.Fprintln(&m.b, "timings fast")
	case 2:
		m.timings()
	}
	if m.IntN(2) == 0 {
		m.devices = true
		fmt.Fprintf(&m.b, "fence %s ok\n", m.pick("all", "all", "all", m.pick(m.hosts...)))
	}
	if m.IntN(10) == 0 {
		fmt.Fprintf(&m.b, "restart %s %s 10m\n", m.pick("0", "1", "2"), m.pick("2", "4"))
	}
}

// timings writes ones that obey the sums which the configuration checks.
func (m *maker) timings() {
	const ms = time.Millisecond
	of := func(d ...time.Duration) time.Duration { return d[m.IntN(len(d))] }
	keep := of(500*ms, 1000*ms, 2000*ms, 2500*ms)
	lease := 3*keep + of(0, 500*ms, 2000*ms)
	dog := of(2000*ms, 4000*ms, 7000*ms)
	grace := max(500*ms, dog+2*keep-lease) + of(0, 1000*ms)
	epsilon := lease/50 + 100*ms + of(0, 200*ms)
	election := 2*keep + of(0, 1000*ms)
	beat := of(100*ms, 200*ms, 300*ms)
	detection := min(lease, 4*beat+of(0, 500*ms, 2000*ms))
	fmt.Fprintf(&m.b, "timings keepalive=%s lease=%s watchdog=%s grace=%s epsilon=%s election=%s heartbeat=%s detection=%s\n",
		keep, lease, dog, grace, epsilon, election, beat, detection)
}

// restore writes a loss of the store, the backup that is restored, and who is
// away meanwhile or for good.
func (m *maker) restore(t time.Duration, who string) {
	age := m.length()
	if m.IntN(2) == 0 {
		m.at(t, m.pick("isolate %s", "power %s off", "freeze %s", "agent %s freeze"), who)
	}
	t += m.upTo(2 * time.Second)
	m.at(t, "quorum off")
	t += 3*time.Second + m.upTo(8*time.Second)
	m.at(t, "restore %s", age+4*time.Second)
	t += m.upTo(2 * time.Second)
	m.at(t, "quorum on")
	m.at(t+m.upTo(4*time.Second), "off %s anna", who)
	t += m.upTo(15 * time.Second)
	for _, mend := range []string{"heal %s", "thaw %s", "agent %s thaw", "power %s on"} {
		m.at(t, mend, who)
	}
}

// sick writes a guest that fails its health check, sometimes with a process that
// can not be killed.
func (m *maker) sick(t time.Duration, who string) {
	if m.IntN(2) == 0 {
		m.at(t, "kill %s stuck", who)
		m.at(t+m.length(), "kill %s ok", who)
	}
	m.at(t+m.upTo(time.Second), "guest owner sick")
	m.at(t+m.length(), "guest owner well")
}

// gone writes a host without power of which an operator says so.
func (m *maker) gone(t time.Duration, who string) {
	m.at(t, "power %s off", who)
	m.at(t+m.length(), "off %s anna", who)
	m.at(t+m.length(), "off %s bert", who)
	m.at(t+m.length(), "power %s on", who)
}
