// Package storage finds out again and again whether the storage that all hosts
// share answers on this one. What a check is, its user says; the check of a
// directory is here. A dead file server blocks whoever touches it, beyond any
// signal, so that one is a process of its own that may be left behind.
package storage
