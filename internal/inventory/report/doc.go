// Package report carries what hosts have into the store and back: each host looks at itself
// (fleet/gather) and tells it every 10 s and at changes (Reporter); whoever needs it follows what
// all have told (View). A host that runs guests only reports the same, and claims its name
// first.
package report
