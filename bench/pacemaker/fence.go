package pacemaker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// order is one line of the fence agent's log.
type order struct {
	at   time.Time
	what string // request, confirmed, failed
	host string // that is switched off
}

// orders reads the log of the fence agents of all hosts.
func (c *Cluster) orders() ([]order, error) {
	raw, err := os.ReadFile(filepath.Join(c.lab.SharedPath(), fenceLog))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no host was ever fenced
	}
	if err != nil {
		return nil, fmt.Errorf("read the fence agents' log: %w", err)
	}
	return parseOrders(string(raw))
}

func parseOrders(text string) ([]order, error) {
	var all []order
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("read the fence agents' log: line %q: want time, word and host", line)
		}
		sec, frac, _ := strings.Cut(f[0], ".")
		s, err1 := strconv.ParseInt(sec, 10, 64)
		us, err2 := strconv.ParseInt(frac, 10, 64)
		if err := errors.Join(err1, err2); err != nil || len(frac) != 6 {
			return nil, fmt.Errorf("read the fence agents' log: line %q: time in seconds and microseconds: %w", line, err)
		}
		all = append(all, order{at: time.Unix(s, us*1000), what: f[1], host: f[2]})
	}
	return all, nil
}

// Fenced is how many orders to switch a host off the cluster has given since Up,
// whatever came of them.
func (c *Cluster) Fenced() (int, error) {
	all, err := c.orders()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, o := range all {
		if o.what == "request" {
			n++
		}
	}
	return n, nil
}

// firstOrder is when a word was first noted of a host since a moment, zero if it
// was not.
func firstOrder(all []order, since time.Time, what, host string) time.Time {
	for _, o := range all {
		if o.what == what && o.host == host && !o.at.Before(since) {
			return o.at
		}
	}
	return time.Time{}
}
