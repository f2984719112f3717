package bmc

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"

	"holdfast/testbed/need"
)

// ipmiQuirk is one of IPMI devices. code says what an order is answered with instead of 0;
// it is carried out when do is true. setUp changes the answers of a session's set-up.
type ipmiQuirk struct {
	name, from string
	code       func(orders int, on bool) (c types.CompletionCode, do bool)
	setUp      func(l *link, p []byte)
}

var ipmiQuirks = []ipmiQuirk{
	{name: "busy: node busy", from: "ironic ipmitool.py", code: first(types.CodeNodeBusy)},
	{name: "busy: timeout", from: "ironic ipmitool.py", code: first(types.CodeProcessTimeout)},
	{name: "busy: out of space", from: "ironic ipmitool.py", code: first(types.CodeOutOfSpace)},
	{name: "busy: starts up", from: "ironic ipmitool.py", code: first(types.CodeCannotProvideResponseBMCInitialize)},
	{name: "refused when off: not supported in this state", from: "pyghmi (virtualbmc)", code: whenOff(types.CodeNotSupported)},
	{name: "refused when off: invalid field", from: "ironic ipmitool.py", code: whenOff(types.CodeRequestDataFieldInvalid)},
	{name: "refused when off: unspecified", from: "bmclib internal/ipmi/ipmi.go", code: whenOff(types.CodeUnspecifiedError)},
	{name: "done and unspecified", from: "fence-agents fence_ipmilan.py",
		code: func(int, bool) (types.CompletionCode, bool) { return types.CodeUnspecifiedError, true }},
	{name: "done and timeout", from: "ironic ipmitool.py",
		code: func(int, bool) (types.CompletionCode, bool) { return types.CodeProcessTimeout, true }},
	{name: "suite 17 for lower privileges: invalid role", from: "ironic ipmitool.py", setUp: func(_ *link, p []byte) {
		if p[5] == openResponse && p[headerLen+1] != 0 { // that it does not have it
			p[headerLen+1] = uint8(types.RmcpStatusCodeInvalidRole)
		}
	}},
	{name: "no free session at first", from: "ironic ipmitool.py", setUp: func(l *link, p []byte) {
		if p[5] == openResponse && l.number == 1 {
			p[headerLen+1] = uint8(types.RmcpStatusCodeNoResToCreateSess)
		}
	}},
}

func first(c types.CompletionCode) func(int, bool) (types.CompletionCode, bool) {
	return func(orders int, _ bool) (types.CompletionCode, bool) {
		if orders == 1 {
			return c, false
		}
		return types.CodeOK, true
	}
}

func whenOff(c types.CompletionCode) func(int, bool) (types.CompletionCode, bool) {
	return func(_ int, on bool) (types.CompletionCode, bool) {
		if on {
			return types.CodeOK, true
		}
		return c, false
	}
}

// TestIPMIQuirks: TestQuirks of IPMI.
func TestIPMIQuirks(t *testing.T) {
	for _, q := range ipmiQuirks {
		t.Run(q.name, func(t *testing.T) {
			var r rig
			orders := 0
			r = goIPMI(t, machineID, 3, func(next handlers.Handler) handlers.Handler {
				return handlers.HandlerFunc(func(ctx context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
					if h.Command.Name != types.CommandChassisControl.Name || q.code == nil {
						return next.Handle(ctx, h, req)
					}
					orders++
					code, do := q.code(orders, r.lives())
					if !do {
						return nil, code, nil
					}
					_, _, err := next.Handle(ctx, h, req)
					return nil, code, err
				})
			})
			d := device(t, r.o, func(o *Options) {
				o.Address = newRelay(t, r.o.Address, func(l *link, p []byte) [][]byte {
					if q.setUp != nil && !inSession(p) {
						q.setUp(l, p)
					}
					return [][]byte{p}
				}).front.LocalAddr().String()
			})
			noneLeft(t, func() { proves(t, r, d) })
		})
	}
}

// TestOrderWithoutAnswer: the order is carried out, and its answer never comes.
func TestOrderWithoutAnswer(t *testing.T) {
	need.Seconds(t)
	const enough = 4 * time.Second // half of it is the order's
	t.Run("redfish", func(t *testing.T) {
		r := standIn(t, before(atOrder, func(s *redfish, _ http.ResponseWriter, r *http.Request) bool {
			if err := s.m.order(false); err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(io.Discard, r.Body) // the server sees that the client has gone only then
			<-r.Context().Done()
			return true
		}))
		noneLeft(t, func() {
			if err := device(t, r.o).Off(within(t, enough)); err != nil || r.lives() {
				t.Errorf("%v, alive %v", err, r.lives())
			}
		})
	})
	t.Run("ipmi", func(t *testing.T) {
		r := goIPMI(t, machineID, 17)
		var lost atomic.Int32
		d := device(t, r.o, func(o *Options) {
			o.Address = newRelay(t, r.o.Address, func(_ *link, p []byte) (out [][]byte) {
				r.set(func(m *machine) {
					if len(m.orders) > 0 && m.asked == 0 {
						lost.Add(1)
						return
					}
					out = [][]byte{p}
				})
				return out
			}).front.LocalAddr().String()
		})
		noneLeft(t, func() {
			if err := d.Off(within(t, enough)); err != nil || r.lives() || lost.Load() == 0 {
				t.Errorf("%v, alive %v, %d answers lost", err, r.lives(), lost.Load())
			}
		})
	})
}
