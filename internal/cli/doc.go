// Package cli is the command line, a client of the API and of nothing else in the cluster: its root, and how the
// program runs it. The commands are in a folder per tool, which share the packages command, output and progress. What
// needs no cluster (bundles, the alignment of databases) the packages of the tools do in its process. Commands that the
// binary itself needs (the agent) are given to it. It ends with the exit codes of package api.
package cli
