// Package transition is the whole run that brings a platform to another version: its
// databases, its network and its hosts, in stages, with checks and a person's words between
// them. It is pure: no I/O, no clock.
// See docs/adr/0060.
//
// A File says what there is to bring over. Build makes a Plan of it: steps, each a command on
// a host. Those of Holdfast are the same commands that an operator may give alone, and each
// may be given again when it was interrupted. The Planner says which step comes next; it is
// what package job's engine asks. Package steps carries the steps out.
package transition
