// Package backup is what stands between a change and the way back: providers
// that back something up, look whether the backup is good, restore it and delete
// it again. Each provider is a package below this one; what they share is here.
//
// A backup is there when its receipt is: the receipt is written last, in one
// step, after everything else is on disk. What an earlier process left without a
// receipt is partial, and the next attempt begins anew. While a process works on
// a backup it holds a lock that its child processes inherit, so that an attempt
// after a crash waits for what its predecessor has begun and is still running.
//
// Rollback may be offered only when Verify accepts the receipt.
package backup
