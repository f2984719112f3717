package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

// resultsVar names the file that gets the results; without it nothing runs.
const resultsVar = "HOLDFAST_BENCH_RESULTS"

// programs gives a laboratory those that a person uses.
func programs(o lab.Options) lab.Options {
	o.Exe, o.Self = "../bin/holdfast", "../bin/holdfast-lab"
	return o
}

// up makes a laboratory with agents and waits for the guest.
func up(t *testing.T) *lab.Lab {
	t.Helper()
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	l, err := lab.Up(t.Context(), programs(lab.Options{Dir: filepath.Join(t.TempDir(), "lab"), Agents: true}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	settled(t, l)
	return l
}

// settled waits until the guest runs and answers and a takeover is possible.
func settled(t *testing.T, l *lab.Lab) cluster.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		st, err := status(ctx, l)
		if err == nil && st.Owner.State == cluster.Running && st.Takeover.Possible {
			if _, err = l.Ask(ctx); err == nil {
				return st
			}
		}
		if !clock.Sleep(ctx, 200*time.Millisecond) {
			t.Fatalf("the guest does not run: %+v, %v", st, err)
		}
	}
}

func status(ctx context.Context, l *lab.Lab) (cluster.Status, error) {
	var st cluster.Status
	out, err := l.Exec(ctx, "h1", l.Exe(), "status", "-o", "json")
	if err == nil {
		err = lab.ReadTold([]byte(out), &st)
	}
	return st, err
}

func must(t *testing.T, l *lab.Lab, host string, argv ...string) {
	t.Helper()
	if out, err := l.Exec(t.Context(), host, argv...); err != nil {
		t.Fatalf("%s: %v: %v: %s", host, argv, err, out)
	}
}

// result keeps a line for RESULTS.md.
func result(t *testing.T, format string, args ...any) {
	t.Helper()
	s := fmt.Sprintf(format, args...)
	t.Log(s)
	f, err := os.OpenFile(os.Getenv(resultsVar), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, s)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// series is the figures of one way to do a thing.
type series []float64

func (s series) sorted() series { return slices.SortedFunc(slices.Values(s), cmp.Compare[float64]) }
func (s series) median() float64 {
	o := s.sorted()
	return (o[(len(o)-1)/2] + o[len(o)/2]) / 2
}
func (s series) String() string {
	o := s.sorted()
	return fmt.Sprintf("%.2f (%.2f-%.2f)", s.median(), o[0], o[len(o)-1])
}

// pairs is how often both ways are measured, in turn.
const pairs = 12

// TestMigrationAgainstVirsh moves the same guest there and back, in turn by
// `holdfast migrate` and by plain `virsh migrate` with the same flags (under
// hands off), and compares the time of the whole command and the pings of 20 ms
// lost.
func TestMigrationAgainstVirsh(t *testing.T) {
	l := up(t)
	var ourTime, ourLost, virshTime, virshLost series
	home, away := settled(t, l).Owner.Host, cluster.HostID("h1")
	if home == away {
		away = "h2"
	}
	for range pairs {
		for _, to := range []cluster.HostID{away, home} {
			d, lost := under(t, l, func() { must(t, l, "h3", l.Exe(), "migrate", string(to)) })
			ourTime, ourLost = append(ourTime, d.Seconds()), append(ourLost, float64(lost))
			time.Sleep(time.Second)
		}
		must(t, l, "h3", l.Exe(), "stop", "--hands-off")
		from := home
		for _, to := range []cluster.HostID{away, home} {
			addr := l.Addr(string(to)).String()
			d, lost := under(t, l, func() {
				must(t, l, string(from), "virsh", "-q", "migrate", "--live", "--p2p", "--unsafe", cluster.GuestName,
					"qemu+tcp://"+addr+"/system", "tcp://"+addr)
			})
			virshTime, virshLost = append(virshTime, d.Seconds()), append(virshLost, float64(lost))
			from = to
			time.Sleep(time.Second)
		}
		must(t, l, "h3", l.Exe(), "start")
		settled(t, l)
	}
	result(t, "live migration, %d moves each in turn, whole command: holdfast %s s, virsh %s s, ratio of medians "+
		"%.2f; pings of 20 ms lost: holdfast %s, virsh %s",
		2*pairs, ourTime, virshTime, ourTime.median()/virshTime.median(), ourLost, virshLost)
}

// under times f under a ping of 20 ms, and counts the pings lost from a second
// before it to a second after.
func under(t *testing.T, l *lab.Lab, f func()) (time.Duration, int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type pinged struct {
		lab.Pings
		err error
	}
	done := make(chan pinged, 1)
	go func() {
		p, err := l.Ping(ctx, l.GuestAddr())
		done <- pinged{p, err}
	}()
	time.Sleep(time.Second)
	at := time.Now()
	f()
	d := time.Since(at)
	time.Sleep(time.Second)
	cancel()
	p := <-done
	if p.err != nil {
		t.Fatal(p.err)
	}
	return d, p.Lost
}

// idle is how long the idle cluster is watched.
const idle = 60 * time.Second

// TestIdle reads the memory and the processor time of the agent, the store's
// member and the watchdog's holder on each host of an idle cluster of three, one
// of which runs the guest, one is the coordinator.
func TestIdle(t *testing.T) {
	l := up(t)
	time.Sleep(10 * time.Second)
	kinds := []string{"agent", "store-member", "watchdog-holder"}
	before := map[string]float64{}
	for _, h := range l.Hosts() {
		for _, k := range kinds {
			before[h+k], _ = used(t, l, h, k)
		}
	}
	time.Sleep(idle)
	for _, k := range kinds {
		var cpu, mem series
		for _, h := range l.Hosts() {
			c, m := used(t, l, h, k)
			cpu = append(cpu, (c-before[h+k])/idle.Seconds()*100)
			mem = append(mem, m)
		}
		result(t, "idle %s on three hosts for %s: %s %% of a core, %s MB resident", k, idle, cpu, mem)
	}
}

// used gives the processor seconds and the resident MB of a process on a host.
func used(t *testing.T, l *lab.Lab, host, kind string) (cpu, mem float64) {
	t.Helper()
	out, err := l.Exec(t.Context(), host, "sh", "-c",
		`for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline 2>/dev/null | grep -q "[h]oldfast `+
			kind+` " && cat $p/stat && grep VmRSS $p/status; done`)
	if err != nil && out == "" {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		t.Fatalf("%s on %s: %q: want one process", kind, host, out)
	}
	_, rest, _ := strings.Cut(lines[0], ") ")
	f := strings.Fields(rest)
	for _, i := range []int{11, 12} { // utime, stime of proc(5), in 1/100 s
		n, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			t.Fatal(err)
		}
		cpu += n / 100
	}
	kb, err := strconv.ParseFloat(strings.Fields(lines[1])[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return cpu, kb / 1024
}
