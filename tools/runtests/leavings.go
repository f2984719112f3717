package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
)

// runVar is the environment variable by which tools/leftovers knows processes of this run.
const runVar = "HOLDFAST_TEST_RUN"

// beforeFile is what was on the machine before the tests.
const beforeFile = "out/before.json"

// snapshot writes down what is on the machine.
func snapshot(ctx context.Context) error {
	if err := os.Setenv(runVar, strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "out/leftovers", "snapshot", beforeFile).CombinedOutput(); err != nil {
		return fmt.Errorf("what is on the machine: %w: %s", err, out)
	}
	return nil
}

// leavings adds what is on the machine and was not at the snapshot, each a failed test.
func leavings(ctx context.Context, out io.Writer, c *counts) error {
	left, err := reported(exec.CommandContext(ctx, "out/leftovers", "compare", beforeFile), out, nil, func(string, string, float64) {})
	if err != nil {
		return err
	}
	c.add(left)
	return nil
}
