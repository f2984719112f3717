// Package revive runs a member of the store, as it is today, on the backups of package
// earlier.
package revive

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/internal/testbed/earlier"
	"holdfast/internal/testbed/slack"
)

// Store restores the backup of a moment as the program does, runs a member of the store
// on it until the test ends, and returns a client of it. One runs at a time.
func Store(t testing.TB, m earlier.Moment) store.Store {
	t.Helper()
	peer, client := "http://"+FreeAddr(t), "http://"+FreeAddr(t)
	c := etcdstore.MemberConfig{
		Name: "h1", Cluster: earlier.Cluster, DataDir: filepath.Join(t.TempDir(), "store"), Initial: map[string]string{"h1": peer}, LogLevel: "error",
		ListenPeer: peer, PeerURL: peer, ListenClient: client, ClientURL: client,
	}
	ctx, cancel := context.WithTimeout(t.Context(), slack.For(time.Minute))
	defer cancel()
	if err := etcdstore.Restore(ctx, etcdstore.RestoreOptions{File: earlier.Snapshot(t, m), Config: c}); err != nil {
		t.Fatal(err)
	}
	return Run(t, c)
}

// Run runs a member of the store until the test ends, and returns a client of it.
func Run(t testing.TB, c etcdstore.MemberConfig) store.Store {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- etcdstore.RunMember(ctx, c) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the member of the store: %v", err)
		}
	})
	st, err := etcdstore.Open(etcdstore.Options{Endpoints: []string{c.ClientURL}, Prefix: "/holdfast/" + earlier.Cluster + "/", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	wait, cancel := context.WithTimeout(t.Context(), slack.For(time.Minute))
	defer cancel()
	if _, _, err := st.List(wait, ""); err != nil {
		t.Fatalf("the member of the store does not serve: %v", err)
	}
	return st
}

// List gives the records below a prefix.
func List(t testing.TB, st store.Store, prefix string) []store.KV {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), slack.For(10*time.Second))
	defer cancel()
	kvs, _, err := st.List(ctx, prefix)
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
