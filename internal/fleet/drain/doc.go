// Package drain empties this host and takes in guests that other hosts send. A guest that
// moves live arrives standing still; the host that it leaves writes before the move what it
// carries, and afterwards what has become of it (Sender), and the host to which it came acts
// on that (Receiver). So no guest runs on two hosts, and none is forgotten, whichever agent
// dies when. See docs/adr/0021.
package drain
