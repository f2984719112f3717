// Package support makes archives of what people need who help from afar, without secrets.
//
// A part of an archive is got beside others, within a time and a size. One that can not be
// had, or hangs, is named in the archive's index with the reason, and fails nothing.
// Secrets are removed from each part as a whole, before anything of it is cut: those that
// are known (the content of the files that settings refer to), and what looks like one.
// It has no policy about what belongs into an archive.
package support
