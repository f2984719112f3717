// Package path plans upgrades over a catalogue of versions and rules. It is
// pure: no I/O, no clock. Package catalogue reads catalogues from files.
//
// New checks a Spec and makes a Catalogue of it; Plan finds the path with the
// fewest hops, then the fewest reboots, then the highest versions on the way
// (the first one first), or says which rule is in the way. The same input always
// gives the same path.
//
// A hop goes from a version to a later one: to any, or when the catalogue lists
// hops, to those only. The versions on the way are those that the catalogue
// lists. The two ends need not be listed: rules go by the order of versions.
package path
