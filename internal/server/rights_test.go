package server

import (
	"context"
	"crypto/tls"
	"errors"
	"path/filepath"
	"testing"

	"holdfast/internal/api"
	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
	"holdfast/internal/store"
	"holdfast/testbed/try"
)

// TestRightsByCertificate: with the certificate of a host that runs guests only nobody
// stops the management VM, nor says of a host that it is off. With an operator's nobody
// calls what agents ask of each other.
func TestRightsByCertificate(t *testing.T) {
	ca := servertest.NewAuthority(t)
	fake, agents := servertest.New(servertest.Three(testTime())), newUpgrades()
	ready := make(chan string, 1)
	known := true
	socket := filepath.Join(try.ShortDir(t), "s")
	s, err := New(fake, Options{
		Socket: socket, Listen: "127.0.0.1:0", Log: servertest.ListenLog(func(at string) { ready <- at }),
		TLS:    &tls.Config{Certificates: []tls.Certificate{ca.PeerCert(t, "node1")}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS13},
		Agents: agents, Certificates: agents,
		Hosts: func(name string) (bool, bool, error) {
			if !known {
				return false, false, store.ErrRetry
			}
			return name != "admin", name == "g1", nil
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
	wantKind(t, thief.Stop(try.Context(t), true, ""), fail.Denied, "g1 is a host that runs guests only")
	wantKind(t, thief.ConfirmOff(try.Context(t), "node2", ""), fail.Denied, "g1 is a host that runs guests only")
	if _, err := thief.Version(try.Context(t)); err != nil {
		t.Errorf("what only tells: %v", err)
	}
	known = false
	wantKind(t, as("g1").Stop(try.Context(t), true, ""), fail.Unavailable, "not known yet")
	if got := fake.Users(); len(got) != 0 {
		t.Errorf("it was obeyed: %q", got)
	}
	known = true
	for _, name := range []string{"node2", "admin"} {
		if err := as(name).Stop(try.Context(t), true, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	for _, name := range []string{"node2", "g1"} {
		c := as(name)
		if err := c.SendGuest(try.Context(t), "u1", "vm1", cluster.HostID(name), ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Facts are told by programs that the caller names.
	if _, err := as("node2").GatherFacts(try.Context(t), fact.Wanted{}); err != nil {
		t.Error(err)
	}
	_, err = thief.GatherFacts(try.Context(t), fact.Wanted{Request: fact.Request{Status: &fact.Program{Run: []string{"/bin/true"}}}})
	wantKind(t, err, fail.Denied, "g1 is a host that runs guests only")
	// A certificate is signed for who shows one, whoever is meant.
	for _, name := range []string{"node2", "g1"} {
		if got, err := as(name).SignCertificate(try.Context(t), "agent", []byte("for node1")); err != nil ||
			string(got) != "agent of "+name+": for node1" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	_, err = thief.RenewCertificates(try.Context(t), "node2")
	wantKind(t, err, fail.Denied, "g1 is a host that runs guests only")
	if all, err := as("node2").RenewCertificates(try.Context(t), "node1"); err != nil || len(all) != 1 || all[0].Serial != "5eed9" {
		t.Errorf("%+v, %v", all, err)
	}
	_, err = dial(t, "unix:"+socket, nil).SignCertificate(try.Context(t), "agent", nil)
	wantKind(t, err, fail.Denied, "over TLS")
	operator := as("admin")
	_, err = operator.SignCertificate(try.Context(t), "agent", nil)
	wantKind(t, err, fail.Denied, "admin is no host of this cluster")
	_, err = operator.GatherFacts(try.Context(t), fact.Wanted{})
	wantKind(t, err, fail.Denied, "admin is no host of this cluster")
	_, _, err = operator.GetBundle(try.Context(t), "any", 0)
	wantKind(t, err, fail.Denied, "only the agents of hosts may call")
	wantKind(t, operator.SendGuest(try.Context(t), "u1", "vm1", "node2", ""), fail.Denied, "admin is no host of this cluster")
	wantKind(t, as("g1").SendGuest(try.Context(t), "u1", "vm1", "node2", ""), fail.Denied, "for itself, not for node2")
	wantKind(t, as("g1").SendGuest(try.Context(t), "u2", "vm2", "g1", ""), fail.Denied, "no job has host g1 bring guest u2 back")
	known = false
	_, err = as("node2").SignCertificate(try.Context(t), "agent", nil)
	wantKind(t, err, fail.Unavailable, "not known yet")
	wantKind(t, as("g1").SendGuest(try.Context(t), "u1", "vm1", "node2", ""), fail.Denied, "for itself, not for node2")
	if got := agents.Sent(); len(got) != 2 {
		t.Errorf("guests were sent: %q", got)
	}
}

// TestEveryProcedureIsSorted: a procedure has the right that is listed here, and one that
// nobody has thought about is the admins'.
func TestEveryProcedureIsSorted(t *testing.T) {
	const member, guestHost, operator, unknown = "n1", "g1", "admin", "u1"
	hosts := func(name string) (host, guestsOnly bool, err error) {
		if name == unknown {
			err = store.ErrRetry
		}
		return name != operator, name == guestHost, err
	}
	callers := map[right]map[string]fail.Kind{ // of those that are refused: why
		ofAdmins:    {guestHost: fail.Denied, unknown: fail.Unavailable},
		ofOperators: {guestHost: fail.Denied, unknown: fail.Unavailable},
		ofAll:       {},
		ofAgents:    {operator: fail.Denied},
		ofHosts:     {operator: fail.Denied, unknown: fail.Unavailable},
		ofMembers:   {guestHost: fail.Denied, operator: fail.Denied, unknown: fail.Unavailable},
	}
	check := func(procedure string, of right) {
		t.Helper()
		for _, name := range []string{member, guestHost, operator, unknown} {
			_, err := limit(t.Context(), hosts, peer{user: name}, procedure)
			var e *fail.Error
			if want := callers[of][name]; want == "" && err != nil || want != "" && (!errors.As(err, &e) || e.Kind != want) {
				t.Errorf("%s, called by %s: %v", procedure, name, err)
			}
		}
		for _, role := range cluster.Roles {
			need, some := map[right]cluster.Role{ofAll: cluster.Viewer, ofOperators: cluster.Operator, ofAdmins: cluster.Admin}[of]
			_, err := limit(t.Context(), hosts, peer{user: "alice", role: role}, procedure)
			var e *fail.Error
			if may := some && role.May(need); may != (err == nil) || !may && (!errors.As(err, &e) || e.Kind != fail.Denied) {
				t.Errorf("%s, called by a user who is %s: %v", procedure, role, err)
			}
		}
		if _, err := limit(t.Context(), hosts, peer{user: "root", pid: 7}, procedure); err != nil {
			t.Errorf("%s, called by root of this host: %v", procedure, err)
		}
	}
	all := map[string]bool{}
	for _, file := range api.Files {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				procedure := "/" + string(s.FullName()) + "/" + string(s.Methods().Get(j).Name())
				all[procedure] = true
				of, listed := rights[procedure]
				if !listed {
					t.Errorf("%s is not sorted", procedure)
				}
				if (s.Name() == "AgentService") != (of == ofAgents || of == ofHosts || of == ofMembers) {
					t.Errorf("%s: what agents call is a service of its own", procedure)
				}
				check(procedure, of)
			}
		}
	}
	for procedure := range rights {
		if !all[procedure] {
			t.Errorf("%s is not in the API", procedure)
		}
	}
	for _, p := range []string{
		apiv1connect.ClusterServiceStartProcedure, apiv1connect.ClusterServiceStopProcedure, apiv1connect.ClusterServiceMigrateProcedure,
		apiv1connect.ClusterServiceConfirmOffProcedure, apiv1connect.ClusterServiceSetMaintenanceProcedure,
		apiv1connect.JobServiceDrainHostProcedure, apiv1connect.JobServiceForgetHostProcedure, apiv1connect.JobServiceCommandJobProcedure,
		apiv1connect.UpgradeServicePutBundleProcedure, apiv1connect.UpgradeServiceRunUpgradeProcedure,
		apiv1connect.UpgradeServiceAdmitHostProcedure,
	} {
		check(p, ofOperators)
	}
	for _, p := range []string{
		apiv1connect.ClusterServiceBackUpStoreProcedure, apiv1connect.ClusterServiceImportConfigProcedure,
		apiv1connect.ClusterServiceResetPasswordProcedure, apiv1connect.AccessServiceSetUserProcedure,
		apiv1connect.AccessServiceCreateTokenProcedure, "/holdfast.v1.NewService/New",
	} {
		check(p, ofAdmins)
	}
	ctx, err := limit(t.Context(), hosts, peer{user: guestHost}, apiv1connect.AgentServiceSendGuestProcedure)
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[cluster.HostID]bool{guestHost: true, member: false} {
		if limited, err := mayHave(ctx, to); !limited || (err == nil) != want {
			t.Errorf("a guest for %s: limited %v, %v", to, limited, err)
		}
	}
	if limited, err := mayHave(context.Background(), member); limited || err != nil {
		t.Errorf("a guest that a member has sent: limited %v, %v", limited, err)
	}
}
