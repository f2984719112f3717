package servertest

import (
	"context"
	"sync"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Notices are receivers that take every message.
type Notices struct {
	mu     sync.Mutex
	all    []cluster.Receiver
	tested []string // by whom, and whom
	err    error    // of tests
}

// Set gives the receivers, and the error of tests.
func (n *Notices) Set(err error, all ...cluster.Receiver) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all, n.err = all, err
}

// Receivers are those that were set.
func (n *Notices) Receivers(context.Context) ([]cluster.Receiver, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all, nil
}

// Test notes who has asked for it.
func (n *Notices) Test(_ context.Context, user, name string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.all {
		if r.Name == name {
			n.tested = append(n.tested, user+": "+name)
			return "200 OK: <b>taken</b>", n.err
		}
	}
	return "", fail.Errorf(fail.Invalid, "receiver %.70q: there is none", name).With("see: holdfast notify list")
}

// Tested are the tests that were asked for.
func (n *Notices) Tested() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tested
}
