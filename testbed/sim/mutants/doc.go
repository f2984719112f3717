// Package mutants puts bugs into the source on purpose and looks whether they are
// found. A bug is a patch of the core (package ha) or of a duty that the program
// around it has; each breaks a sentence of the safety model. The test builds the
// patched program beside the source (go build -overlay) and says how the bug must
// be found: by random scenarios, by the search of all courses, or by a test.
package mutants
