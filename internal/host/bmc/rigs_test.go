package bmc

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	ipmibmc "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/hal/mock"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/server"
	"github.com/bougou/go-ipmi/pkg/transport/udp"
	"github.com/bougou/go-ipmi/pkg/types"

	"holdfast/testbed/try"
)

// rig is a device with its machine.
type rig struct {
	*machine
	o Options
	// viewer may look but not switch; "" when the device knows no such account.
	viewer string
	// silent: the device does not tell the machine's UUID.
	silent bool
	suite  int // ipmi: the one that must be found
}

// kind is one of the kinds of devices.
type kind struct {
	name string
	make func(*testing.T) rig
}

// others are programs of others.
var others = []kind{{"ipmi_sim", ipmiSim}, {"pyghmi", pyghmi}}

// rigs are the devices that the contract is checked on each time.
var rigs = []kind{
	{"go-ipmi suite 17", func(t *testing.T) rig { return goIPMI(t, machineID, 17) }},
	{"go-ipmi suite 3 without GUID", func(t *testing.T) rig { return goIPMI(t, "", 3) }},
	{"redfish sessions", func(t *testing.T) rig { return standIn(t, nil) }},
	{"redfish basic", func(t *testing.T) rig { return standIn(t, func(s *redfish) { s.noSessions = true }) }},
}

// freePort gives a UDP port of the loopback that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
}

// untilUp waits until a device answers, or its process has ended.
func untilUp(t *testing.T, o Options, ended <-chan struct{}) {
	t.Helper()
	d := device(t, o)
	try.Until(t, "the device to come up", func() bool {
		_, err := d.Check(within(t, 10*time.Second))
		select {
		case <-ended:
			t.Fatalf("the device's process has ended; last answer: %v", err)
		default:
		}
		return err == nil
	})
}

func ipmiSim(t *testing.T) rig {
	missing(t, "openipmi", "ipmi_sim")
	m := newMachine(t)
	socket := m.serve()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), freePort(t)
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	auths := ""
	for _, level := range []string{"callback", "user", "operator", "admin"} {
		auths += "    allowed_auths_" + level + " none md2 md5 straight\n"
	}
	write(t, filepath.Join(dir, "lan.conf"), fmt.Sprintf(`name "test"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 %s
    priv_limit admin
%s    guid %s
  endlan
  chassis_control "%s"
  startnow false
  user 1 false "" "" user 10 none md2 md5 straight
  user 2 true "admin" "%s" operator 10 none md2 md5 straight
`, port, auths, strings.ReplaceAll(machineID, "-", ""), program, rightPassword))
	write(t, filepath.Join(dir, "sim.emu"), `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
sel_enable 0x20 1000 0x0a
mc_enable 0x20
`)
	// A program with the race detector would sleep a second at its end.
	ended := run(t, []string{socketEnv + "=" + socket, "GORACE=atexit_sleep_ms=0"}, dir, "ipmi_sim", "-c", "lan.conf",
		"-f", "sim.emu", "-s", "state", "-n")
	// No viewer: ipmi_sim 2.0.33 gives every account any privilege that it asks for.
	r := rig{machine: m, suite: 3, o: ipmiOptions(t, "127.0.0.1:"+port)}
	untilUp(t, r.o, ended)
	return r
}

func pyghmi(t *testing.T) rig {
	const python = "/usr/bin/python3" // the one that Debian's packages are for
	missing(t, "python3-pyghmi", python, "-c", "import pyghmi.ipmi.bmc")
	m := newMachine(t)
	port := freePort(t)
	ended := run(t, nil, "", python, "testdata/pyghmi_bmc.py", "127.0.0.1", port, "admin", rightPassword, m.serve())
	r := rig{machine: m, suite: 3, silent: true, o: ipmiOptions(t, "127.0.0.1:"+port)}
	untilUp(t, r.o, ended)
	return r
}

func ipmiOptions(t *testing.T, addr string) Options {
	return Options{Type: "ipmi", Address: addr, User: "admin", PasswordFile: secret(t, rightPassword), Machine: machineID}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// power is a machine behind go-ipmi's server.
type power struct {
	mock.Chassis
	m *machine
}

func (c *power) PowerState(context.Context) (bool, error)        { return c.m.state(), nil }
func (c *power) SetPower(_ context.Context, on bool) error       { return c.m.order(on) }
func (c *power) PowerCycle(context.Context) error                { panic("never ordered") }
func (c *power) ColdReset(context.Context) error                 { panic("never ordered") }
func (c *power) IntrusionState(_ context.Context) (bool, error)  { return false, hal.ErrNotSupported }
func (c *power) WarmReset(context.Context) error                 { panic("never ordered") }
func (c *power) Identify(_ context.Context, seconds uint8) error { return nil }

type hardware struct {
	*mock.HAL
	c *power
}

func (h hardware) Chassis() hal.ChassisHAL { return h.c }

// goIPMI is the server of the library itself, with one cipher suite. It tells
// the UUID guid, in the order of RFC 4122; "" leaves the command out. quirk is around its
// commands.
func goIPMI(t *testing.T, guid string, suite int, quirk ...handlers.Middleware) rig {
	m := newMachine(t)
	b := ipmibmc.New(ipmibmc.DeviceInfo{DeviceID: 32, IPMIVersion: 0x20}, [16]byte{1}, hardware{mock.New(), &power{m: m}})
	for i, u := range []struct {
		name, password string
		level          ipmibmc.PrivilegeLevel
	}{{"admin", rightPassword, ipmibmc.PrivilegeLevelOperator}, {"viewer", viewPassword, ipmibmc.PrivilegeLevelUser}} {
		x, err := b.Users.Add(uint8(2+i), u.name)
		if err != nil {
			t.Fatal(err)
		}
		x.SetPassword([]byte(u.password))
		x.Enabled = true
		x.ChannelAccess[1] = ipmibmc.UserChannelAccess{MaxPrivilege: u.level, Enabled: true}
	}
	reg := handlers.NewRegistry()
	for _, q := range quirk {
		reg.Use(q)
	}
	handlers.RegisterAllHandlers(reg)
	if guid != "" {
		raw, err := parseUUID(guid)
		if err != nil {
			t.Fatal(err)
		}
		reg.RegisterFunc(types.CommandGetSystemGUID, func(context.Context, *handlers.HandlerContext, []byte) ([]byte,
			types.CompletionCode, error) {
			return raw[:], types.CodeOK, nil
		})
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := server.NewServer(b, udp.Wrap(conn), server.WithHandlerRegistry(reg),
		server.WithCipherSuites([]types.CipherSuiteID{types.CipherSuiteID(suite)}))
	var served sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	served.Go(func() { _ = s.Serve(ctx) }) // ends with Close
	t.Cleanup(func() {
		cancel()
		_ = s.Close()
		served.Wait()
	})
	return rig{machine: m, viewer: "viewer", suite: suite, silent: guid == "", o: ipmiOptions(t, conn.LocalAddr().String())}
}
