// Package check is a library of named checks for an upgrade, and the report of
// what they found. A check is pure: it looks at the bundle's manifest, the
// inventory and the facts that the hosts have told, and says what is wrong and
// what to do about it. Only the writers of reports do I/O.
//
// A fact that a host could not tell is a finding, never a silent ok; and so is a
// host that has told nothing.
package check
