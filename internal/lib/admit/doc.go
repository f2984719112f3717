// Package admit is a listener that lets clients in which prove themselves by certificates. It makes the handshakes
// itself: who is not verified has little time and memory, and makes room for newer ones. Who is verified counts for a
// name, and a connection has its place until it is closed. The bounds, whose a certificate is, and whether it still
// counts are its user's.
package admit
