//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

// Of the measurement of a first copy.
const (
	copyLink  = "100mbit"   // of the active node, by tc-tbf(8)
	copyRows  = 150_000     // of 7,000 random bytes, which nothing packs
	copyProbe = 125_000_000 // bytes that a plain connection carries, to measure the link
	copyLimit = 10 * time.Minute
	copyRuns  = 3
)

// TestPairFirstCopy measures how long a node takes that has lost its disk, from power on to a healthy
// pair, against the time in which a plain TCP connection carries as many bytes over the same link: no
// set-up can be faster than its first copy.
func TestPairFirstCopy(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	ctx, _ := interrupted(t)
	c := pairByHoldfast(t, ctx)
	l := c.lab
	sqlOn := func(s string) { must(t, l, "h1", "mariadb", "--socket="+lab.PairSocket, "-e", s) }
	sqlOn("CREATE TABLE app.big (id INT PRIMARY KEY, b BLOB) ENGINE=InnoDB")
	random := "CONCAT(" + strings.TrimSuffix(strings.Repeat("RANDOM_BYTES(1000),", 7), ",") + ")"
	for at := 1; at <= copyRows; at += 1000 {
		sqlOn(fmt.Sprintf("INSERT INTO app.big SELECT seq, %s FROM app.seq_%d_to_%d", random, at, at+999))
	}
	if err := patient(ctx, c.settled); err != nil {
		t.Fatal(err)
	}
	must(t, l, "h1", "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", copyLink, "burst", "64kb", "latency", "50ms")
	var whole, part, over series
	for i := range copyRuns {
		link, err := linkRate(ctx, l)
		if err != nil {
			t.Fatal(err)
		}
		data := l.HostPath("h2", filepath.Base(lab.PairData))
		err = l.Crash(ctx, "h2")
		if err = errors.Join(err, os.RemoveAll(data), os.Mkdir(data, 0o700)); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		if err := l.On(ctx, "h2"); err != nil {
			t.Fatal(err)
		}
		copied, err := firstCopy(ctx, c, at)
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(at).Seconds()
		limit := float64(copied.Bytes) / link
		whole, part, over = append(whole, took/limit), append(part, copied.Elapsed.Seconds()/limit), append(over, took-limit)
		t.Logf("run %d: link %.1f MB/s, %.0f MB carried in %s, limit %.1f s, power on to healthy %.1f s, load %s", i+1,
			link/1e6, float64(copied.Bytes)/1e6, copied.Elapsed, limit, took, loadNow())
	}
	result(t, "- first copy of a pair over a link of %s, %d runs, against the time in which the link carries as many "+
		"bytes: the copy alone %s, power on to a healthy pair %s (%s s more)", copyLink, copyRuns, part, whole, over)
}

// linkRate is what a plain TCP connection from h1 to h2 carries, in bytes per second.
func linkRate(ctx context.Context, l *lab.Lab) (float64, error) {
	const port = "5555"
	got := make(chan error, 1)
	go func() {
		_, err := l.Exec(ctx, "h2", "timeout", "60", "busybox", "nc", "-l", "-p", port, "-e", "sh", "-c", "cat >/dev/null")
		got <- err
	}()
	clock.Sleep(ctx, time.Second)
	out, err := l.Exec(ctx, "h1", "sh", "-euc",
		`a=$(date +%s%N); head -c "$3" /dev/zero | busybox nc "$1" "$2"; echo $(( $(date +%s%N) - a ))`, "sh",
		l.Addr("h2").String(), port, fmt.Sprint(copyProbe))
	if err = errors.Join(err, <-got); err != nil {
		return 0, err
	}
	ns, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	return copyProbe / ns * 1e9, err
}

// firstCopy waits until the pair is healthy, and gives the last that h2 said of its copy.
func firstCopy(ctx context.Context, c pairContestant, from time.Time) (last pairCopy, err error) {
	ctx, cancel := context.WithTimeout(ctx, copyLimit)
	defer cancel()
	for ctx.Err() == nil {
		st, err := holdfast{lab: c.lab}.pairStatus(ctx)
		for _, n := range st.Nodes {
			if err == nil && n.Host == "h2" && n.Time.After(from) && n.Copy != nil {
				last = *n.Copy
			}
		}
		if err == nil && st.Health == cluster.Healthy && last.Stage == cluster.Copied {
			return last, nil
		}
		clock.Sleep(ctx, 200*time.Millisecond)
	}
	return last, fmt.Errorf("no healthy pair: %w", ctx.Err())
}
