// Package readback lets the new platform's own code read rows that were aligned: what it
// can not read, or reads although it is wrong, no comparison of rows tells.
package readback

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"holdfast/internal/lib/proc"
)

//go:embed nova_reads.py
var script string

// Nova is where Nova's code is, Xena's or a later one.
type Nova struct {
	Python  string   // an interpreter that finds Nova's code
	Conf    string   // a nova.conf with the addresses of the databases
	Without []string // tables that are not filled yet: nova_api.host_mappings, nova.compute_nodes
}

// All stands for all guests, deleted ones too, which should be few: they are in memory
// together, and each takes some 20 ms.
const All = "--all"

// Reading is what was read.
type Reading struct {
	Faults    []string `json:"faults"`    // what is wrong, each beginning with what it is about
	Servers   []string `json:"servers"`   // that Nova asked, as they call themselves: HOST:PORT
	Databases []string `json:"databases"` // of them
	Document  []byte   `json:"-"`         // all of it, the JSON of nova_reads.py
}

// Read has Nova's objects read guests, by their UUIDs, and what they need: flavors,
// aggregates, hosts, services. Nothing is written. An error is that nothing could be read:
// Python or Nova is not there, or a database does not answer.
func (n Nova) Read(ctx context.Context, guests ...string) (*Reading, error) {
	args := []string{"-", n.Conf}
	for _, table := range n.Without {
		args = append(args, "--without="+table)
	}
	cmd := exec.CommandContext(ctx, n.Python, append(args, guests...)...)
	cmd.WaitDelay = 5 * time.Second
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &out, &said
	ended := cmd.Run()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	r := &Reading{Document: out.Bytes()}
	if err := json.Unmarshal(r.Document, r); err != nil {
		return nil, fmt.Errorf("--nova-python %s with --nova-conf %s: %w", n.Python, n.Conf,
			proc.Told(cmp.Or(ended, err), secret(last(said.String()))))
	}
	for i, f := range r.Faults {
		r.Faults[i] = secret(f)
	}
	return r, nil
}

// last is the last line of a text: of Python's errors the one that says what it is.
func last(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// secret takes users and passwords out of addresses.
func secret(text string) string { return account.ReplaceAllString(text, "***@") }

var account = regexp.MustCompile(`[^\s'"/:@]+:[^\s'"@]+@`)
