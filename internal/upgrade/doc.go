// Package upgrade is the vocabulary of upgrades: what a bundle says of itself
// (its manifest) and the rules a manifest must keep. It is pure: no I/O, no
// clock. Package bundle reads and writes the files.
package upgrade
