//go:build bench

package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

// Times of the client of a pair.
const (
	connectLimit = 150 * time.Millisecond
	roundLimit   = 500 * time.Millisecond
	afterWrite   = 10 * time.Millisecond // between two rounds
)

// pairClient is the client of a pair: one round after another, each a page of the
// service and then a row for the database, both through the virtual address and
// each over a connection of its own. A round counts when the page came and the
// row was acknowledged.
type pairClient struct {
	lab *lab.Lab
	db  *sql.DB

	mu    sync.Mutex
	next  int64
	rows  []int64     // acknowledged
	at    []time.Time // when, in order
	inRow int         // rounds that counted since the last one that did not
}

func newPairClient(t *testing.T, l *lab.Lab) *pairClient {
	t.Helper()
	network := "pair" + l.FloatingAddr().String()
	mysql.RegisterDialContext(network, func(ctx context.Context, addr string) (net.Conn, error) { return l.Dial(ctx, "tcp", addr) })
	t.Cleanup(func() { mysql.DeregisterDialContext(network) })
	m := mysql.NewConfig()
	m.User, m.Passwd, m.Net, m.Addr = "app", "app", network, fmt.Sprintf("%s:%d", l.FloatingAddr(), lab.PairPort)
	m.Timeout, m.ReadTimeout, m.WriteTimeout, m.Logger = connectLimit, roundLimit, roundLimit, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(m)
	if err != nil {
		t.Fatal(err)
	}
	c := &pairClient{lab: l, db: sql.OpenDB(connector)}
	c.db.SetMaxIdleConns(0)
	t.Cleanup(func() {
		if err := c.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// round is one page and one row, whose number nobody has used.
func (c *pairClient) round(ctx context.Context) error {
	if _, err := c.lab.Page(ctx, c.lab.FloatingAddr(), "/", roundLimit); err != nil {
		return err
	}
	c.next++
	wctx, cancel := context.WithTimeout(ctx, roundLimit)
	defer cancel()
	_, err := c.db.ExecContext(wctx, "INSERT INTO app.log VALUES (?)", c.next)
	return err
}

// write does rounds until the returned function is called. It is not to be called twice at once.
func (c *pairClient) write() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c.mu.Lock()
	c.rows, c.at, c.inRow = nil, nil, 0
	c.mu.Unlock()
	var w sync.WaitGroup
	w.Go(func() {
		for ctx.Err() == nil {
			err := c.round(ctx)
			c.mu.Lock()
			if err == nil {
				c.rows, c.at, c.inRow = append(c.rows, c.next), append(c.at, time.Now()), c.inRow+1
			} else {
				c.inRow = 0
			}
			c.mu.Unlock()
			clock.Sleep(ctx, afterWrite)
		}
	})
	return sync.OnceFunc(func() { cancel(); w.Wait() })
}

// inARow waits until so many rounds counted after the last one that did not.
func (c *pairClient) inARow(ctx context.Context, n int) error {
	for clock.Sleep(ctx, 20*time.Millisecond) {
		c.mu.Lock()
		got := c.inRow
		c.mu.Unlock()
		if got >= n {
			return nil
		}
	}
	return fmt.Errorf("wait for %d rounds of the client in a row: %w", n, ctx.Err())
}

// gap is the longest time after a moment in which no round counted.
func (c *pairClient) gap(from time.Time) (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := from
	for _, at := range c.at {
		if at.After(from) {
			longest, last = max(longest, at.Sub(last)), at
		}
	}
	return longest
}

// lost counts rows that were acknowledged since write, and that the database does not have.
func (c *pairClient) lost(ctx context.Context) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rows) == 0 {
		return 0, errors.New("no row was acknowledged")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	all, err := c.db.QueryContext(ctx, "SELECT id FROM app.log WHERE id >= ? ORDER BY id", c.rows[0])
	if err != nil {
		return 0, err
	}
	var there []int64
	for all.Next() {
		var id int64
		if err := all.Scan(&id); err != nil {
			return 0, errors.Join(err, all.Close())
		}
		there = append(there, id)
	}
	for _, id := range c.rows {
		if _, ok := slices.BinarySearch(there, id); !ok {
			n++
		}
	}
	return n, errors.Join(all.Err(), all.Close())
}
