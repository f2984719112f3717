package verify

import "time"

// tellEvery is the least time between two tellings.
const tellEvery = time.Second / 2

// begin notes that work on a table begins. end notes its end, and gives back its error: the last one of all its chunks ends
// the table, unless one has failed.
func (v *verifier) begin(t *table) (end func(error) error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t.open++
	t.at.Running = true
	v.tell()
	return func(err error) error {
		v.mu.Lock()
		defer v.mu.Unlock()
		if err != nil {
			return err
		}
		if t.open--; t.open == 0 {
			t.at.Running, t.at.Done = false, true
		}
		v.tell()
		return nil
	}
}

// looked counts a check.
func (v *verifier) looked(holds bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done++
	if !holds {
		v.broken++
	}
	v.tell()
}

// tell tells how far it is. v.mu is held.
func (v *verifier) tell() {
	now := time.Now()
	if v.opt.Progress == nil || v.last == "" || now.Sub(v.told) < tellEvery {
		return
	}
	v.told = now
	p := Progress{Table: v.last, Rows: v.rows, Checks: v.all, Looked: v.done, Broken: v.broken, Tables: make([]Standing, 0, len(v.tables))}
	for _, t := range v.tables {
		p.Tables = append(p.Tables, t.at)
	}
	v.opt.Progress(p)
}
