package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"holdfast/testbed/lab"
)

// pairClients write numbered rows through the virtual address of a pair, from outside its
// hosts, and look at both databases all the time.
type pairClients struct {
	vips []*sql.DB // an address each, which writers take in turn
	node map[string]*sql.DB

	within time.Duration // a write; pauses are in proportion to it

	mu    sync.Mutex
	next  int64
	acked []int64     // rows
	by    []int       // how many through each address
	at    []time.Time // when each was acknowledged, in order

	looks atomic.Int64
	both  atomic.Bool // both databases may take writes: the guarantee is best effort
}

// Times of clients.
const (
	writers  = 3
	oneWrite = 500 * time.Millisecond
)

// newPairClients are clients of a laboratory's pair.
func newPairClients(t *testing.T, l *lab.Lab, vips ...netip.Addr) *pairClients {
	t.Helper()
	nodes := map[string]string{}
	for _, h := range l.Hosts()[:2] {
		nodes[h] = l.Addr(h).String()
	}
	dial := func(ctx context.Context, addr string) (net.Conn, error) { return l.Dial(ctx, "tcp", addr) }
	return pairClientsAt(t, dial, vips, nodes, 150*time.Millisecond, oneWrite)
}

// pairClientsAt reach the virtual addresses and the nodes h1 and h2, and have so long to connect
// and to write. They also look, until the end of the test, for two databases that take writes.
func pairClientsAt(t *testing.T, dial func(ctx context.Context, addr string) (net.Conn, error), vips []netip.Addr,
	nodes map[string]string, connect, write time.Duration) *pairClients {
	t.Helper()
	c := &pairClients{node: map[string]*sql.DB{}, within: write}
	network := "pair" + vips[0].String()
	mysql.RegisterDialContext(network, dial)
	t.Cleanup(func() { mysql.DeregisterDialContext(network) })
	open := func(addr string) *sql.DB {
		m := mysql.NewConfig()
		m.User, m.Passwd, m.Net, m.Addr = "app", "app", network, net.JoinHostPort(addr, strconv.Itoa(lab.PairPort))
		m.Timeout, m.ReadTimeout, m.WriteTimeout, m.Logger = connect, write, write, &mysql.NopLogger{}
		connector, err := mysql.NewConnector(m)
		if err != nil {
			t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Log(err)
			}
		})
		return db
	}
	for _, vip := range vips {
		c.vips, c.by = append(c.vips, open(vip.String())), append(c.by, 0)
	}
	for h, addr := range nodes {
		c.node[h] = open(addr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var w sync.WaitGroup
	w.Go(func() { c.watch(ctx, t) })
	t.Cleanup(func() { cancel(); w.Wait() })
	return c
}

// watch looks at both databases at once. Two that took writes during one look are two at the
// moment between its beginning and its end that both answers share.
func (c *pairClients) watch(ctx context.Context, t *testing.T) {
	type seen struct {
		writes   bool
		from, to time.Time
	}
	for ctx.Err() == nil {
		var w sync.WaitGroup
		var mu sync.Mutex
		all := map[string][]seen{}
		for h, db := range c.node {
			w.Go(func() {
				for range 3 { // the one in the middle is surrounded by the same answer
					s := seen{from: time.Now()}
					qctx, cancel := context.WithTimeout(ctx, c.within*3/5)
					var readOnly bool
					err := db.QueryRowContext(qctx, "SELECT @@read_only").Scan(&readOnly)
					cancel()
					s.to, s.writes = time.Now(), err == nil && !readOnly
					mu.Lock()
					all[h] = append(all[h], s)
					mu.Unlock()
				}
			})
		}
		w.Wait()
		c.looks.Add(1)
		a, b := all["h1"], all["h2"]
		certain := func(s []seen) (from, to time.Time, writes bool) {
			return s[0].to, s[2].from, s[0].writes && s[1].writes && s[2].writes
		}
		af, at, aw := certain(a)
		bf, bt, bw := certain(b)
		if aw && bw && !c.both.Load() && af.Before(bt) && bf.Before(at) {
			t.Errorf("two databases took writes at once: h1 from %s to %s, h2 from %s to %s", af, at, bf, bt)
		}
		select {
		case <-ctx.Done():
		case <-time.After(c.within / 25):
		}
	}
}

// write begins to write, and returns what ends it.
func (c *pairClients) write(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var w sync.WaitGroup
	for i := range writers {
		k := i % len(c.vips)
		w.Go(func() {
			for ctx.Err() == nil {
				c.mu.Lock()
				c.next++
				n := c.next
				c.mu.Unlock()
				wctx, end := context.WithTimeout(context.Background(), c.within)
				_, err := c.vips[k].ExecContext(wctx, "INSERT INTO app.log VALUES (?)", n)
				end()
				if err == nil {
					c.mu.Lock()
					c.acked, c.at = append(c.acked, n), append(c.at, time.Now())
					c.by[k]++
					c.mu.Unlock()
				}
				pause := c.within / 50
				if err != nil {
					pause = c.within / 10 // it is not known whether the row is there: it does not count
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); w.Wait() })
	t.Cleanup(stop)
	return stop
}

func (c *pairClients) acknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// begun is the number of the last row whose write has begun.
func (c *pairClients) begun() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

// since is how many rows were acknowledged of those after a number.
func (c *pairClients) since(n int64) (rows int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.acked {
		if a > n {
			rows++
		}
	}
	return rows
}

// through is how many rows were acknowledged through each address.
func (c *pairClients) through() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.by)
}

// more waits until so many more rows were acknowledged, and one through each address.
func (c *pairClients) more(t testing.TB, n int) {
	t.Helper()
	want, before := c.acknowledged()+n, c.through()
	all := func() bool {
		for k, now := range c.through() {
			if now == before[k] {
				return false
			}
		}
		return c.acknowledged() >= want
	}
	ctx, cancel := waiting(t)
	defer cancel()
	for ; !all(); time.Sleep(20 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%d rows more were not acknowledged: through each address %d, before %d", n, c.through(), before)
		}
	}
}

// gap is the longest time after a moment for which no row was acknowledged.
func (c *pairClients) gap(from time.Time) (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := from
	for _, at := range c.at {
		if at.After(from) {
			longest = max(longest, at.Sub(last))
			last = at
		}
	}
	return longest
}

// check fails for rows that were acknowledged and are not on a node. One that takes writes has all
// of them; one that replicates has received them, and may yet be applying the last.
func (c *pairClients) check(t testing.TB, host string) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	for ; ; time.Sleep(c.within) {
		there, readOnly, err := c.rows(t.Context(), host)
		c.mu.Lock()
		missing := slices.DeleteFunc(slices.Clone(c.acked), func(id int64) bool {
			_, ok := slices.BinarySearch(there, id)
			return ok
		})
		c.mu.Unlock()
		switch {
		case err == nil && len(missing) == 0:
			return
		case err == nil && !readOnly, err == nil && ctx.Err() != nil:
			t.Errorf("%d rows were acknowledged and are not on %s: %v", len(missing), host, missing)
			return
		case ctx.Err() != nil:
			t.Fatalf("the rows on %s: %v", host, err)
		}
	}
}

// rows are those of a node, in order. It was read only before, when it says so.
func (c *pairClients) rows(ctx context.Context, host string) (all []int64, readOnly bool, err error) {
	if err := c.node[host].QueryRowContext(ctx, "SELECT @@read_only").Scan(&readOnly); err != nil {
		return nil, false, err
	}
	rows, err := c.node[host].QueryContext(ctx, "SELECT id FROM app.log ORDER BY id")
	if err != nil {
		return nil, readOnly, err
	}
	for rows.Next() && err == nil {
		var id int64
		err = rows.Scan(&id)
		all = append(all, id)
	}
	return all, readOnly, errors.Join(err, rows.Err(), rows.Close())
}

func (c *pairClients) count(host string) (n int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.within)
	defer cancel()
	return n, c.node[host].QueryRowContext(ctx, "SELECT COUNT(*) FROM app.log").Scan(&n)
}

// span is the median with the least and the most.
func span(all []time.Duration) string {
	all = slices.Sorted(slices.Values(all))
	round := func(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }
	return fmt.Sprintf("%s s (%s to %s)", round(all[len(all)/2]), round(all[0]), round(all[len(all)-1]))
}
