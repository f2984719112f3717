package copier

import (
	"maps"
	"slices"
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
	Tables        []Standing    // all of the target, by name
}

// Standing is how far a table of the target is.
type Standing struct {
	Table         string
	Rows          int64         // written into it
	TableRows     int64         // of its source, as the server estimates
	Through       int64         // of the source's rows
	RowsPerSecond float64       // written in the last seconds, while it runs
	ETA           time.Duration // at this speed; 0: not known
	Running, Done bool
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
	marks    []mark // the last ones, while it runs
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
	for _, t := range slices.Sorted(maps.Keys(m.tables)) {
		c := m.tables[t]
		p.Tables = append(p.Tables, c.standing(t, at))
		p.Done, p.Total, scanned = p.Done+c.rows, p.Total+c.estimate, scanned+c.through()
		if left := c.estimate - c.through(); c.running && (left > most || left == most && t < m.shown) {
			most, m.shown = left, t
		}
	}
	if c := m.tables[m.shown]; c != nil { // also when it has just ended
		p.Table, p.Rows, p.TableRows = m.shown, c.rows, c.estimate
	}
	p.Percent = m.most.Of(scanned, p.Total)
	m.marks, p.RowsPerSecond, p.ETA = rate(m.marks, mark{at, p.Done, scanned}, p.Total)
	return p
}

// standing is how far a table is.
func (c *counts) standing(table string, at time.Time) Standing {
	s := Standing{Table: table, Rows: c.rows, TableRows: c.estimate, Through: c.through(), Running: c.running, Done: c.done}
	if !c.running || c.done {
		c.marks = nil
		return s
	}
	c.marks, s.RowsPerSecond, s.ETA = rate(c.marks, mark{at, c.rows, s.Through}, c.estimate)
	return s
}

// rate adds a mark to the last ones, and says how many rows a second they make, and how long the rest of the source's takes so.
func rate(marks []mark, now mark, total int64) (last []mark, perSecond float64, left time.Duration) {
	if marks = append(marks, now); len(marks) > window {
		marks = marks[1:]
	}
	first := marks[0]
	if took := now.at.Sub(first.at).Seconds(); took > 0 {
		perSecond = float64(now.rows-first.rows) / took
		if speed := float64(now.scanned-first.scanned) / took; speed > 0 {
			left = time.Duration(float64(total-now.scanned) / speed * float64(time.Second)).Round(time.Second)
		}
	}
	return marks, perSecond, left
}
