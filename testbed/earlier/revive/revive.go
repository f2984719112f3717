// Package revive runs a member of the store, as it is today, on the backups of package
// earlier.
package revive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/testbed/earlier"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// Store restores the backup of a moment as the program does, runs a member of the store
// on it until the test ends, and returns a client of it. One runs at a time. That takes a second, which short runs do not have.
func Store(t testing.TB, m earlier.Moment) store.Store {
	t.Helper()
	need.Seconds(t)
	for n := 1; ; n++ {
		peer, client := "http://"+FreeAddr(t), "http://"+FreeAddr(t)
		c := etcdstore.MemberConfig{
			Name: "h1", Cluster: earlier.Cluster, DataDir: filepath.Join(t.TempDir(), "store"), Initial: map[string]string{"h1": peer}, LogLevel: "error",
			ListenPeer: peer, PeerURL: peer, ListenClient: client, ClientURL: client,
		}
		err := etcdstore.Restore(try.Context(t), etcdstore.RestoreOptions{File: earlier.Snapshot(t, m), Config: c})
		var st store.Store
		if err == nil {
			st, err = Serve(t, c)
		}
		switch {
		case err == nil:
			return st
		case n == tries || !strings.Contains(err.Error(), "address already in use"):
			t.Fatal(err)
		}
	}
}

// tries bounds how often other addresses are tried when another program has taken one.
const tries = 5

// Run runs a member of the store until the test ends, and returns a client of it.
func Run(t testing.TB, c etcdstore.MemberConfig) store.Store {
	t.Helper()
	st, err := Serve(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// Serve is Run for a member that may not start, such as one whose address another program
// has taken meanwhile.
func Serve(t testing.TB, c etcdstore.MemberConfig) (store.Store, error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- etcdstore.RunMember(ctx, c) }()
	st, err := etcdstore.Open(etcdstore.Options{Endpoints: []string{c.ClientURL}, Prefix: "/holdfast/" + earlier.Cluster + "/", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		stop()
		return nil, errors.Join(err, <-done)
	}
	served := make(chan error, 1)
	wait, cancel := context.WithCancel(try.Context(t))
	defer cancel()
	go func() {
		_, _, err := st.List(wait, "")
		served <- err
	}()
	select {
	case err = <-done: // it has not started
		cancel()
		<-served
		stop()
		return nil, errors.Join(fmt.Errorf("the member of the store: %w", err), st.Close())
	case err = <-served:
	}
	if err != nil {
		stop()
		return nil, errors.Join(fmt.Errorf("the member of the store does not serve: %w", err), <-done, st.Close())
	}
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, st.Close()); err != nil {
			t.Errorf("the member of the store: %v", err)
		}
	})
	return st, nil
}

// List gives the records below a prefix.
func List(t testing.TB, st store.Store, prefix string) []store.KV {
	t.Helper()
	kvs, _, err := st.List(try.Context(t), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return kvs
}

// FreeAddr is an address that nobody listens at just now.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
