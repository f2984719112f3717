package etcdstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"google.golang.org/protobuf/proto"
)

// root is above the keys of every Holdfast cluster: /holdfast/CLUSTER/...
const root = "/holdfast/"

// content is what a database of etcd holds.
type content struct {
	index    uint64         // of the last raft entry in it
	revision int64          // the newest
	keys     int            // that exist, of everybody
	clusters map[string]int // Holdfast clusters, by the number of their keys
}

// readDatabase reads a database of etcd from its first page to its last, without
// changing it. Any damage that the file itself shows is an error. The database
// must not be open in another process.
func readDatabase(file string) (c content, err error) {
	// A damaged page leads the library anywhere, also outside of the file.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read %s: %v", file, r)
		}
	}()
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return c, fmt.Errorf("open %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bolt.Tx) error {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("it has %d bytes of %d", info.Size(), tx.Size())
		}
		// Our own walk comes first: the library's check reads in a goroutine of its
		// own, whose panics nobody can recover.
		if c, err = walk(tx); err != nil {
			return err
		}
		var all []error
		for err := range tx.Check() {
			all = append(all, err)
		}
		return errors.Join(all...)
	})
	if err != nil {
		return c, fmt.Errorf("read %s: %w", file, err)
	}
	return c, nil
}

// walk touches every key and value once.
func walk(tx *bolt.Tx) (content, error) {
	c := content{clusters: map[string]int{}}
	live := map[string]bool{}
	err := tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			switch {
			case string(name) == string(schema.Key.Name()):
				return c.note(live, k, v)
			case string(name) == string(schema.Meta.Name()) && string(k) == string(schema.MetaConsistentIndexKeyName):
				if len(v) != 8 {
					return fmt.Errorf("the index of the last entry has %d bytes", len(v))
				}
				c.index = binary.BigEndian.Uint64(v)
			}
			return nil
		})
	})
	c.keys = len(live)
	for key := range live {
		if rest, ours := strings.CutPrefix(key, root); ours {
			if name, _, ok := strings.Cut(rest, "/"); ok {
				c.clusters[name]++
			}
		}
	}
	return c, err
}

// note looks at one change of a key.
func (c *content) note(live map[string]bool, k, v []byte) error {
	rev := mvcc.BytesToRev(k) // panics when it is none; readDatabase recovers
	if rev.Main < c.revision {
		return fmt.Errorf("revision %d comes after %d", rev.Main, c.revision)
	}
	c.revision = rev.Main
	if len(v) == 0 {
		return nil // a restore leaves one, to raise the revision
	}
	var kv mvccpb.KeyValue
	if err := proto.Unmarshal(v, &kv); err != nil {
		return fmt.Errorf("decode the change at revision %d: %w", rev.Main, err)
	}
	if mvcc.IsTombstone(k) {
		delete(live, string(kv.Key))
	} else {
		live[string(kv.Key)] = true
	}
	return nil
}
