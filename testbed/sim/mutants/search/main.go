// Command search looks for violations with the core that it was built with. Package
// mutants builds it with bugs in the source. It reads an order.Order as JSON from
// standard input and writes an
// order.Result.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"holdfast/testbed/sim"
	"holdfast/testbed/sim/explore"
	"holdfast/testbed/sim/mutants/search/order"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "search:", err)
		os.Exit(1)
	}
}

func run() error {
	var o order.Order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	var r order.Result
	if o.Runs > 0 {
		seed, v, err := sim.Hunt(o.Focus, o.Rules, o.Runs)
		if err != nil {
			return err
		}
		if seed != 0 {
			r.Random = fmt.Sprintf("seed %d: %s: %s", seed, v.Rule, v.Detail)
		}
	}
	if o.Search != nil {
		x, err := explore.Run(context.Background(), *o.Search)
		if err != nil {
			return err
		}
		for _, v := range x.Violations {
			if r.Search == "" && slices.Contains(o.Rules, v.Rule) {
				r.Search = fmt.Sprintf("depth %d, %d states: %s: %s", x.Depth, x.States, v.Rule, v.Detail)
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
