// Package support makes archives of what people need who help from afar, without secrets.
//
// A part of an archive is got beside others, within a time and a size. One that can not be
// had, or hangs, is named in the archive's index with the reason, and fails nothing.
// Secrets are removed from each part as a whole, before anything of it is cut: those that
// are known (the content of the files that settings refer to), and what looks like one.
// It has no policy about what belongs into an archive.
//
// What looks like a secret:
//
//   - The value of a name with a secret's word in it (password, token, api_key) or at its end
//     (DBPASS, rootpw, psk), whatever stands between them: = : := => 是 or a column of a table.
//     Names that say where a secret is, or what it is like (password_file), have none.
//   - A value in quotes or brackets ends where these do. Without them it goes on to the end of the
//     line, or of the text in quotes around it, unless another name with its value follows.
//   - The lines below a name whose value is not in its line: a block or a list in YAML, several
//     lines of JSON. They are indented more than the name, or are a list's.
//   - Arguments of programs: a table of flags, in a line and in a list.
//   - Addresses with user:password@ and user/password@host:port, and users of https addresses.
//   - Hashes of passwords, private keys, and tokens that begin with who has issued them.
//   - SQL, settings of two words, sentences (password for root: ...), and what is written to the
//     standard input of passwd, sudo -S and their like.
//
// In doubt the rest of a line is removed. Texts within JSON and XML are looked at, too.
package support
