package bmc

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestContract holds for every kind of device.
func TestContract(t *testing.T) { contract(t, rigs) }

// TestContractOfOtherPrograms: devices that others have made.
func TestContractOfOtherPrograms(t *testing.T) {
	need.Drill(t, "P2: the contract of devices that power off holds for ipmi_sim and pyghmi, too, which others have made")
	contract(t, others)
}

func contract(t *testing.T, rigs []kind) {
	for _, r := range rigs {
		t.Run(r.name, func(t *testing.T) {
			r := r.make(t)
			for _, c := range []struct {
				name string
				f    func(*testing.T, rig)
				can  bool // the device is able to
			}{
				{"off and on", offAndOn, true},
				{"takes the order and stays on", staysOn, true},
				{"goes off late", goesOffLate, true},
				{"refuses the order", refusesOrder, true},
				{"wrong password", wrongPassword, true},
				{"privilege too low", lowPrivilege, r.viewer != ""},
				{"of another machine", ofAnotherMachine, !r.silent},
				{"two at once", twoAtOnce, true},
				{"answers after the end", answersLate, true},
			} {
				if !c.can {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					r.reset(t)
					c.f(t, r)
				})
			}
		})
	}
}

// reset brings the machine up and its manners back, between two cases.
func (r rig) reset(t *testing.T) {
	t.Helper()
	r.set(func(m *machine) {
		m.stuck, m.refuse, m.late, m.orders, m.onState, m.onOrder = false, false, 0, nil, nil, nil
		if !m.on() {
			if err := m.start(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// fails checks an error and that its text holds the device and the step.
func fails(t *testing.T, err, want error, step string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v; want %v", err, want)
	}
	for _, other := range []error{ErrUnreachable, ErrRefused, ErrStillOn, ErrForeign} {
		if other != want && errors.Is(err, other) {
			t.Errorf("%v: is %v too", err, other)
		}
	}
	if !strings.Contains(err.Error(), "admin@") && !strings.Contains(err.Error(), "viewer@") ||
		!strings.Contains(err.Error(), ": "+step+": ") {
		t.Errorf("%q: want the device's name and the step %s", err, step)
	}
	if strings.Contains(err.Error(), rightPassword) {
		t.Errorf("%q holds the password", err)
	}
}

func offAndOn(t *testing.T, r rig) {
	d := device(t, r.o)
	noneLeft(t, func() {
		ctx := within(t, generous)
		want := Status{On: true, Machine: machineID}
		if r.silent {
			want.Machine = ""
		}
		if st, err := d.Check(ctx); err != nil || st != want {
			t.Fatalf("got %+v, %v; want %+v", st, err, want)
		}
		if err := d.Off(ctx); err != nil || r.lives() {
			t.Fatalf("off: %v, alive %v", err, r.lives())
		}
		if err := d.Off(ctx); err != nil { // of one that is off
			t.Fatal(err)
		}
		if st, err := d.Check(ctx); err != nil || st.On {
			t.Fatalf("got %+v, %v; want off", st, err)
		}
		if err := d.On(ctx); err != nil || !r.lives() {
			t.Fatalf("on: %v, alive %v", err, r.lives())
		}
	})
	if got := int(d.suite.Load()); got != r.suite {
		t.Errorf("cipher suite %d, want %d", got, r.suite)
	}
}

func staysOn(t *testing.T, r rig) {
	r.set(func(m *machine) { m.stuck = true })
	d := device(t, r.o)
	ctx := r.untilAsked(t, 3)
	noneLeft(t, func() { fails(t, d.Off(ctx), ErrStillOn, "read-back") })
	if n := r.ordered(); n < 1 || n > tries || !r.lives() {
		t.Errorf("%d orders, alive %v", n, r.lives())
	}
	fails(t, d.Off(ctx), ErrUnreachable, "connect") // the context is over
}

func goesOffLate(t *testing.T, r rig) {
	r.set(func(m *machine) { m.late = 200 * time.Millisecond })
	began := time.Now()
	err := device(t, r.o).Off(within(t, generous))
	if took := time.Since(began); err != nil || r.lives() || took < 200*time.Millisecond {
		t.Errorf("after %v: %v, alive %v", took, err, r.lives())
	}
}

func refusesOrder(t *testing.T, r rig) {
	r.set(func(m *machine) { m.refuse = true })
	fails(t, device(t, r.o).Off(within(t, generous)), ErrRefused, "order")
	if !r.lives() {
		t.Error("the machine is off")
	}
}

func wrongPassword(t *testing.T, r rig) {
	d := device(t, r.o, func(o *Options) { o.PasswordFile = secret(t, "wrong") })
	noneLeft(t, func() {
		fails(t, d.Off(within(t, generous)), ErrRefused, "connect") // its time is not over: that is another error
	})
	if r.ordered() != 0 || !r.lives() {
		t.Errorf("%d orders, alive %v", r.ordered(), r.lives())
	}
	// The file is read each time, so a new password works at once.
	if err := os.WriteFile(d.opts.PasswordFile, []byte(rightPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Check(within(t, generous)); err != nil {
		t.Error(err)
	}
}

func lowPrivilege(t *testing.T, r rig) {
	d := device(t, r.o, func(o *Options) { o.User, o.PasswordFile = r.viewer, secret(t, viewPassword) })
	step := "connect"
	if r.o.Type == "redfish" {
		step = "order" // its sessions have no privilege
	}
	fails(t, d.Off(within(t, generous)), ErrRefused, step)
	if r.ordered() != 0 || !r.lives() {
		t.Errorf("%d orders, alive %v", r.ordered(), r.lives())
	}
}

func ofAnotherMachine(t *testing.T, r rig) {
	d := device(t, r.o, func(o *Options) { o.Machine = otherID })
	fails(t, d.Off(within(t, generous)), ErrForeign, "identity")
	fails(t, d.On(within(t, generous)), ErrForeign, "identity")
	if r.ordered() != 0 || !r.lives() {
		t.Errorf("%d orders, alive %v", r.ordered(), r.lives())
	}
	st, err := d.Check(within(t, generous))
	fails(t, err, ErrForeign, "identity")
	if st.Machine == otherID || st.Machine == "" || !st.On {
		t.Errorf("got %+v", st)
	}
	if err := device(t, r.o, func(o *Options) { o.Machine = "" }).Off(within(t, generous)); err != nil || r.lives() {
		t.Errorf("machine not known: %v, alive %v", err, r.lives())
	}
}

func twoAtOnce(t *testing.T, r rig) {
	d := device(t, r.o)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := d.Off(within(t, generous)); err != nil {
				t.Error(err)
			}
			if r.lives() {
				t.Error("alive after off")
			}
		})
	}
	both.Wait()
}

// answersLate: the order is answered, and carried out, after the context's end.
func answersLate(t *testing.T, r rig) {
	d := device(t, r.o)
	if _, err := d.Check(within(t, generous)); err != nil {
		t.Fatal(err) // now the cipher suite is known
	}
	ctx, cancel := context.WithCancel(within(t, generous))
	defer cancel()
	goOn := make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	r.set(func(m *machine) {
		m.onOrder = func() {
			cancel()
			<-goOn
		}
	})
	noneLeft(t, func() {
		fails(t, d.Off(ctx), ErrUnreachable, "order")
		release()
	})
	try.Until(t, "the late order to be carried out", func() bool { return !r.lives() })
}

func TestClosedPort(t *testing.T) {
	for _, typ := range []string{"ipmi", "redfish"} {
		t.Run(typ, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0") // of UDP too nobody listens at this port
			if err != nil {
				t.Fatal(err)
			}
			addr := l.Addr().String()
			if typ == "ipmi" {
				addr = "127.0.0.1:" + freePort(t)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			d := device(t, Options{Type: typ, Address: addr, User: "admin", PasswordFile: secret(t, "x")})
			noneLeft(t, func() {
				ctx := within(t, generous)
				fails(t, d.Off(ctx), ErrUnreachable, "connect")
				if ctx.Err() != nil {
					t.Error("it waited for the end of its time")
				}
			})
		})
	}
}

// TestBlackHole: somebody takes what is sent and never answers.
func TestBlackHole(t *testing.T) {
	for _, typ := range []string{"ipmi", "redfish"} {
		t.Run(typ, func(t *testing.T) {
			d := device(t, Options{Type: typ, Address: hole(t, typ), User: "admin", PasswordFile: secret(t, "x")})
			noneLeft(t, func() {
				fails(t, d.Off(within(t, 100*time.Millisecond)), ErrUnreachable, "connect") // it returns: nobody answers ever
			})
		})
	}
}

// hole is the address of a black hole.
func hole(t *testing.T, typ string) string {
	t.Helper()
	if typ == "ipmi" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c.LocalAddr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody reads
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestChain(t *testing.T) {
	r := standIn(t, nil)
	options := Options{Type: "ipmi", Address: "127.0.0.1:" + freePort(t), User: "admin", PasswordFile: secret(t, "x")}
	closed := device(t, options)
	dead := device(t, options, func(o *Options) { o.Address = hole(t, "ipmi") })
	good := device(t, r.o)
	foreign := device(t, r.o, func(o *Options) { o.Machine = otherID })

	name, err := Chain{closed, foreign}.Off(within(t, generous))
	if name != "" || !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrForeign) || !r.lives() {
		t.Errorf("got %q, %v, alive %v; want both errors", name, err, r.lives())
	}
	name, err = Chain{dead, good, foreign}.Off(within(t, 4500*time.Millisecond)) // 1.5 s for the dead one
	if err != nil || name != good.Name() || r.lives() {
		t.Errorf("got %q, %v, alive %v; want %q", name, err, r.lives(), good.Name())
	}
	if name, err := (Chain{}).Off(t.Context()); err == nil || name != "" {
		t.Errorf("no devices: got %q, %v", name, err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Chain{good}).Off(over); !errors.Is(err, context.Canceled) {
		t.Errorf("context is over: got %v", err)
	}
}

// TestShownOff: what one device shows is the proof, and those behind it are not asked.
func TestShownOff(t *testing.T) {
	r := standIn(t, nil)
	good := device(t, r.o)
	foreign := device(t, r.o, func(o *Options) { o.Machine = otherID })
	never, err := net.ListenPacket("udp", "127.0.0.1:0")
	try.Must(t, err)
	defer never.Close()
	last := device(t, r.o, func(o *Options) { o.Address = never.LocalAddr().String() })

	if err := (Chain{good}).ShownOff(within(t, generous)); err == nil || !strings.Contains(err.Error(), "the host is on") {
		t.Errorf("of one that is on: %v", err)
	}
	try.Must(t, good.Off(within(t, generous)))
	try.Must(t, Chain{foreign, good, last}.ShownOff(within(t, generous)))
	own, err := net.Dial("udp", never.LocalAddr().String())
	try.Must(t, err)
	defer own.Close()
	_, err = own.Write([]byte("own"))
	try.Must(t, err)
	got := make([]byte, 100)
	if n, _, err := never.ReadFrom(got); err != nil || string(got[:n]) != "own" {
		t.Errorf("the last device was asked: %q, %v", got[:n], err)
	}
	if err := (Chain{foreign}).ShownOff(within(t, generous)); !errors.Is(err, ErrForeign) {
		t.Errorf("of another machine: %v", err)
	}
	if err := (Chain{}).ShownOff(t.Context()); err == nil {
		t.Error("no device shows a host off")
	}
}

func TestPart(t *testing.T) {
	for _, c := range []struct {
		left    time.Duration
		devices int
		want    time.Duration
	}{{time.Hour, 2, share}, {40 * time.Minute, 1, share}, {9 * time.Second, 3, 3 * time.Second}} {
		if got := part(within(t, c.left), c.devices); got > c.want || got < c.want-time.Second {
			t.Errorf("%v for %d devices: got %v; want %v", c.left, c.devices, got, c.want)
		}
	}
	if got := part(t.Context(), 2); got != share {
		t.Errorf("no deadline: got %v; want %v", got, share)
	}
}
