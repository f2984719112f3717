// Package filetree swaps a directory for another so that a crash at any point
// leaves the old one or the new one, whole.
//
// The new tree is copied beside the target, on the same file system, put on
// disk, and exchanged with the old one in one step of the kernel. Where the file
// system can not exchange, two renames do it; a crash between them leaves a gap
// that the next call of any function here closes, by the journal. The old tree
// stays beside the target until Commit; Rollback puts it back.
//
// Beside the target there are .holdfast-ID-new and .holdfast-ID-old, where ID
// belongs to the run and the target; the journal is in the run's backup directory.
package filetree
