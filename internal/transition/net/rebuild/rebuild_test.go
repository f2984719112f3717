package rebuild

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"holdfast/internal/fail"
	"holdfast/internal/testbed/try"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/nettest"
)

// portsEnv is a variable that has how many ports TestRebuild creates, instead of 24.
const portsEnv = "HOLDFAST_NET_PORTS"

// aWhile is a context that ends after what 2,000 ports may take on a slow machine.
func aWhile(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func silent(Progress) {}

func database(s *nettest.Server) Database { return Database{DSN: s.DB.DSN(), Name: s.Name} }

// two are servers with a MariaDB server in common.
func two(t *testing.T) (rig *aligntest.Rig, a, b *nettest.Server) {
	rig = nettest.MariaDB(t)
	of := func(testing.TB) *aligntest.Rig { return rig }
	return rig, nettest.Start(t, of, "neutron_a", true), nettest.Start(t, of, "neutron_b", true)
}

// TestRebuild: what was applied to a real Neutron is what its API tells, what is exported
// there is applied to another one, and there is equal; applied again it changes nothing, and
// no reading leaves a default security group of somebody's.
func TestRebuild(t *testing.T) {
	rig, a, b := two(t)
	ports := 24
	if s := os.Getenv(portsEnv); s != "" {
		var err error
		ports, err = strconv.Atoi(s)
		try.Must(t, err)
	}
	ctx := aWhile(t)
	d := nettest.Platform(min(50, max(1, ports/4)), ports)
	try.Must(t, d.Check("platform"))
	r, err := Apply(ctx, d, a.Endpoint(), database(a), 4, false, silent)
	if err != nil {
		t.Fatalf("%v\n%s", err, a.Log())
	}
	t.Logf("%d ports applied in %.1f s", r.Created["port"], r.Seconds)
	if r.Created["port"] != ports || r.Equal != 0 {
		t.Errorf("created %v, %d were there: want %d ports and none", r.Created, r.Equal, ports)
	}
	file := filepath.Join(t.TempDir(), "net.json")
	if _, err := Export(ctx, a.Endpoint(), file); err != nil {
		t.Fatal(err)
	}
	old, err := Read(file)
	try.Must(t, err)
	if same, err := net.Diff(d, old); err != nil || len(same) > 0 {
		t.Fatalf("exported differs from what was applied: %v, %v", err, same)
	}
	if _, err := Apply(ctx, old, b.Endpoint(), database(b), 4, false, silent); err != nil {
		t.Fatalf("%v\n%s", err, b.Log())
	}
	before := rig.SQL("SELECT * FROM neutron_b.standardattributes ORDER BY id")
	r, err = Apply(ctx, old, b.Endpoint(), database(b), 4, false, silent)
	try.Must(t, err)
	if len(r.Created) > 0 {
		t.Errorf("applied again, it created %v", r.Created)
	}
	if rig.SQL("SELECT * FROM neutron_b.standardattributes ORDER BY id") != before {
		t.Error("applied again, it changed rows of the database")
	}
	if got := rig.SQL("SELECT project_id FROM neutron_b.default_security_group ORDER BY 1"); got != "00000000000000000000000000000005\n00000000000000000000000000000006" {
		t.Errorf("default security groups are of the projects\n%s\nwant the document's two only", got)
	}
	// Something differs, something is missing, something is too much.
	rig.SQL("UPDATE neutron_b.ports SET device_id = 'other' WHERE id = '" + d.Ports[3].ID + "'")
	left, err := Verify(ctx, old, b.Endpoint())
	try.Must(t, err)
	if len(left) != 1 || left[0].Kind != "port" || left[0].Field != "device_id" || left[0].ID != d.Ports[3].ID || string(left[0].New) != `"other"` {
		t.Errorf("verify of a changed port: %+v", left)
	}
	var e *fail.Error
	if _, err := Apply(ctx, old, b.Endpoint(), database(b), 4, false, silent); !errors.As(err, &e) || e.Kind != fail.Refused {
		t.Errorf("apply on a target that differs: %v, want it refused", err)
	}
}

// TestStockNeutron: without the extension, apply says what is to be installed, and writes nothing.
func TestStockNeutron(t *testing.T) {
	s := nettest.Start(t, nettest.MariaDB, "neutron", false)
	_, err := Apply(try.Context(t), nettest.Platform(1, 1), s.Endpoint(), database(s), 4, false, silent)
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Refused || e.Remedy == "" {
		t.Fatalf("apply: %v, want it refused with a remedy", err)
	}
	if n := s.DB.SQL("SELECT (SELECT COUNT(*) FROM neutron.agents) + (SELECT COUNT(*) FROM neutron.default_security_group)"); n != "0" {
		t.Errorf("%s rows were written", n)
	}
}
