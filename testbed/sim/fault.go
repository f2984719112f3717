package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// command is one word of the scenario language.
type command struct {
	usage string // the arguments, for people; fewer are refused
	least int
	most  int
	run   func(w *World, args []string) error
}

// commands is the whole language but for `hosts`, `seed`, `at` and `end`.
func commands() map[string]command {
	return map[string]command{
		"want":      {"run|stop", 1, 1, (*World).cmdWant},
		"handsoff":  {"on|off", 1, 1, (*World).cmdHandsOff},
		"move":      {"HOST", 1, 1, (*World).cmdMove},
		"cancel":    {"", 0, 0, (*World).cmdCancel},
		"power":     {"HOST on|off|cycle", 2, 2, (*World).cmdPower},
		"agent":     {"HOST crash|stop|start|freeze|thaw", 2, 2, (*World).cmdAgent},
		"freeze":    {"HOST", 1, 1, each(func(h *host) { h.freeze() })},
		"thaw":      {"HOST", 1, 1, each(func(h *host) { h.thaw() })},
		"isolate":   {"HOST", 1, 1, each(func(h *host) { h.isolated = true; h.world.linkChanged() })},
		"heal":      {"HOST", 1, 1, each((*host).heal)},
		"cut":       {"HOST store|to-store|from-store|beats|to-beats|from-beats|HOST", 2, 2, (*World).cmdCut},
		"mute":      {"HOST HOST", 2, 2, (*World).cmdMute},
		"lossy":     {"HOST PERCENT", 2, 2, (*World).cmdLossy},
		"slow":      {"HOST request|reply|watch|watchdog|beats DURATION", 3, 3, (*World).cmdSlow},
		"quorum":    {"on|off", 1, 1, (*World).cmdQuorum},
		"guest":     {"HOST end|deaf|hears|sick|well|still|disk", 2, 2, (*World).cmdGuest},
		"start":     {"HOST ok|fail|hang|lost|late", 2, 2, (*World).cmdStart},
		"kill":      {"HOST ok|stuck", 2, 2, (*World).cmdKill},
		"migration": {"HOST ok|refuse|fail|late-fail|unknown|unheard|stall", 2, 2, (*World).cmdMigration},
		"transfer":  {"HOST DURATION", 2, 2, (*World).cmdTransfer},
		"watchdog":  {"HOST ok|none", 2, 2, (*World).cmdWatchdog},
		"fit":       {"HOST yes|no|verbose", 2, 2, (*World).cmdFit},
		"observe":   {"HOST yes|no", 2, 2, (*World).cmdObserve},
		"clock":     {"HOST RATE", 2, 2, (*World).cmdClock},
		"boot":      {"HOST DURATION", 2, 2, (*World).cmdBoot},
		"device":    {"HOST DURATION", 2, 2, (*World).cmdDevice},
		"refuse":    {"PERCENT", 1, 1, (*World).cmdRefuse},
		"timings":   {"default|fast NAME=VALUE...", 1, 9, (*World).cmdTimings},
		"restart":   {"INPLACE LIMIT WINDOW", 3, 3, (*World).cmdRestart},
		"fence":     {"HOST none|" + strings.Join(bmcModes(), "|"), 2, 2, (*World).cmdFence},
		"rest":      {"HOST on|off", 2, 2, (*World).cmdRest},
		"off":       {"HOST USER", 2, 2, (*World).cmdOff},
		"restore":   {"AGE", 1, 1, (*World).cmdRestore},
		"let":       {"NAME HOST", 2, 2, (*World).cmdLet},
		"calm":      {"", 0, 0, (*World).cmdCalm},
	}
}

// checkCommand refuses what can be refused without running it.
func checkCommand(table map[string]command, words []string) error {
	c, ok := table[words[0]]
	if !ok {
		return fmt.Errorf("%q is no command: want one of %s", words[0], strings.Join(slices.Sorted(maps.Keys(table)), ", "))
	}
	if n := len(words) - 1; n < c.least || n > c.most {
		return fmt.Errorf("want %s %s", words[0], c.usage)
	}
	return nil
}

// find gives the hosts that a word means: a name, `all`, what `let` bound, or a
// part that a host plays now: owner, target, coordinator, other (the first that
// is none of them). It is empty when nobody plays it.
func (w *World) find(word string) ([]*host, error) {
	s := &w.store
	var id cluster.HostID
	switch word {
	case "all":
		return w.hosts, nil
	case "owner":
		id = s.owner.Host
	case "target":
		id = s.owner.To
	case "coordinator":
		id = s.coord.Host
	case "other":
		for _, h := range w.hosts {
			if h.name != s.owner.Host && h.name != s.owner.To && h.name != s.coord.Host {
				return []*host{h}, nil
			}
		}
		return nil, nil
	default:
		if h, bound := w.names[word]; bound {
			if h == nil {
				return nil, nil
			}
			return []*host{h}, nil
		}
		id = cluster.HostID(word)
		if w.host(id) == nil {
			return nil, fmt.Errorf("%q is no host", word)
		}
	}
	if h := w.host(id); h != nil {
		return []*host{h}, nil
	}
	return nil, nil
}

// each makes a command of something done to a host.
func each(do func(*host)) func(*World, []string) error {
	return func(w *World, args []string) error {
		hs, err := w.find(args[0])
		for _, h := range hs {
			do(h)
		}
		return err
	}
}

// choose does to each host what the second argument names.
func (w *World) choose(args []string, what map[string]func(*host)) error {
	do, ok := what[args[1]]
	if !ok {
		return fmt.Errorf("%q: want one of %s", args[1], strings.Join(slices.Sorted(maps.Keys(what)), ", "))
	}
	return each(do)(w, args)
}

// onOff reads a word that is one of two.
func onOff(word, yes, no string) (bool, error) {
	if word != yes && word != no {
		return false, fmt.Errorf("%q: want %s or %s", word, yes, no)
	}
	return word == yes, nil
}

func (w *World) cmdWant(args []string) error {
	run, err := onOff(args[0], "run", "stop")
	if err == nil {
		w.store.request(func(n *cluster.Want) { n.Run = run }, cluster.Event{Kind: cluster.EvWant, Detail: args[0]})
	}
	return err
}

func (w *World) cmdHandsOff(args []string) error {
	on, err := onOff(args[0], "on", "off")
	if err == nil {
		w.store.request(func(n *cluster.Want) { n.HandsOff = on }, cluster.Event{Kind: cluster.EvHandsOff, Detail: args[0]})
	}
	return err
}

func (w *World) cmdRest(args []string) error {
	on, err := onOff(args[1], "on", "off")
	hs, ferr := w.find(args[0])
	if err = errors.Join(err, ferr); err != nil {
		return err
	}
	for _, h := range hs {
		w.store.request(func(n *cluster.Want) {
			n.SetMaintenance(h.name, on)
		}, cluster.Event{Kind: cluster.EvWant, Host: h.name, Detail: "maintenance " + args[1]})
	}
	return nil
}

// cmdCancel cancels a migration that is on; without one it asks for nothing.
func (w *World) cmdCancel([]string) error {
	if o := w.store.owner; o.State == cluster.Migrating {
		w.store.request(func(n *cluster.Want) { n.Cancel = o.mod }, cluster.Event{Kind: cluster.EvWant, Detail: "cancel"})
	}
	return nil
}

func (w *World) cmdMove(args []string) error {
	hs, err := w.find(args[0])
	if len(hs) > 0 {
		to := hs[0].name
		w.store.request(func(n *cluster.Want) { n.MoveTo = to }, cluster.Event{Kind: cluster.EvWant, Detail: "move to " + string(to)})
	}
	return err
}

func (w *World) cmdPower(args []string) error {
	return w.choose(args, map[string]func(*host){
		"on":    (*host).powerOn,
		"off":   (*host).powerOff,
		"cycle": func(h *host) { h.powerOff(); h.powerOn() },
	})
}

func (w *World) cmdAgent(args []string) error {
	return w.choose(args, map[string]func(*host){
		"crash":  func(h *host) { h.agent.crash() },
		"stop":   func(h *host) { h.agent.stop() },
		"start":  func(h *host) { h.agent.start() },
		"freeze": func(h *host) { h.agent.frozen = h.agent.up },
		"thaw":   func(h *host) { h.agent.thaw() },
	})
}

// heal mends everything about the host's network.
func (h *host) heal() {
	h.isolated = false
	h.net = newLink()
	for _, o := range h.world.hosts {
		delete(o.net.peers, h)
		delete(o.net.mute, h)
	}
	h.world.linkChanged()
}

func (w *World) cmdCut(args []string) error {
	var do func(*host)
	switch args[1] {
	case "store":
		do = func(h *host) { h.net.noRequest, h.net.noReply = true, true }
	case "to-store":
		do = func(h *host) { h.net.noRequest = true }
	case "from-store":
		do = func(h *host) { h.net.noReply = true }
	case "beats":
		do = func(h *host) { h.net.noBeatsOut, h.net.noBeatsIn = true, true }
	case "to-beats":
		do = func(h *host) { h.net.noBeatsOut = true }
	case "from-beats":
		do = func(h *host) { h.net.noBeatsIn = true }
	default:
		peers, err := w.find(args[1])
		if err != nil {
			return err
		}
		do = func(h *host) {
			for _, p := range peers {
				if p != h {
					h.net.peers[p] = true
				}
			}
		}
	}
	err := each(do)(w, args)
	w.linkChanged()
	return err
}

func (w *World) cmdSlow(args []string) error {
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	return w.choose(args[:2], map[string]func(*host){
		"request":  func(h *host) { h.net.request = d },
		"reply":    func(h *host) { h.net.reply = d },
		"watch":    func(h *host) { h.net.watch = d },
		"watchdog": func(h *host) { h.net.dog = d },
		"beats":    func(h *host) { h.net.beats = d },
	})
}

// cmdMute lets the heartbeats of the first hosts not reach the second ones.
func (w *World) cmdMute(args []string) error {
	deaf, err := w.find(args[1])
	if err != nil {
		return err
	}
	return each(func(h *host) {
		for _, p := range deaf {
			if p != h {
				h.net.mute[p] = true
			}
		}
	})(w, args)
}

func (w *World) cmdLossy(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 0 || n > 100 {
		return fmt.Errorf("%q: want a percentage", args[1])
	}
	return each(func(h *host) { h.net.lossy = n })(w, args)
}

func (w *World) cmdQuorum(args []string) (err error) {
	w.quorum, err = onOff(args[0], "on", "off")
	w.linkChanged()
	return err
}

func (w *World) cmdGuest(args []string) error {
	return w.choose(args, map[string]func(*host){
		"end":   func(h *host) { h.hyper.end() },
		"deaf":  func(h *host) { h.hyper.deaf = true },
		"hears": func(h *host) { h.hyper.deaf = false },
		"sick":  func(h *host) { h.hyper.sick(true) },
		"well":  func(h *host) { h.hyper.sick(false) },
		"still": func(h *host) { h.hyper.still() },
		"disk":  func(h *host) { h.hyper.diskBad = false },
	})
}

// mode makes a table of the values of a setting.
func mode(set func(*host, string), values ...string) map[string]func(*host) {
	m := map[string]func(*host){"ok": func(h *host) { set(h, "") }}
	for _, v := range values {
		m[v] = func(h *host) { set(h, v) }
	}
	return m
}

func (w *World) cmdStart(args []string) error {
	return w.choose(args, mode(func(h *host, v string) { h.hyper.startMode = v }, "fail", "hang", "lost", "late"))
}

func (w *World) cmdKill(args []string) error {
	return w.choose(args, mode(func(h *host, v string) { h.hyper.stuckKill = v != "" }, "stuck"))
}

func (w *World) cmdMigration(args []string) error {
	return w.choose(args, mode(func(h *host, v string) { h.hyper.moveMode = v }, "refuse", "fail", "late-fail", "unknown", "unheard", "stall"))
}

func (w *World) cmdTransfer(args []string) error {
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	return each(func(h *host) { h.hyper.transfer = d })(w, args)
}

// cmdWatchdog: a device that is armed when it is declared broken goes on until
// it is disarmed; that it fails while it is trusted is outside the model.
func (w *World) cmdWatchdog(args []string) error {
	return w.choose(args, mode(func(h *host, v string) { h.dog.there = v == "" }, "none"))
}

// longText is longer than a request to the store may be.
func longText() string { return strings.Repeat("error ", maxTxn/3) }

func (w *World) cmdFit(args []string) error {
	if args[1] == "verbose" {
		return each(func(h *host) { h.unfit, h.trouble = "", longText() })(w, args)
	}
	yes, err := onOff(args[1], "yes", "no")
	if err != nil {
		return err
	}
	why := "its image is out of reach"
	if yes {
		why = ""
	}
	return each(func(h *host) { h.unfit, h.trouble = why, "" })(w, args)
}

func (w *World) cmdObserve(args []string) error {
	yes, err := onOff(args[1], "yes", "no")
	if err != nil {
		return err
	}
	return each(func(h *host) { h.blind, h.mended = !yes, w.now })(w, args)
}

func (w *World) cmdClock(args []string) error {
	rate, err := strconv.ParseFloat(args[1], 64)
	if err != nil || rate < 0.5 || rate > 2 {
		return fmt.Errorf("rate %q: want a number from 0.5 to 2", args[1])
	}
	return each(func(h *host) {
		h.base, h.since, h.rate = h.clock(), w.now, rate
		h.dog.plan()
	})(w, args)
}

func (w *World) cmdBoot(args []string) error {
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	return each(func(h *host) { h.bootTime = d })(w, args)
}

// cmdDevice sets W, the timeout of a watchdog device, from when it is not armed on.
func (w *World) cmdDevice(args []string) error {
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	return each(func(h *host) { h.dog.set(d) })(w, args)
}

// cmdRefuse lets the store refuse so many of a hundred transactions; with fixed
// delays all, unless 0.
func (w *World) cmdRefuse(args []string) (err error) {
	if w.refuse, err = strconv.Atoi(args[0]); err != nil || w.refuse < 0 || w.refuse > 100 {
		return fmt.Errorf("%q: want a percentage", args[0])
	}
	return nil
}

// cmdLet gives a host a second name, so that a later command means the same one.
func (w *World) cmdLet(args []string) error {
	hs, err := w.find(args[1])
	if err != nil {
		return err
	}
	w.names[args[0]] = nil
	if len(hs) > 0 {
		w.names[args[0]] = hs[0]
	}
	return nil
}

// cmdCalm mends everything and gives power to every host.
func (w *World) cmdCalm([]string) error {
	w.quorum, w.refuse = true, 0
	for _, h := range w.hosts {
		y := &h.hyper
		y.startMode, y.moveMode, y.stuckKill, y.deaf, y.diskBad = "", "", false, false, false
		y.sick(false)
		if h.bmc.mode != "" {
			h.bmc.mode = "ok"
		}
		h.unfit, h.trouble, h.blind, h.dog.there = "", "", false, true
		h.heal()
		h.powerOn()
		h.thaw()
		h.agent.thaw()
		if !h.agent.up && w.now-h.since > int64(h.bootTime) {
			h.agent.start()
		}
	}
	return nil
}
