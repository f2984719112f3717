package losses

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// counted are targets of which each has lost as told.
func counted(sent int64, lost ...int64) (out []Counted) {
	for i, n := range lost {
		out = append(out, Counted{Address{IP: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}, sent, n})
	}
	return out
}

func TestHeat(t *testing.T) {
	h := NewHeat(2, 4)
	for i, lost := range [][]int64{{0, 0, 0}, {0, 10, 0}, {0, 10, 0}, {0, 10, 10}} {
		h.Add(time.Duration(i+1)*time.Second, counted(10*int64(i+1), lost...))
	}
	if len(h.Rows) != 2 || h.Every != time.Second || h.Rows[0].First.IP.String() != "10.0.0.1" || h.Rows[0].More != 1 ||
		h.Rows[1].First.IP.String() != "10.0.0.3" || h.Rows[1].More != 0 {
		t.Fatalf("%+v", h)
	}
	if want := []Share{{20, 0}, {20, 10}, {20, 0}, {20, 0}}; !slices.Equal(h.Rows[0].Columns, want) {
		t.Errorf("%v, want %v", h.Rows[0].Columns, want)
	}
	h.Add(5*time.Second, counted(50, 0, 10, 20))
	if want := []Share{{20, 0}, {20, 10}, {10, 10}}; !slices.Equal(h.Rows[1].Columns, want) || h.Every != 2*time.Second {
		t.Errorf("each %s: %v, want %v", h.Every, h.Rows[1].Columns, want)
	}
	h.Add(11*time.Second, counted(110, 0, 10, 20)) // after a pause
	if want := []Share{{40, 10}, {10, 10}, {60, 0}}; !slices.Equal(h.Rows[1].Columns, want) || h.Every != 4*time.Second {
		t.Errorf("each %s: %v, want %v", h.Every, h.Rows[1].Columns, want)
	}
}

// TestHeatKeepsAll: whatever the size, and however often it is told, what was counted is in it once.
func TestHeatKeepsAll(t *testing.T) {
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	for range 300 {
		rows, columns, n := 1+r.IntN(20), 2+r.IntN(50), 1+r.IntN(60)
		h, all, passed := NewHeat(rows, columns), counted(0, make([]int64, n)...), time.Duration(0)
		for range 1 + r.IntN(100) {
			passed += time.Duration(r.Int64N(int64(20 * time.Second)))
			for i := range all {
				sent := r.Int64N(10)
				all[i].Sent += sent
				all[i].Lost += r.Int64N(sent + 1)
			}
			h.Add(passed, all)
		}
		var want, got Share
		for _, c := range all {
			want.Sent, want.Lost = want.Sent+c.Sent, want.Lost+c.Lost
		}
		targets := len(h.Rows)
		for _, row := range h.Rows {
			targets += row.More
			if len(row.Columns) > columns || time.Duration(len(row.Columns))*h.Every < passed {
				t.Fatalf("seed %d: %d columns of %s, at most %d, after %s", seed, len(row.Columns), h.Every, columns, passed)
			}
			for _, c := range row.Columns {
				got.Sent, got.Lost = got.Sent+c.Sent, got.Lost+c.Lost
			}
		}
		if got != want || len(h.Rows) > rows || targets != n {
			t.Fatalf("seed %d: %+v of %d targets in %d rows of at most %d, want %+v of %d", seed, got, targets, len(h.Rows), rows, want, n)
		}
	}
}
