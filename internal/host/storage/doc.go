// Package storage finds out whether the directory that all hosts share answers on
// this one. A dead file server blocks whoever touches it, beyond any signal, so
// each probe is a process of its own that may be left behind.
package storage
