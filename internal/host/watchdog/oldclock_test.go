package watchdog

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/clock"
	"holdfast/internal/testbed/try"
)

// Whatever the other clock does from now on, an instant that was moved there comes
// no later than the one it was made of.
func TestSooner(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		from, to := cluster.Instant(rnd.Int64N(1e15)), cluster.Instant(rnd.Int64N(1e15))
		ahead := time.Duration(rnd.Int64N(2e11) - 1e11)
		rate := 0.9 + 0.2*rnd.Float64() // of the clock with to, by that with from
		moved := sooner(from.Add(ahead), from, to)
		// Of the past and the future alike: where the other clock is, or was, then.
		if at := to.Add(time.Duration(float64(ahead) * rate)); moved > at {
			t.Fatalf("%v ahead, rate %v: %v too late", ahead, rate, moved.Sub(at))
		}
		if moved < to.Add(min(ahead/10*8, ahead*12/10)-time.Microsecond) {
			t.Fatalf("%v ahead, rate %v: moved to %v ahead", ahead, rate, moved.Sub(to))
		}
	}
}

// An agent of an earlier version, which counts in CLOCK_BOOTTIME, and a holder of
// this one: the device is petted no longer than the agent's limit allows.
func TestKeeperAndAnAgentOfAnEarlierVersion(t *testing.T) {
	dir := t.TempDir()
	for _, slew := range []float64{-0.1, 0, 0.1} {
		synctest.Test(t, func(t *testing.T) {
			v := newWorld(t, dir, 4*time.Second)
			defer v.end()
			v.slew = slew
			v.start()
			for range 3 {
				limit := v.boottime().Add(10 * time.Second)
				st := v.askAs(request{Op: opArm, Until: limit, Expires: v.boottime().Add(time.Second)})
				if st.Error != "" || st.Limit != limit || st.Clock != "" || st.LastPet > v.boottime() {
					t.Fatalf("slew %v: arm until %d: %+v", slew, limit, st)
				}
				if st = v.askAs(request{Op: opStatus}); st.Limit != limit {
					t.Fatalf("slew %v: status %+v, want the limit %d", slew, st, limit)
				}
				time.Sleep(5 * time.Second)
			}
			st := v.askAs(request{Op: opStatus})
			for len(v.fired()) == 0 {
				time.Sleep(10 * time.Millisecond)
				for _, at := range v.pets() {
					if b := v.boottime(); b > st.Limit {
						t.Fatalf("slew %v: petted at %d, %v after the limit", slew, at, b.Sub(st.Limit))
					}
				}
			}
			if st := v.askAs(request{Op: opArm, Until: v.boottime() - 1}); !st.Refused {
				t.Errorf("slew %v: a limit in the past: %+v", slew, st)
			}
			if st := v.askAs(request{Op: opDisarm, Expires: v.boottime() - 1}); !st.Refused {
				t.Errorf("slew %v: an old disarm: %+v", slew, st)
			}
			if st := v.askAs(request{Op: opStatus, Clock: "sundial"}); !st.Refused {
				t.Errorf("an unknown clock: %+v", st)
			}
		})
	}
}

// The mark of a holder of an earlier version, read by this one, and the reverse.
func TestMarkOfAnotherVersion(t *testing.T) {
	dir := t.TempDir()
	boot := filepath.Join(dir, "boot")
	if err := os.WriteFile(boot, []byte("b1"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := newMark(filepath.Join(dir, "mark"), boot)
	if err != nil {
		t.Fatal(err)
	}
	const s = cluster.Instant(time.Second)
	now, slewed := 1000*s, 1090*s
	if err := os.WriteFile(m.path, fmt.Appendf(nil, `{"boot":"b1","limit_ns":%d}`, 1099*s), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, ok, err := m.load(now, slewed); err != nil || !ok || l != (left{1008 * s, 0}) {
		t.Errorf("of an earlier version: %+v, %v, %v, want 8 of its 9 s", l, ok, err)
	}
	want := left{1009 * s, 3 * time.Second}
	if err := m.save(want, now, slewed); err != nil {
		t.Fatal(err)
	}
	if l, ok, err := m.load(now, slewed); err != nil || !ok || l != want {
		t.Errorf("of this version: %+v, %v, %v, want %+v", l, ok, err, want)
	}
	var old struct {
		Boot  string          `json:"boot"`
		Limit cluster.Instant `json:"limit_ns"`
	}
	if b, err := os.ReadFile(m.path); err != nil || json.Unmarshal(b, &old) != nil || old.Boot != "b1" || old.Limit != 1098*s {
		t.Errorf("an earlier version reads %+v: want 8 of the 9 s by its own clock", old)
	}
	if err := m.save(left{0, time.Second}, now, slewed); err != nil {
		t.Fatal(err)
	}
	if l, ok, err := m.load(now, slewed); err != nil || !ok || l.limit != 0 {
		t.Errorf("without a limit: %+v, %v, %v", l, ok, err)
	}
}

// oldHolder is a holder of an earlier version: it counts in CLOCK_BOOTTIME, knows no
// clock by name, and obeys. It returns the socket and the requests that it gets.
func oldHolder(t *testing.T, st Status) (string, <-chan map[string]any) {
	t.Helper()
	socket := filepath.Join(try.ShortDir(t), "h")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan map[string]any, 20)
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			for r := bufio.NewScanner(conn); r.Scan(); {
				var req map[string]any
				var limit struct {
					Until cluster.Instant `json:"until_ns"`
				}
				if json.Unmarshal(r.Bytes(), &req) != nil || json.Unmarshal(r.Bytes(), &limit) != nil {
					break
				}
				got <- req
				switch req["op"] {
				case opArm:
					st.Armed, st.Limit = true, limit.Until
				case opDisarm:
					st.Armed, st.Limit = false, 0
				}
				if json.NewEncoder(conn).Encode(st) != nil {
					break
				}
			}
			conn.Close()
		}
	}()
	return socket, got
}

// An agent of this version and a holder of an earlier one: the holder is told
// instants of its own clock, and none before it is known which that is.
func TestClientAndAHolderOfAnEarlierVersion(t *testing.T) {
	socket, got := oldHolder(t, Status{Timeout: 4 * time.Second, Identity: "old"})
	c, slewed := Dial(socket), clock.New()
	before := slewed.Boottime()
	limit := c.clock.Now().Add(9 * time.Second)
	st, err := c.Arm(t.Context(), limit)
	after := slewed.Boottime()
	if err != nil || !st.Armed || st.Limit != limit || st.Timeout != 4*time.Second {
		t.Fatalf("arm: %+v, %v", st, err)
	}
	if req := <-got; req["op"] != opStatus || req["until_ns"] != nil || req["expires_ns"] != nil {
		t.Errorf("first request: %v: want a question that no clock is needed for", req)
	}
	req := <-got
	until, _ := req["until_ns"].(float64)
	expires, _ := req["expires_ns"].(float64)
	// 8 of the 9 s by its clock; the readings are within before and after.
	if lo, hi := float64(before)+8e9-float64(after-before)-1e6, float64(after)+8e9; req["op"] != opArm || req["clock"] != nil || until < lo || until > hi {
		t.Errorf("arm: %v, want until %.0f to %.0f by CLOCK_BOOTTIME", req, lo, hi)
	}
	if expires <= float64(before) || expires > float64(after)+float64(callTimeout) {
		t.Errorf("arm: expires %.0f ns ahead by CLOCK_BOOTTIME", expires-float64(after))
	}
	if st, err = c.Status(t.Context()); err != nil || st.Limit > limit || !st.Armed {
		t.Errorf("status: %+v, %v: want a limit not after %d", st, err, limit)
	}
	<-got
	if err := c.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-got
	if req := <-got; req["op"] != opDisarm || req["clock"] != nil {
		t.Errorf("disarm: %v", req)
	}
}
