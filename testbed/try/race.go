//go:build race

package try

// Race reports that this is a program under the race detector, which makes all slow.
const Race = true
