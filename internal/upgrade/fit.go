package upgrade

// rooms finds places with enough room among many: a tree of maxima. A place
// that is closed has room -1.
type rooms struct {
	size int // places, a power of two
	max  []int64
}

func newRooms(n int) *rooms {
	size := 1
	for size < n {
		size *= 2
	}
	r := &rooms{size, make([]int64, 2*size)}
	for i := range r.max {
		r.max[i] = -1
	}
	return r
}

func (r *rooms) set(i int, room int64) {
	at := i + r.size
	r.max[at] = room
	for at /= 2; at > 0; at /= 2 {
		r.max[at] = max(r.max[2*at], r.max[2*at+1])
	}
}

// most returns the largest room of the places from lo to hi-1, -1 for none.
func (r *rooms) most(lo, hi int) int64 {
	best := int64(-1)
	for a, b := lo+r.size, hi+r.size; a < b; a, b = a/2, b/2 {
		if a%2 == 1 {
			best = max(best, r.max[a])
			a++
		}
		if b%2 == 1 {
			b--
			best = max(best, r.max[b])
		}
	}
	return best
}

// first returns the first place from lo to hi-1 with room for need, -1 for none.
func (r *rooms) first(lo, hi int, need int64) int {
	return r.find(1, 0, r.size, lo, hi, max(0, need))
}

// find looks below a node, which covers the places from a to b-1.
func (r *rooms) find(node, a, b, lo, hi int, need int64) int {
	if b <= lo || hi <= a || r.max[node] < need {
		return -1
	}
	if b-a == 1 {
		return a
	}
	mid := (a + b) / 2
	if i := r.find(2*node, a, mid, lo, hi, need); i >= 0 {
		return i
	}
	return r.find(2*node+1, mid, b, lo, hi, need)
}
