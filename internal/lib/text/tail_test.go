package text

import (
	"strings"
	"testing"
)

// TestTail: however it is written, the end is kept.
func TestTail(t *testing.T) {
	const whole = "0123456789abcdefghij"
	for _, most := range []int{1, 7, 20, 30} {
		for size := 1; size <= len(whole); size++ {
			x := Tail{Most: most}
			for rest := whole; rest != ""; {
				n := min(size, len(rest))
				if m, err := x.Write([]byte(rest[:n])); m != n || err != nil {
					t.Fatalf("%d of %d, %v", m, n, err)
				}
				rest = rest[n:]
			}
			if got := x.String(); !strings.HasSuffix(whole, got) || len(got) != min(most, len(whole)) {
				t.Errorf("%d bytes, written by %d: %q", most, size, got)
			}
		}
	}
}
