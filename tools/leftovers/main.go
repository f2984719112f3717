// Command leftovers tells what a run of the tests has left on the machine.
//
//	leftovers snapshot FILE    write down what is there
//	leftovers compare FILE     print what is new, as `go test -json` would
//
// It looks at files in /srv, /etc, /var/lib, /var/tmp and /tmp, mounts, named network
// namespaces, network links, control groups and processes. Caches are not looked at.
//
// In a root made for the run (packaging/fresh.sh sets HOLDFAST_FRESH) all that is new
// fails. Elsewhere other people work at the same time: there, processes fail that
// descend from the run, which HOLDFAST_TEST_RUN in their environment tells, or whose
// program lies in this tree or in what was left; and other things fail that are named
// as this tree's sources name what they make, unless another run of such tests or
// another laboratory is on the machine. The rest is mentioned.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	root, err := os.Getwd()
	if err == nil && (len(os.Args) != 3 || os.Args[1] != "snapshot" && os.Args[1] != "compare") {
		err = errors.New("want: leftovers snapshot|compare FILE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "leftovers:", err)
		os.Exit(2)
	}
	run := run{root: root, fresh: os.Getenv("HOLDFAST_FRESH") != "", mark: os.Getenv(markVar)}
	if os.Args[1] == "snapshot" {
		if err := run.save(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "leftovers:", err)
			os.Exit(2)
		}
		return
	}
	found, err := run.compare(os.Args[2])
	if !report(os.Stdout, os.Stderr, found, err) {
		os.Exit(1)
	}
}

// markVar is the variable by which processes of a run are known.
const markVar = "HOLDFAST_TEST_RUN"

// run is a run of the tests.
type run struct {
	root  string // of the source tree
	fresh bool   // the machine is this run's alone
	mark  string // value of markVar; "" when there is none
}

func (r run) save(file string) error {
	s, err := r.look()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(file, raw, 0o644)
}

// patience is how long processes that are about to end are waited for.
const patience = 10 * time.Second

// compare finds what is new since the snapshot in file.
func (r run) compare(file string) ([]finding, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var before snapshot
	if err := json.Unmarshal(raw, &before); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	made, err := readSources(r.root)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		now, err := r.look()
		if err != nil {
			return nil, err
		}
		found := r.judge(before, now, made)
		running := false
		for _, f := range found {
			running = running || f.Kind == "processes" && f.Ours
		}
		if !running || time.Now().After(end) {
			return found, nil
		}
	}
}

// mentioned is how many things of others are printed.
const mentioned = 20

// report writes one test of each kind, in the form of `go test -json`. What is perhaps
// another's goes to notes.
func report(out, notes io.Writer, found []finding, err error) bool {
	const pkg = "leftovers"
	type event struct{ Action, Package, Test, Output string }
	w := json.NewEncoder(out)
	say := func(e event) {
		e.Package = pkg
		_ = w.Encode(e) // who reads it fails when it does not come
	}
	ok := err == nil
	if err != nil {
		say(event{Action: "output", Test: "compare", Output: err.Error() + "\n"})
		say(event{Action: "fail", Test: "compare"})
	}
	others := 0
	for _, kind := range kinds {
		if err != nil {
			break
		}
		action := "pass"
		for _, f := range found {
			switch {
			case f.Kind != kind:
			case f.Ours:
				action, ok = "fail", false
				say(event{Action: "output", Test: kind, Output: "    left: " + f.String() + "\n"})
			default:
				if others++; others <= mentioned {
					fmt.Fprintf(notes, "new, perhaps of another's work: %s: %s\n", kind, f)
				}
			}
		}
		say(event{Action: action, Test: kind})
	}
	if others > mentioned {
		fmt.Fprintf(notes, "and %d things more that are perhaps of another's work\n", others-mentioned)
	}
	end := "pass"
	if !ok {
		end = "fail"
	}
	say(event{Action: end})
	return ok
}
