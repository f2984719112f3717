// Package order is what package mutants and the program that searches tell each
// other.
package order

import "holdfast/testbed/sim/explore"

// Order is what to look for.
type Order struct {
	Rules  []string         // of the invariants, those by which a violation counts
	Focus  string           // of random scenarios
	Runs   int              // random scenarios, at most; 0: none
	Search *explore.Options // of the search of all courses; nil: none
}

// Result says what was found, "" for nothing.
type Result struct {
	Random string
	Search string
}
