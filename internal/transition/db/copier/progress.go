package copier

import (
	"sync"
	"time"

	"holdfast/internal/lib/text"
)

// Progress is how far a run is.
type Progress struct {
	Table         string        // of the target: of those at which it is, that with the most left
	Rows          int64         // written into it
	TableRows     int64         // of the table of the source from which they are made, as the server estimates
	Done          int64         // rows written into all tables
	Total         int64         // TableRows of all tables together
	RowsPerSecond float64       // written in the last seconds
	Percent       float64       // of the source's rows that are through, 0 to 100: not all of them are copied
	ETA           time.Duration // at this speed; 0: not known
	Waiting       string        // why it waits; "": it does not
}

// tellEvery is the time between two tellings, and window how many of them the speed is
// taken from.
const (
	tellEvery = 500 * time.Millisecond
	window    = 20
)

// meter counts, and tells.
type meter struct {
	tell func(Progress)

	mu      sync.Mutex
	tables  map[string]*counts // by target
	shown   string             // of them
	waiting string
	marks   []mark // the last ones
	most    text.Percent[float64]
}

// counts of one table.
type counts struct {
	estimate int64 // rows of its source
	scanned  int64 // of them are in chunks that are done; the last chunk is counted as a full one
	rows     int64 // written
	done     bool
	running  bool
}

// through is scanned, as far as the estimate goes.
func (c *counts) through() int64 {
	if c.done {
		return c.estimate
	}
	return min(c.scanned, c.estimate)
}

// mark is what had been done at a time.
type mark struct {
	at            time.Time
	rows, scanned int64
}

func newMeter(tell func(Progress)) *meter {
	return &meter{tell: tell, tables: map[string]*counts{}}
}

func (m *meter) set(target string, estimate int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tables[target] = &counts{estimate: estimate}
}

// have takes over what the journal says, but of tables that are running, where what it
// says is added as it is written.
func (m *meter) have(all map[string]standing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for t, p := range all {
		c := m.tables[t]
		if c == nil || c.running {
			continue // c nil: of no table of the plan
		}
		if p.rows != c.rows {
			m.marks = nil // of an earlier run, or the target has lost some
		}
		c.rows, c.scanned, c.done = p.rows, p.scanned, p.done
	}
}

// begin says that a table is being copied, or with false, that it is not any more.
func (m *meter) begin(target string, running bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.tables[target]; c != nil {
		c.running = running
	}
}

func (m *meter) add(target string, rows, scanned int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.tables[target]; c != nil {
		c.rows += rows
		c.scanned += scanned
	}
}

func (m *meter) waits(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = why
}

// start tells from now on, until stop, which tells once more.
func (m *meter) start() (stop func()) {
	if m.tell == nil {
		return func() {}
	}
	end := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				m.tell(m.look(time.Now()))
				return
			case now := <-tick.C:
				m.tell(m.look(now))
			}
		}
	})
	return func() {
		close(end)
		wait.Wait()
	}
}

// look sums up.
func (m *meter) look(at time.Time) Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := Progress{Waiting: m.waiting}
	var scanned int64
	most := int64(-1)
	for t, c := range m.tables {
		p.Done, p.Total, scanned = p.Done+c.rows, p.Total+c.estimate, scanned+c.through()
		if left := c.estimate - c.through(); c.running && (left > most || left == most && t < m.shown) {
			most, m.shown = left, t
		}
	}
	if c := m.tables[m.shown]; c != nil { // also when it has just ended
		p.Table, p.Rows, p.TableRows = m.shown, c.rows, c.estimate
	}
	p.Percent = m.most.Of(scanned, p.Total)
	if m.marks = append(m.marks, mark{at, p.Done, scanned}); len(m.marks) > window {
		m.marks = m.marks[1:]
	}
	first := m.marks[0]
	if took := at.Sub(first.at).Seconds(); took > 0 {
		p.RowsPerSecond = float64(p.Done-first.rows) / took
		if speed := float64(scanned-first.scanned) / took; speed > 0 {
			p.ETA = time.Duration(float64(p.Total-scanned) / speed * float64(time.Second)).Round(time.Second)
		}
	}
	return p
}
