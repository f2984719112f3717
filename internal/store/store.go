// Package store is the port to a strongly consistent key-value store with
// revisions: linearizable reads, compare-and-write transactions and watches.
// It has no leases and no locks on purpose: liveness is counted in renewals
// that go through consensus (docs/adr/0003), and ownership is a record.
//
// Implementations: etcdstore (etcd) and storetest (memory, with faults). Both
// pass storetest.Contract.
package store

import (
	"context"
	"errors"
	"strings"
)

// KV is one key with its value and revisions.
type KV struct {
	Key       string
	Value     []byte
	CreateRev int64 // revision of the transaction that created the key
	ModRev    int64 // revision of the transaction that last changed it
}

// Cmp is a condition of a transaction: the key's revision must be Rev; 0 means
// that the key does not exist.
type Cmp struct {
	Key    string
	Rev    int64
	Create bool // compare the create revision instead of the last change
}

// Op is one write of a transaction. A nil Value deletes the key.
type Op struct {
	Key   string
	Value []byte
}

// Change is one change of a key, as a watch delivers it. All changes of one
// transaction have the same Rev.
type Change struct {
	KV      KV // for a deletion only Key and ModRev are set
	Deleted bool
}

// Batch is what a watch delivers at once: changes in order. Rev is the store's
// revision up to which the watcher has seen everything.
type Batch struct {
	Rev     int64
	Changes []Change
}

// Errors. Every error of an implementation wraps exactly one of them.
var (
	// ErrRetry: certainly not applied; a later attempt may succeed.
	ErrRetry = errors.New("store not available")
	// ErrUnknown: the transaction may or may not have been, or may yet be, applied.
	ErrUnknown = errors.New("outcome unknown")
	// ErrCompacted: a watch's start revision is gone; list again.
	ErrCompacted = errors.New("revision compacted")
	// ErrDefinite: it can not succeed as asked (bad request, no space, denied, wrong cluster).
	ErrDefinite = errors.New("refused by the store")
)

// Said is the text of an error without the words of the code that has tried a write.
func Said(text string) string {
	return strings.NewReplacer("transaction: "+ErrUnknown.Error(), "the store did not acknowledge a write", "transaction: ", "").Replace(text)
}

type staleKey struct{}

// Stale marks a context of reads whose answer may be old: one member gives what it knows, also without a quorum. They are for
// people; nothing may be decided by them, and a transaction is refused (ErrDefinite).
func Stale(ctx context.Context) context.Context { return context.WithValue(ctx, staleKey{}, true) }

// IsStale reports whether a context is so marked.
func IsStale(ctx context.Context) bool { return ctx.Value(staleKey{}) != nil }

// Store is a connection to the store. All methods may be used concurrently;
// each obeys the deadline of its context.
type Store interface {
	// Get reads one key, linearizably. ok is false when it does not exist.
	Get(ctx context.Context, key string) (kv KV, ok bool, err error)
	// List reads all keys with the prefix at one revision, linearizably, in key order.
	List(ctx context.Context, prefix string) (kvs []KV, rev int64, err error)
	// Txn applies all ops when every condition holds, else none. ok says which. On
	// success every changed key has ModRev rev.
	Txn(ctx context.Context, conds []Cmp, ops []Op) (rev int64, ok bool, err error)
	// Watch delivers every change of keys with the prefix from revision from on.
	// The channel closes when ctx ends or the watch breaks; then Watch again. Err
	// of the returned Watcher tells why. A slow reader delays, never loses.
	Watch(ctx context.Context, prefix string, from int64) Watcher
	// Close ends the connection.
	Close() error
}

// Watcher is a running watch.
type Watcher interface {
	C() <-chan Batch
	Err() error // valid after C closed; nil when ctx ended
}
