package sim

// event is something that happens at a moment of true time.
type event struct {
	at  int64 // ns
	seq uint64
	fn  func()
}

func (e event) before(f event) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// queue is a binary heap of events, in the order of time; events of the same
// time come in the order in which they were added.
type queue struct {
	heap []event
	seq  uint64
}

func (q *queue) push(at int64, fn func()) {
	q.seq++
	q.heap = append(q.heap, event{at, q.seq, fn})
	h := q.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(h[up]) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

// pop takes the first event; the queue must not be empty.
func (q *queue) pop() event {
	h := q.heap
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h[last] = event{}
	h = h[:last]
	q.heap = h
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if h[c].before(h[least]) {
				least = c
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
