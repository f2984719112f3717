// Command testsum counts what `go test -json` reports.
//
//	go test -json ./... | testsum -into FILE    show the run, append its counts
//	testsum -total FILE                         print the sum of all runs
//
// While it reads it prints one line for each package, and the whole output of
// what failed. The last line of -total is "N passed, N failed, N skipped";
// skipped tests are listed with their reasons before it. The exit code is 1 when
// something failed or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is a line of `go test -json`.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
}

// counts are what one run adds to the file.
type counts struct {
	Passed  int
	Failed  []string // names
	Skipped []string // names with reasons
}

func main() {
	into := flag.String("into", "", "append the counts of the run on standard input to `FILE`")
	total := flag.String("total", "", "print the sum of the runs in `FILE`")
	flag.Parse()
	ok, err := false, errors.New("want -into or -total")
	switch {
	case *into != "":
		ok, err = record(os.Stdin, os.Stdout, *into)
	case *total != "":
		ok, err = sum(os.Stdout, *total)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// record reads a run. A line that is no event is output of the build.
func record(in io.Reader, out io.Writer, file string) (bool, error) {
	var c counts
	output := map[string][]string{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(out, line)
			} else {
				c.take(out, e, output)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, err
		}
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	err = json.NewEncoder(f).Encode(c)
	return len(c.Failed) == 0, errors.Join(err, f.Close())
}

func (c *counts) take(out io.Writer, e event, output map[string][]string) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "output":
		output[key] = append(output[key], e.Output)
	case "pass":
		if e.Test != "" {
			c.Passed++
		} else {
			fmt.Fprintf(out, "ok    %s %.1fs\n", e.Package, e.Elapsed)
		}
	case "skip":
		if e.Test != "" {
			c.Skipped = append(c.Skipped, key+": "+reason(output[key]))
		}
	case "fail":
		fmt.Fprint(out, strings.Join(output[key], ""))
		if e.Test != "" || len(c.Failed) == 0 {
			c.Failed = append(c.Failed, strings.TrimSpace(key))
		}
		if e.Test == "" {
			fmt.Fprintf(out, "FAIL  %s %.1fs\n", e.Package, e.Elapsed)
		}
	}
	if e.Action != "output" {
		delete(output, key)
	}
}

// reason is what a skipped test said.
func reason(output []string) string {
	for _, l := range output {
		if l = strings.TrimSpace(l); !strings.HasPrefix(l, "---") && !strings.HasPrefix(l, "===") {
			return l
		}
	}
	return "no reason given"
}

func sum(out io.Writer, file string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var all counts
	for d := json.NewDecoder(f); ; {
		var c counts
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return false, err
		}
		all.Passed += c.Passed
		all.Failed = append(all.Failed, c.Failed...)
		all.Skipped = append(all.Skipped, c.Skipped...)
	}
	for _, s := range all.Skipped {
		fmt.Fprintln(out, "skipped:", s)
	}
	for _, s := range all.Failed {
		fmt.Fprintln(out, "failed:", s)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", all.Passed, len(all.Failed), len(all.Skipped))
	return len(all.Failed) == 0 && all.Passed > 0, nil
}
