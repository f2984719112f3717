// Package check is a library of named checks for an upgrade, and the report of
// what they found. A check is pure: it looks at the bundle's manifest, the
// inventory and the facts that the hosts have told, and says what is wrong and
// what to do about it. Only the writers of reports do I/O.
//
// The planner (package upgrade, rules.go) judges a part of this, too, before there
// is a run: white list, mixed versions, hosts that are down, space, commands, single
// paths, busy and large guests, policies of guests, room for guests. Of these rules
// it is the source: what it blocks is a Fail here, what it warns of is a Warn here.
//
// A fact that a host could not tell is a finding, never a silent ok; and so is a
// host that has told nothing.
package check
