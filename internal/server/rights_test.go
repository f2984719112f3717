package server

import (
	"context"
	"crypto/tls"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/fail"
	"holdfast/internal/server/servertest"
	"holdfast/internal/store"
)

// TestAGuestHostIsNoOperator: with the certificate of a host that runs guests only
// nobody stops the management VM, nor says of a host that it is off.
func TestAGuestHostIsNoOperator(t *testing.T) {
	ca := servertest.NewAuthority(t)
	fake := servertest.New(servertest.Three(testTime()))
	ready := make(chan string, 1)
	known := true
	s, err := New(fake, Options{
		Socket: filepath.Join(shortDir(t), "s"), Listen: "127.0.0.1:0", Log: servertest.ListenLog(func(at string) { ready <- at }),
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
		Guests: func(name string) (bool, error) {
			if !known {
				return false, store.ErrRetry
			}
			return name == "g1", nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s)
	addr := <-ready
	as := func(name string) *api.Client {
		return dial(t, "https://"+addr, api.ClientTLS(ca.PeerCert(t, name), ca.Pool))
	}
	thief := as("g1")
	wantKind(t, thief.Stop(limited(t), true, ""), fail.Denied, "g1 is a host that runs guests only")
	wantKind(t, thief.ConfirmOff(limited(t), "node2", ""), fail.Denied, "g1 is a host that runs guests only")
	if _, err := thief.Version(limited(t)); err != nil {
		t.Errorf("what only tells: %v", err)
	}
	known = false
	wantKind(t, as("g1").Stop(limited(t), true, ""), fail.Unavailable, "not known yet")
	if got := fake.Users(); len(got) != 0 {
		t.Errorf("it was obeyed: %q", got)
	}
	known = true
	for _, name := range []string{"node2", "admin"} {
		if err := as(name).Stop(limited(t), true, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryProcedureIsSorted: a new one is the operators' until somebody has thought
// about it, and what changes the cluster stays theirs.
func TestEveryProcedureIsSorted(t *testing.T) {
	g := &gate{guests: func(string) (bool, error) { return true, nil }}
	for _, p := range []string{
		apiv1connect.ClusterServiceStartProcedure, apiv1connect.ClusterServiceMigrateProcedure, apiv1connect.ClusterServiceSetMaintenanceProcedure,
		apiv1connect.ClusterServiceBackUpStoreProcedure, apiv1connect.JobServiceDrainHostProcedure, apiv1connect.JobServiceForgetHostProcedure,
		apiv1connect.JobServiceCommandJobProcedure, apiv1connect.UpgradeServicePutBundleProcedure, apiv1connect.UpgradeServiceRunUpgradeProcedure,
		apiv1connect.UpgradeServiceAdmitHostProcedure, "/holdfast.v1.NewService/New",
	} {
		var e *fail.Error
		if _, err := g.limit(t.Context(), peer{user: "g1"}, p); !errors.As(err, &e) || e.Kind != fail.Denied || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v", p, err)
		}
		if _, err := g.limit(t.Context(), peer{user: "root", pid: 7}, p); err != nil {
			t.Errorf("%s of root of this host: %v", p, err)
		}
	}
	ctx, err := g.limit(t.Context(), peer{user: "g1"}, apiv1connect.UpgradeServiceSendGuestProcedure)
	if err != nil || mayHave(ctx, "g1") != nil || mayHave(ctx, "g2") == nil || mayHave(context.Background(), "g2") != nil {
		t.Errorf("guests are sent to the host that asks: %v", err)
	}
}
