// Package bench measures Holdfast against what it stands beside, in one run on
// one machine. `make bench` runs it (bench/run.sh) and writes RESULTS.md; the
// method of each figure is the comment of its test.
package bench
