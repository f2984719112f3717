package supervise

import (
	"context"
	"testing"
	"time"
)

func TestRestartOfAKeptChild(t *testing.T) {
	s := newSpec(t, "obedient")
	keep(t, s)
	was := await(t, s, "a child", func(st State) bool { return st.PID != 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := Restart(ctx, s.Dir, s.Name); err != nil {
		t.Fatal(err)
	}
	if now := state(t, s); now.PID == 0 || now.PID == was.PID {
		t.Errorf("process %d, was %d", now.PID, was.PID)
	}
}

func TestRestartOfAChildThatNobodyKeeps(t *testing.T) {
	s := newSpec(t, "obedient")
	end := keep(t, s)
	await(t, s, "a child", func(st State) bool { return st.PID != 0 })
	end()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := Restart(ctx, s.Dir, s.Name); err == nil {
		t.Error("nobody has started it again, and that is not told")
	}
}
