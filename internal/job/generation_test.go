package job

import "testing"

func TestTogether(t *testing.T) {
	for _, c := range []struct {
		generations []int
		want        bool
	}{
		{[]int{1, 1}, true}, {[]int{1, 2}, true}, {[]int{2, 1}, true}, {[]int{7, 7, 8}, true},
		{[]int{1, 3}, false}, {[]int{3, 1}, false}, {[]int{1, 2, 3}, false}, {[]int{3, 2, 1}, false},
		{[]int{0, 1}, true}, {[]int{0, 2}, true}, {[]int{0, 0}, true}, {[]int{3, 0}, false}, // not said: 1
		{[]int{-5, 2}, true}, {[]int{5}, true},
	} {
		if got := Together(c.generations...); got != c.want {
			t.Errorf("%v: %t, want %t", c.generations, got, c.want)
		}
	}
}

// TestFittingIsTheRule: what people are told is what Together says.
func TestFittingIsTheRule(t *testing.T) {
	for _, c := range []struct {
		generations []int
		from, to    int
	}{
		{[]int{1}, 1, 2}, {[]int{0, 0}, 1, 2}, {[]int{5, 5}, 4, 6}, {[]int{5, 4}, 4, 5},
	} {
		if from, to := Fitting(c.generations...); from != c.from || to != c.to {
			t.Errorf("%v: %d to %d, want %d to %d", c.generations, from, to, c.from, c.to)
		}
	}
	for a := range 5 {
		for b := range 5 {
			if !Together(a, b) {
				continue
			}
			least, most := max(a, b, 2)-1, max(min(a, b), 1)+1
			for n := 1; n < 8; n++ {
				if Together(a, b, n) != (n >= least && n <= most) {
					t.Errorf("%d with %d and %d: want it from %d to %d only", n, a, b, least, most)
				}
			}
		}
	}
}

func TestAgentIsNamed(t *testing.T) {
	if got := (HostState{Version: "1.4.0-3-gabcdef", Generation: 3}).AgentOf("h3"); got != "the agent of h3 (1.4.0-3-gabcdef, generation 3)" {
		t.Error(got)
	}
	if got := (HostState{}).AgentOf("h1"); got != "the agent of h1 (unknown version, generation 1)" {
		t.Error(got)
	}
}
