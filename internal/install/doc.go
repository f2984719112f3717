// Package install puts Holdfast on hosts over SSH, and takes it off again.
//
// An installation is no job of the job engine: it makes the store that the
// engine needs. In its place it converges (docs/adr/0033): what is there is read
// from the hosts at the beginning, what differs is replaced, and what a run has
// not confirmed is taken back by the hosts themselves when the connection ends.
//
// On each host the program that installs runs once more, as "holdfast on-host"
// (package onhost). It answers requests, one line of JSON each: see Request.
// This package decides: what is asked, what the answers mean, what goes where.
package install
