// Package setup makes a pair of the node on which it runs and another one: what is said of the pair becomes a
// configuration, the checks of package survey go by it, and an installation places it. Command line and console
// ask, and tell of it; neither the beginning nor the copy of the data is its part, which the agents do.
//
// An error about what was said begins with the flag of "holdfast pair setup" that says it, as in "--vip: value ...".
package setup
