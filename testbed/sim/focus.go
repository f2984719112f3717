package sim

import (
	"fmt"
	"slices"
	"time"
)

// focus is a group of faults that leads to rare states more often than faults that
// are chosen one by one.
type focus struct {
	name string
	add  func(*maker)
}

func focuses() []focus {
	return []focus{
		{"start", (*maker).focusStart}, {"fence", (*maker).focusFence}, {"restore", (*maker).focusRestore},
		{"migration", (*maker).focusMigration},
		{"reboot", (*maker).focusReboot}, {"word", (*maker).focusWord}, {"hang", (*maker).focusHang}, {"news", (*maker).focusNews},
		{"arrival", (*maker).focusArrival}, {"blind", (*maker).focusBlind}, {"verbose", (*maker).focusVerbose}, {"still", (*maker).focusStill},
	}
}

// Hunt looks for a violation of one of the rules in random scenarios with the
// seeds 1, 2 ... to runs, all of one focus, "" for any. It returns the seed of the
// first; 0: there is none.
func Hunt(name string, rules []string, runs int) (uint64, Violation, error) {
	i := slices.IndexFunc(focuses(), func(f focus) bool { return f.name == name })
	if i < 0 && name != "" {
		return 0, Violation{}, fmt.Errorf("focus %q: there is none of that name", name)
	}
	var add func(*maker)
	if i >= 0 {
		add = focuses()[i].add
	}
	for seed := uint64(1); seed <= uint64(runs); seed++ {
		s, err := Parse(random(seed, add))
		if err != nil {
			return 0, Violation{}, fmt.Errorf("make scenario of seed %d: %w", seed, err)
		}
		r, err := Run(s, false)
		if err != nil {
			return 0, Violation{}, fmt.Errorf("run scenario of seed %d: %w", seed, err)
		}
		for _, v := range r.Violations {
			if slices.Contains(rules, v.Rule) {
				return seed, v, nil
			}
		}
	}
	return 0, Violation{}, nil
}

// focusBlind writes holders that can not observe their guest any more.
func (m *maker) focusBlind() {
	t := faultsFrom + m.upTo(5*time.Second)
	m.at(t, "let b %s", m.pick("owner", "owner", "other"))
	m.at(t, "observe b no")
	m.at(t+m.upTo(3*time.Second), "%s", m.pick("guest b end", "agent b crash", "move b", "isolate b"))
	m.at(t+58*time.Second, "heal b")
}

// focusVerbose writes devices and hosts whose errors are longer than the store
// takes.
func (m *maker) focusVerbose() {
	m.devices = true
	fmt.Fprintln(&m.b, "fence all verbose")
	t := faultsFrom + m.upTo(5*time.Second)
	m.at(t, "fit %s verbose", m.pick(m.hosts...))
	m.at(t+m.upTo(10*time.Second), m.pick("power %s off", "isolate %s", "freeze %s"), "owner")
}

// focusStill writes guests that stand still by an I/O error.
func (m *maker) focusStill() {
	t := faultsFrom
	for range 3 {
		t += m.upTo(8 * time.Second)
		m.at(t, "guest owner still")
		t += m.upTo(40*time.Second) / 2
		if m.IntN(2) == 0 {
			m.at(t, "guest owner disk")
		}
	}
}

// focusHang writes holders that are slow and then stand still.
func (m *maker) focusHang() {
	for i := range 3 {
		t := faultsFrom + time.Duration(i)*22*time.Second
		m.at(t, "let n%d owner", i)
		m.hang(t, fmt.Sprintf("n%d", i))
	}
}

// focusNews writes coordinators whose news is old, and holders that are gone.
func (m *maker) focusNews() {
	t := faultsFrom
	for range 3 {
		m.at(t, "let c coordinator")
		m.at(t, "slow c watch %s", m.pick("6s", "15s"))
		t += m.upTo(8 * time.Second)
		m.at(t, "let w owner")
		m.at(t, m.pick("cut %s from-store", "agent %s freeze", "isolate %s", "agent %s crash"), "w")
		t += 6*time.Second + m.upTo(6*time.Second)
		for _, mend := range []string{"heal w", "agent w thaw", "heal c"} {
			m.at(t, "%s", mend)
		}
	}
}

// focusStart writes agents that are restarted while a start is under way.
func (m *maker) focusStart() {
	t := m.time()
	m.at(t, "start all %s", m.pick("hang", "lost", "late"))
	m.at(t, "guest owner end")
	for range 4 {
		t += m.upTo(2 * time.Second)
		m.at(t, "agent owner crash")
	}
	m.at(t+m.length(), "start all ok")
}

// focusFence writes devices of all kinds, and holders that are lost and return.
func (m *maker) focusFence() {
	m.devices = true
	fmt.Fprintln(&m.b, "fence all ok")
	t := faultsFrom
	for range 4 {
		t += m.upTo(10 * time.Second)
		m.at(t, "fence all %s", m.pick("ok", "ok", "lies-on", "late"))
		m.at(t, "let f owner")
		m.at(t, m.pick("isolate %s", "agent %s freeze", "freeze %s"), "f")
		t += 2*time.Second + m.upTo(5*time.Second)
		for _, mend := range []string{"heal %s", "agent %s thaw", "thaw %s", "power %s on"} {
			m.at(t, mend, "f")
		}
	}
	m.at(t, "power all on")
}

// focusRestore writes a backup that is restored.
func (m *maker) focusRestore() {
	m.at(20*time.Second, "move %s", m.pick(m.hosts...))
	m.at(30*time.Second, "let r %s", m.pick("owner", "other", "coordinator"))
	m.restore(31*time.Second, "r")
}

// focusWord writes a host of which an operator said at one restore that it is
// off, and that has the guest and is away at the next one.
func (m *maker) focusWord() {
	who := m.pick(m.hosts...)
	m.at(14*time.Second, "power %s off", who)
	t := 16*time.Second + m.upTo(2*time.Second)
	m.again(t, 10*time.Second)
	m.at(t+6*time.Second, "off %s anna", who)
	t += 8 * time.Second
	m.at(t, "power %s on", who)
	t += 26*time.Second + m.upTo(4*time.Second)
	m.at(t, "move %s", who)
	t += 14*time.Second + m.upTo(2*time.Second)
	if m.IntN(2) == 0 {
		m.at(t-2*time.Second, "handsoff on")
		m.at(t+6*time.Second, "handsoff off")
	}
	m.at(t, "isolate %s", who)
	m.again(t+m.upTo(200*time.Millisecond), 3*time.Second+m.upTo(4*time.Second))
}

// again writes a loss of the store and a restore as soon as one is allowed.
func (m *maker) again(t, age time.Duration) {
	m.at(t, "quorum off")
	t += restoreAfter + m.upTo(time.Second)
	m.at(t, "restore %s", age)
	m.at(t+m.upTo(100*time.Millisecond), "quorum on")
}

// focusMigration writes migrations that lose one side at any moment.
func (m *maker) focusMigration() {
	t := faultsFrom
	m.at(t, "migration all %s", m.pick("ok", "unheard"))
	for range 3 {
		m.at(t, "transfer all %s", m.pick("300ms", "1s", "3s"))
		m.at(t, "move %s", m.pick(m.hosts...))
		t += m.upTo(4 * time.Second)
		m.at(t, "let g %s", m.pick("owner", "target"))
		m.at(t, m.pick("cut %s from-store", "isolate %s", "agent %s freeze", "power %s cycle", "slow %s watch 15s"), "g")
		t += 8*time.Second + m.upTo(8*time.Second)
		for _, mend := range []string{"heal %s", "agent %s thaw"} {
			m.at(t, mend, "g")
		}
	}
}

// focusArrival writes guests that end at the source just after its hypervisor
// has not heard that they arrived.
func (m *maker) focusArrival() {
	t := faultsFrom
	m.at(t, "migration all unheard")
	m.at(t, "transfer all 300ms")
	for range 4 {
		m.at(t, "let g owner")
		m.at(t, "move %s", m.pick(m.hosts...))
		m.at(t+5*time.Second, "agent g stop")
		m.at(t+7500*time.Millisecond, "guest g end")
		m.at(t+8*time.Second, "agent g start")
		t += 14 * time.Second
	}
}

// focusReboot writes targets that boot again as soon as they are ready, and
// sources whose news is old.
func (m *maker) focusReboot() {
	t := faultsFrom
	fmt.Fprintln(&m.b, "boot all 1s")
	for range 3 {
		m.at(t, "slow owner watch %s", m.pick("500ms", "1s", "2s"))
		m.at(t, "let s owner")
		m.at(t, "move %s", m.pick(m.hosts...))
		t += m.upTo(3 * time.Second)
		m.at(t, "power target cycle")
		t += 8*time.Second + m.upTo(4*time.Second)
		m.at(t, "heal s")
	}
}
