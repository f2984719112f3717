package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Scenario is a simulation in text form, one statement a line, `#` begins a
// comment:
//
//	hosts h1 h2 h3     the members, in the order of the configuration
//	seed 7             random delays; without it every delay is fixed
//	clock h1 1.01      any command: done before the hosts get their power
//	at 10s power h1 off
//	expect two-hosts   the rule that must be found broken (for mutants)
//	end 60s
type Scenario struct {
	Hosts  []string
	Seed   uint64 // 0: fixed delays
	Steps  []Step
	Expect string // the rule that is broken, "" for none
	End    time.Duration
}

// Step is one command with its moment; Before says that it comes before power.
type Step struct {
	At     time.Duration
	Before bool
	Words  []string
}

// Parse reads a scenario. Errors name the line.
func Parse(text string) (Scenario, error) {
	var s Scenario
	table := commands()
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if err := s.parse(table, words); err != nil {
			return Scenario{}, fmt.Errorf("scenario line %d: %w", i+1, err)
		}
	}
	if len(s.Hosts) == 0 || s.End == 0 {
		return Scenario{}, fmt.Errorf("scenario: `hosts NAME...` and `end TIME` are missing")
	}
	slices.SortStableFunc(s.Steps, func(a, b Step) int { return int(a.At - b.At) })
	return s, nil
}

func (s *Scenario) parse(table map[string]command, words []string) (err error) {
	args := words[1:]
	switch words[0] {
	case "hosts":
		s.Hosts = args
		if len(args) == 0 || len(args) > 9 {
			err = fmt.Errorf("want 1 to 9 hosts")
		}
		return err
	case "seed", "end", "expect":
		if len(args) != 1 {
			return fmt.Errorf("want %s VALUE", words[0])
		}
	}
	switch words[0] {
	case "seed":
		s.Seed, err = strconv.ParseUint(args[0], 10, 64)
	case "end":
		s.End, err = time.ParseDuration(args[0])
	case "expect":
		s.Expect = args[0]
	case "at":
		if len(args) < 2 {
			return fmt.Errorf("want at TIME COMMAND")
		}
		step := Step{Words: args[1:]}
		if step.At, err = time.ParseDuration(args[0]); err == nil {
			err = checkCommand(table, step.Words)
		}
		s.Steps = append(s.Steps, step)
	default:
		err = checkCommand(table, words)
		s.Steps = append(s.Steps, Step{Before: true, Words: words})
	}
	return err
}

// String gives the text that Parse reads.
func (s Scenario) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "hosts %s\n", strings.Join(s.Hosts, " "))
	if s.Seed != 0 {
		fmt.Fprintf(&b, "seed %d\n", s.Seed)
	}
	for _, st := range s.Steps {
		if !st.Before {
			fmt.Fprintf(&b, "at %s ", st.At)
		}
		fmt.Fprintln(&b, strings.Join(st.Words, " "))
	}
	if s.Expect != "" {
		fmt.Fprintf(&b, "expect %s\n", s.Expect)
	}
	fmt.Fprintf(&b, "end %s\n", s.End)
	return b.String()
}

// Result is what a run showed.
type Result struct {
	Steps      int64 // events of the simulated world
	Lines      []Line
	Violations []Violation
	Outage     time.Duration // the longest time without a guest that was wanted and could run
	Fenced     int           // hosts that a fence device switched off
	False      int           // of them, those that were healthy
}

// Run carries a scenario out. With trace, Lines hold every action too. An error
// means that a command could not be understood.
func Run(s Scenario, trace bool) (Result, error) {
	w := newWorld(s.Hosts)
	w.tracing = trace
	if s.Seed != 0 {
		w.rng = rand.New(rand.NewPCG(s.Seed, 0))
	}
	table := commands()
	var failed error
	do := func(st Step) {
		if trace {
			w.lines = append(w.lines, Line{time.Duration(w.now), "", "# " + strings.Join(st.Words, " ")})
		}
		if err := table[st.Words[0]].run(w, st.Words[1:]); err != nil && failed == nil {
			failed = fmt.Errorf("at %s %s: %w", st.At, strings.Join(st.Words, " "), err)
			w.ended = true
		}
	}
	for _, st := range s.Steps {
		if st.Before {
			do(st)
		} else {
			w.queue.push(int64(st.At), func() { do(st) })
		}
	}
	for _, h := range w.hosts {
		// The agents of a new cluster start within its first second.
		h.boot(w.between(0, time.Second))
	}
	w.run(s.End)
	if failed != nil {
		return Result{}, failed
	}
	return Result{w.steps, w.lines, w.check.found, w.check.down.longest, w.fences.all, w.fences.healthy}, nil
}
