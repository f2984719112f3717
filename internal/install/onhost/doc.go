// Package onhost is what an installation runs on a host: it answers the requests
// of package install, one line of JSON each, from standard input to standard
// output. It decides nothing.
//
// What it places is taken back when the installation did not confirm it: when the
// connection ends, or, after a crash of this program or of the host, by the next
// one that runs. Only one runs at a time.
package onhost
