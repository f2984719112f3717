package rebuild

import (
	"errors"
	"path/filepath"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestKeystone: with a token of a real Keystone, whose project the document does not have, all is made, read and
// exported as without; the token's project gets no security group by that.
func TestKeystone(t *testing.T) {
	need.Drill(t, "360, network: with a real Keystone, a wrong password is bad input and the token's project gets nothing")
	s, k := nettest.StartWithKeystone(t, nettest.MariaDB, "neutron_k")
	ctx := aWhile(t)
	var e *fail.Error
	d := nettest.Platform(3, 9)
	if _, err := differs(ctx, d, API{Endpoint: s.Endpoint()}, false); !errors.As(err, &e) || e.Kind != fail.Failed {
		t.Errorf("without a token: %v", err)
	}
	wrong := func(name string) string {
		if name == "OS_PASSWORD" {
			return "wrong"
		}
		return k.Env(name)
	}
	login, err := cloud.From(wrong)
	try.Must(t, err)
	if _, err := differs(ctx, d, API{s.Endpoint(), login}, false); fail.ExitCode(err) != fail.ExitInvalid {
		t.Errorf("a wrong password: %v, want bad input", err)
	}
	login, err = cloud.From(k.Env)
	try.Must(t, err)
	at := API{s.Endpoint(), login}
	r, err := Apply(ctx, d, Order{API: at, DB: database(s), Jobs: 4}, silent)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	if r.Created["port"] != 9 {
		t.Errorf("created %v: want 9 ports", r.Created)
	}
	again, err := Apply(ctx, d, Order{API: at, DB: database(s), Jobs: 4}, silent)
	if err != nil || len(again.Created) > 0 {
		t.Errorf("applied again: %+v, %v", again, err)
	}
	file := filepath.Join(t.TempDir(), "net.json")
	is, err := Export(ctx, at, file, nil)
	try.Must(t, err)
	if left, err := net.Diff(d, is); err != nil || len(left) > 0 {
		t.Errorf("exported differs from what was applied: %+v, %v", left, err)
	}
	if got := s.DB.SQL("SELECT project_id FROM neutron_k.default_security_group ORDER BY 1"); got != "00000000000000000000000000000005\n00000000000000000000000000000006" {
		t.Errorf("default security groups are of the projects\n%s\nwant the document's two only", got)
	}
}
