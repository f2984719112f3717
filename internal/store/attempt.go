package store

import "errors"

// Attempt is one write that a caller of limited rights asks a store for. Rules about
// it are pure functions beside the keys that they are about (docs/adr/0026).
type Attempt struct {
	Host    string // who asks, by its certificate
	Key     string
	Value   []byte // nil: the key is to be deleted
	Looked  bool   // what follows is known
	Old     []byte // what is there; nil: nothing
	Guarded bool   // the write is applied only if Old is still there then
}

// Errors of rules about attempts.
var (
	// ErrLook: the rule wants to know what is there, and to be asked again.
	ErrLook = errors.New("whether it is allowed depends on what is stored there")
	// ErrNotYours: the key, or what it holds or would hold, is not the host's own.
	ErrNotYours = errors.New("the key or value is not this host's own")
)
