// Package first is the first run in the browser: pages on a host that is of no cluster yet, by which one is made, of hosts
// that keep a management VM up or of two nodes. Checks, installation and set-up are those of the command line (packages
// install and setup); one is made at a time, and it goes on when no page is open. Who has the one-time code that is shown
// where the program was started is let in.
package first
