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
	"strings"
	"time"
)

//go:embed nova_reads.py
var script string

// Nova has Nova's objects (Xena and later) read guests, by their UUIDs, or all when none are
// given, and what they need: flavors, aggregates, hosts, services. conf is a nova.conf with
// the new databases' connections, python an interpreter that finds Nova's code. faults are
// what was wrong, each beginning with what it is about; document is all that was read, in
// the JSON of nova_reads.py. Nothing is written.
//
// An error is that nothing could be read: python or Nova is not there, or the database.
func Nova(ctx context.Context, python, conf string, guests ...string) (faults []string, document []byte, err error) {
	cmd := exec.CommandContext(ctx, python, append([]string{"-", conf}, guests...)...)
	cmd.WaitDelay = 5 * time.Second
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &out, &said
	ended := cmd.Run()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	var told struct {
		Faults []string `json:"faults"`
	}
	if err := json.Unmarshal(out.Bytes(), &told); err != nil {
		return nil, nil, fmt.Errorf("%s with Nova's code and %s: %w: %s", python, conf, cmp.Or(ended, err), last(said.String()))
	}
	return told.Faults, out.Bytes(), nil
}

// last is the last line of a text: of Python's errors the one that says what it is.
func last(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
