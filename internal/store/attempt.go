package store

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// Attempt is one write that a caller of limited rights asks a store for. Rules about
// it are pure functions beside the keys that they are about (docs/adr/0026).
type Attempt struct {
	Host    string // who asks, by its certificate
	Key     string
	Value   []byte            // nil: the key is to be deleted
	With    map[string][]byte // what the same transaction puts, by key
	Looked  bool              // what follows is known
	Old     []byte            // what is there; nil: nothing
	Guarded bool              // the write is applied only if Old is still there then
	// There has what is stored at the other keys that the rule has asked for by Beside.
	There map[string][]KV
}

// Rate bounds how often one caller of limited rights writes keys of a kind.
type Rate struct {
	Prefix string
	Every  time.Duration // one more each
	Burst  int           // at once
	// Most are the keys of the kind that one writer may have at a time; 0: no such bound.
	Most   int
	Writer func(KV) (host string, known bool) // of what is stored; with Most
}

// NeedsKey is the error of a rule that wants to know what is stored at another key, or with a "/"
// at its end at all keys that begin so, and to be asked again.
type NeedsKey string

func (b NeedsKey) Error() string { return "whether it is allowed depends on " + string(b) }

// Read gives what is stored at another key, or below one that ends with "/"; the error is a Beside
// while that is not known.
func (a Attempt) Read(key string) ([]KV, error) {
	kvs, known := a.There[key]
	if !known {
		return nil, NeedsKey(key)
	}
	return kvs, nil
}

// Within refuses a value of more than max bytes.
func (a Attempt) Within(max int) error {
	if len(a.Value) > max {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, len(a.Value), max)
	}
	return nil
}

// Errors of rules about attempts.
var (
	// ErrLook: the rule wants to know what is there, and to be asked again.
	ErrLook = errors.New("whether it is allowed depends on what is stored there")
	// ErrNotYours: the key, or what it holds or would hold, is not the host's own.
	ErrNotYours = errors.New("the key or value is not this host's own")
	// ErrTooLarge: the value has more bytes than a host may write there.
	ErrTooLarge = errors.New("the value is too large")
	// ErrForm: the value is not what is written there.
	ErrForm = errors.New("the value is not of the form that is written there")
)

// maxBeside is how many times a rule may ask for other keys about one write: the most asks for
// what two hosts have to do, some steps of each, and a report.
const maxBeside = 16

// Judge puts a write to a rule, which is told what is there as far as it asks: look completes
// the attempt, there reads other keys, as a Beside names them. void: the write will not be made,
// whatever the rule says. refused is why the rule forbids it; err is of look and there.
func Judge(a Attempt, rule func(Attempt) error, look func(*Attempt) (void bool, err error),
	there func(key string) (kvs []KV, void bool, err error)) (void bool, refused, err error) {
	for {
		refused := rule(a)
		var beside NeedsKey
		switch {
		case errors.Is(refused, ErrLook) && !a.Looked:
			if void, err := look(&a); err != nil || void {
				return void, nil, err
			}
			a.Looked = true
		case errors.As(refused, &beside) && len(a.There) < maxBeside:
			kvs, void, err := there(string(beside))
			if err != nil || void {
				return void, nil, err
			}
			known := map[string][]KV{string(beside): kvs}
			maps.Copy(known, a.There)
			a.There = known
		default:
			return false, refused, nil
		}
	}
}
