// Package access knows who may use the console and the API without a certificate: users with a password and a role, tokens
// of programs, and the sessions of browsers. Their records are in the store, below access/, where only members see them;
// each agent follows them, so that a request costs no read, and who is removed is out on all hosts within a second.
//
//	access/user/NAME      User
//	access/token/ID       Token
//	access/session/DIGEST a session of a browser, by the SHA-256 of its cookie
//
// Without a quorum an agent goes on by what it knows: who was let in before may still look, and can change nothing, as
// every change needs the store.
package access
