package explore

import (
	"crypto/sha256"
	"encoding/binary"
	"unsafe"
)

// Ages beyond which nothing compares any more, in ticks.
const (
	seenLong  = lease + guard + 2 // of a host's record: the wait, with the tick that skew adds
	ownerLong = 16                // of the owner record while a migration is on: 30 s for a source that stands still
	ownerSome = 6                 // while running or released: the time for a start to count as good, the back-off
	coordLong = election
	shutLong  = 32 // 60 s, after which the guest is killed
	blindLong = 17 // 30 s, after which a holder gives itself up
	quietLong = detection + seenLong
)

// canon gives the world its canonical form: ages that do not matter are clamped,
// what can not be looked at any more is cleared, revisions, boots, agent
// processes and epochs are renamed in their order, messages are sorted.
func (m *mover) canon() {
	w := &m.w
	for i := range w.host {
		w.host[i].forget(w.store.owner.state == migrating)
		if !w.devices {
			w.host[i].quiet = [members]uint8{} // heartbeats matter for fence devices alone
		}
	}
	if w.called != w.store.owner.epoch {
		w.called = 0
	}
	m.sortMessages()
	renameRevisions(w)
	renameEpochs(w)
	for i := range w.host {
		renameBoots(w, i)
		renameInstances(w, i)
	}
}

// forget clears what nothing will ask for any more.
func (h *host) forget(moving bool) {
	if !h.power {
		*h = host{boot: h.boot, cut: h.cut, quiet: h.quiet, agent: agent{inst: h.agent.inst}}
	}
	a := &h.agent
	if !a.up {
		*a = agent{inst: a.inst}
	}
	if !h.dog.armed {
		h.dog = dog{}
	}
	if !moving && a.rec.owner.state != migrating {
		// Whether it went away in a migration is asked no more.
		for _, p := range []*process{&h.proc, &a.sight.process, &a.look.process} {
			if p.state == absent {
				*p = process{}
			}
		}
	}
	if !h.slow {
		a.look = sight{}
	}
	if a.started != a.rec.owner.epoch {
		a.started = 0
	}
	a.hostAge = clampAll(a.hostAge, seenLong)
	h.quiet = clampAll(h.quiet, quietLong)
	a.coordAge = min(a.coordAge, coordLong)
	a.shut = min(a.shut, shutLong)
	a.blind = min(a.blind, blindLong)
	switch a.rec.owner.state {
	case migrating, settling:
		a.ownerAge = min(a.ownerAge, ownerLong)
	case running, released:
		a.ownerAge = min(a.ownerAge, ownerSome)
	default:
		a.ownerAge = min(a.ownerAge, 1)
	}
	for j := range a.rec.host {
		if a.rec.host[j].mod == 0 {
			a.hostAge[j] = 0
		}
	}
}

func clampAll(ages [members]uint8, most uint8) [members]uint8 {
	for i := range ages {
		ages[i] = min(ages[i], most)
	}
	return ages
}

// sortMessages brings the messages into the order of sender, kind and liveness;
// there is at most one of each.
func (m *mover) sortMessages() {
	ms := &m.w.message
	for i := 1; i < len(ms); i++ {
		for j := i; j > 0 && key(&ms[j]) < key(&ms[j-1]); j-- {
			ms[j], ms[j-1] = ms[j-1], ms[j]
		}
	}
}

func key(g *message) int {
	if g.stage == noMessage {
		return 1 << 10
	}
	k := int(g.from)<<4 | int(g.kind)<<1
	if !g.live {
		k |= 1
	}
	return k
}

// eachRevision calls f with every revision of the coordinator, owner and wish
// records (0 to 2) and of the hosts' (3 on).
func eachRevision(w *world, f func(record int, v *uint8)) {
	rows := func(r *records) {
		f(0, &r.coord.mod)
		f(1, &r.owner.mod)
		f(2, &r.want.mod)
		for i := range r.host {
			f(3+i, &r.host[i].mod)
		}
	}
	wish := func(r *wantRow) {
		if r.cancel != 0 {
			v := r.cancel - 1
			f(1, &v)
			r.cancel = v + 1
		}
		for i := range r.off {
			if r.off[i] != 0 {
				v := r.off[i] - 1
				f(3+i, &v)
				r.off[i] = v + 1
			}
		}
	}
	rows(&w.store)
	wish(&w.store.want)
	for i := range w.host {
		a := &w.host[i].agent
		if !a.up {
			continue
		}
		rows(&a.rec)
		wish(&a.rec.want)
		f(3+i, &a.leaseMod)
		for j := range a.fenceMod {
			f(3+j, &a.fenceMod[j])
		}
	}
	for i := range w.message {
		g := &w.message[i]
		if g.stage == noMessage {
			continue
		}
		for r := range g.mod {
			f(r, &g.mod[r])
			f(r, &g.rev[r])
		}
		f(recCoord, &g.term)
		if g.silent != 0 {
			f(recHost+int(g.silent)-1, &g.silentMod)
		}
		wish(&g.want)
	}
}

func renameRevisions(w *world) {
	var used [3 + members]rank
	eachRevision(w, func(r int, v *uint8) { used[r].use(*v) })
	eachRevision(w, func(r int, v *uint8) { *v = used[r].of(*v) })
}

// renameEpochs shifts all epochs so that the smallest that is in use is 1.
func renameEpochs(w *world) {
	least := restored
	eachEpoch(w, func(v *uint8) {
		if *v != 0 {
			least = min(least, *v&^restored)
		}
	})
	if least <= 1 || least == restored {
		return
	}
	eachEpoch(w, func(v *uint8) {
		if *v != 0 {
			*v -= least - 1
		}
	})
}

func eachEpoch(w *world, f func(*uint8)) {
	owner := func(r *ownerRow) { f(&r.epoch); f(&r.proofEpoch) }
	owner(&w.store.owner)
	owner(&w.backup.owner)
	for i := range w.host {
		h := &w.host[i]
		f(&h.proc.epoch)
		f(&h.starting)
		f(&h.agent.started)
		f(&h.agent.sight.epoch)
		f(&h.agent.look.epoch)
		owner(&h.agent.rec.owner)
	}
	for i := range w.message {
		owner(&w.message[i].owner)
	}
	f(&w.called)
}

// renameBoots numbers the boots of host i that something still speaks of.
func renameBoots(w *world, i int) {
	each := func(f func(*uint8)) {
		row := func(r *records) { f(&r.host[i].boot); f(&r.host[i].fenced) }
		f(&w.host[i].boot)
		row(&w.store)
		for j := range w.host {
			row(&w.host[j].agent.rec)
		}
		for j := range w.message {
			f(&w.message[j].host[i].boot)
			f(&w.message[j].host[i].fenced)
		}
	}
	rename(each)
}

// renameInstances numbers the agent processes of host i: claims name them.
func renameInstances(w *world, i int) {
	each := func(f func(*uint8)) {
		row := func(r *records) {
			if int(r.owner.host) == i+1 {
				f(&r.owner.claim)
			}
		}
		f(&w.host[i].agent.inst)
		row(&w.store)
		if int(w.backup.owner.host) == i+1 {
			f(&w.backup.owner.claim)
		}
		for j := range w.host {
			row(&w.host[j].agent.rec)
		}
		for j := range w.message {
			g := &w.message[j]
			if int(g.owner.host) == i+1 {
				f(&g.owner.claim)
			}
		}
	}
	rename(each)
}

func rename(each func(func(*uint8))) {
	var used rank
	each(func(v *uint8) { used.use(*v) })
	each(func(v *uint8) { *v = used.of(*v) })
}

// size is that of a world: a whole number of words is not needed.
const size = int(unsafe.Sizeof(world{}))

// maskBytes hold one bit for each byte of a world.
const maskBytes = (size + 7) / 8

// raw shows a world as its bytes. A test makes sure that it has no padding and no
// pointer, so that equal worlds have equal bytes.
func raw(w *world) *[size]byte { return (*[size]byte)(unsafe.Pointer(w)) }

// pack appends the short form of a world to out: which bytes are not zero, and
// these bytes.
func pack(w *world, out []byte) []byte {
	start := len(out)
	out = append(out, make([]byte, maskBytes)...)
	for i, b := range raw(w) {
		if b != 0 {
			out[start+i/8] |= 1 << (i % 8)
			out = append(out, b)
		}
	}
	return out
}

// unpack is the reverse.
func unpack(in []byte, w *world) {
	*w = world{}
	b, next := raw(w), maskBytes
	for i := range b {
		if in[i/8]&(1<<(i%8)) != 0 {
			b[i] = in[next]
			next++
		}
	}
}

// digest is 128 bits of the SHA-256 of a packed world.
type digest struct{ hi, lo uint64 }

func digestOf(packed []byte) digest {
	sum := sha256.Sum256(packed)
	return digest{binary.LittleEndian.Uint64(sum[:8]) | 1, binary.LittleEndian.Uint64(sum[8:16])}
}
