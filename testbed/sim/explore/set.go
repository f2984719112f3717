package explore

import "sync"

// shards is the number of parts of the set, each with a lock of its own.
const shards = 256

// set holds the digests of the states met. Two workers may add at once.
type set struct{ part [shards]part }

type part struct {
	mu    sync.Mutex
	slots []digest // open addressing; hi 0: empty
	used  int
}

func newSet() *set {
	s := &set{}
	for i := range s.part {
		s.part[i].slots = make([]digest, 1<<10)
	}
	return s
}

// add reports whether d is new.
func (s *set) add(d digest) bool {
	p := &s.part[d.lo%shards]
	p.mu.Lock()
	defer p.mu.Unlock()
	if 4*p.used >= 3*len(p.slots) {
		p.grow()
	}
	if !place(p.slots, d) {
		return false
	}
	p.used++
	return true
}

func (p *part) grow() {
	old := p.slots
	p.slots = make([]digest, 2*len(old))
	for _, d := range old {
		if d.hi != 0 {
			place(p.slots, d)
		}
	}
}

// place reports whether d was not there.
func place(slots []digest, d digest) bool {
	mask := uint64(len(slots) - 1)
	for i := d.hi >> 1 & mask; ; i = (i + 1) & mask {
		switch slots[i] {
		case digest{}:
			slots[i] = d
			return true
		case d:
			return false
		}
	}
}
