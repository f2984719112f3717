package database

import "testing"

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		a    string
		p    uint64
		b    string
		q    uint64
		want int
	}{
		{"bin.000001", 4, "bin.000001", 4, 0}, {"bin.000001", 5, "bin.000001", 4, 1}, {"bin.000001", 3, "bin.000001", 4, -1},
		{"bin.000002", 4, "bin.000001", 9, 1}, {"bin.999999", 4, "bin.1000000", 4, -1}, {"", 0, "bin.000001", 4, -1},
		{"x", 9, "bin.000001", 4, -1},
		{"bin.000001", 1<<32 + 4, "bin.000001", 5, 1}, {"bin.000001", 1 << 32, "bin.000002", 4, -1},
	} {
		if got := ComparePlaces(c.a, c.p, c.b, c.q); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
