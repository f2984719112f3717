package engine

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"

	"holdfast/internal/store"
)

// fate is what happens at a point of interest of an agent: a write to the store, or
// an effect of an Executor on the world.
type fate int

const (
	passes fate = iota
	endsBefore
	endsAfter
	// The agent ends, and is elected again when it coordinated.
	endsBeforeStays
	endsAfterStays
	// The agent ends, and once more soon after its return.
	endsBeforeTwice
	endsAfterTwice
	// The agent lives, and does not learn what became of its write. The effect of a
	// Executor has no answer of its own: it is lost when the agent ends after it.
	replyLost
	requestLost // the same, and the write never arrives
	fates
)

func (f fate) String() string {
	return [...]string{
		"passes", "ends before it", "ends after it", "ends before it, and coordinates again", "ends after it, and coordinates again",
		"ends before it, twice", "ends after it, twice", "gets no answer", "gets no answer, and nothing is written",
	}[f]
}

// ends reports whether the agent ends.
func (f fate) ends() bool { return f >= endsBefore && f <= endsAfterTwice }

// happens reports whether what was to happen at the point does.
func (f fate) happens() bool {
	return f == passes || f == endsAfter || f == endsAfterStays || f == endsAfterTwice || f == replyLost
}

// bomb gives an agent's process its fate at one of its points of interest.
type bomb struct {
	mu    sync.Mutex
	at    int // the first point for the fate, counts from 1; 0: never
	fate  fate
	names []string
	terse bool // the names of points are not wanted
	gone  bool // it went off
	blow  func(fate)
	// choose, if there is one, tells the fate at a point in place of at. took is nil
	// when it is to pass, and false when the fate was given to another point meanwhile.
	choose func(p *process, name string, write bool) (f fate, took func() bool)
}

// point passes a point of interest: do is what happens there. false: the process
// is dead, and do was done only when it died after it.
func (p *process) point(name string, do func()) bool {
	return p.meet(func() string { return name }, false, do) == passes
}

// meet passes a point of interest. The fate of what is dead already is endsBefore.
func (p *process) meet(name func() string, write bool, do func()) fate {
	p.mu.Lock()
	dead := p.dead
	p.mu.Unlock()
	if dead {
		return endsBefore
	}
	b, what := p.m.bomb, ""
	f, took := passes, func() bool { return true }
	if b.choose != nil || !b.terse {
		what = name()
	}
	if b.choose != nil {
		f, took = b.choose(p, what, write)
	}
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return endsBefore
	}
	b.mu.Lock()
	b.names = append(b.names, what)
	switch {
	case b.at > 0 && len(b.names) >= b.at && !b.gone && possible(b.fate, write, true):
		f, b.gone = b.fate, true // an effect in the place of a write has no answer to lose: the next write does
	case f != passes && !took():
		f = passes
	}
	b.gone = b.gone || f != passes
	p.dead = f.ends()
	b.mu.Unlock()
	p.mu.Unlock()
	if f.happens() {
		do()
	}
	if f.ends() {
		b.blow(f)
	}
	return f
}

// isWrite reports whether a point's name is that of a write to the store.
func isWrite(name string) bool { return strings.HasPrefix(name, keyAll) }

// nameOf tells what a transaction writes: what is the same in each course, so no
// times and no names of processes. Of one that writes records of steps it tells those.
func nameOf(ops []store.Op) string {
	var steps, others []string
	for _, op := range ops {
		switch text := field(op.Value, "state"); {
		case strings.HasPrefix(op.Key, keyStep):
			steps = append(steps, fmt.Sprintf("%s=%s%s %s", op.Key, text, field(op.Value, "attempt"), field(op.Value, "note")))
		case strings.HasPrefix(op.Key, keyRun):
			_, data, _ := bytes.Cut(op.Value, []byte(`"data":`))
			data, _, _ = bytes.Cut(data, []byte(`,"began":`))
			others = append(others, fmt.Sprintf("%s=%s %s", op.Key, text, digest(data)))
		case strings.HasPrefix(op.Key, keyTodo):
			others = append(others, op.Key+"="+text)
		default:
			others = append(others, fmt.Sprintf("%s=%s", op.Key, digest(op.Value)))
		}
	}
	if len(steps) > 0 {
		others = nil
	}
	return strings.Join(append(steps, others...), " ")
}

func digest(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	h := fnv.New32a()
	h.Write(b) // never fails
	return fmt.Sprintf("%08x", h.Sum32())
}

// field is the text of a field of a record, without reading all of it: "" when there
// is none.
func field(value []byte, name string) string {
	_, after, ok := bytes.Cut(value, []byte(`"`+name+`":`))
	if !ok {
		return ""
	}
	if end := bytes.IndexAny(after, ",}"); end >= 0 {
		after = after[:end]
	}
	return strings.Trim(string(after), `"`)
}
