package protected

import (
	"errors"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/pki"
	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

// TestMemoryTravelsEncrypted: by TLS nothing of the guest's memory can be read on the way,
// without it all of it can.
func TestMemoryTravelsEncrypted(t *testing.T) {
	need.Drill(t, "P6: no byte of the memory of a guest travels in the clear")
	ca := virthost.Authority(t, "memory")
	hosts := newTLSHosts(t, 2, func(int) pki.CA { return ca })
	spec := guest(t)
	filler(t, &spec, false)
	virthost.Mark(t, spec.Image)
	for _, h := range hosts {
		if s := h.must(request{Op: "security"}).Security; !s.TLS || s.Dir != "/etc/libvirt/pki/qemu" {
			t.Fatalf("%s: %+v", h.Addr, s)
		}
	}
	from, to := hosts[0], hosts[1]
	from.must(request{Op: "start", Spec: spec})
	for _, tls := range []bool{false, true} {
		from.until("running", is(cluster.GuestRunning))
		from.must(request{Op: "sniff", Text: virthost.Marker})
		a := from.must(request{Op: "migrate", Text: to.Addr, TLS: tls})
		seen := from.must(request{Op: "sniffed"}).Seen
		t.Logf("TLS %t: %v, %+v", tls, a.Took, seen)
		if (seen.Clear == 0) != tls || seen.Bytes < 1<<20 || seen.Missed > 0 {
			t.Errorf("TLS %t: %+v", tls, seen)
		}
		to.until("arrived", is(cluster.GuestArrived))
		to.must(request{Op: "resume"})
		from, to = to, from
	}
	from.must(request{Op: "kill"})
}

// TestTargetOfAnotherAuthority: nothing is sent, in clear least of all, and the guest stays.
func TestTargetOfAnotherAuthority(t *testing.T) {
	need.Drill(t, "P6: memory goes to no host of another authority")
	authorities := []pki.CA{virthost.Authority(t, "memory"), virthost.Authority(t, "memory")}
	hosts := newTLSHosts(t, 2, func(i int) pki.CA { return authorities[i-1] })
	from, to := hosts[0], hosts[1]
	spec := guest(t)
	filler(t, &spec, false)
	virthost.Mark(t, spec.Image)
	from.must(request{Op: "start", Spec: spec})
	g := from.until("running", is(cluster.GuestRunning))
	from.must(request{Op: "sniff", Text: virthost.Marker})
	_, err := from.do(request{Op: "migrate", Text: to.Addr, TLS: true})
	seen := from.must(request{Op: "sniffed"}).Seen
	t.Logf("%v; %+v", err, seen)
	if err == nil || errors.Is(err, cluster.ErrNotProved) {
		t.Errorf("%v, want an error that says it stays", err)
	}
	if seen.Clear > 0 || seen.Bytes > 1<<20 || seen.Missed > 0 {
		t.Errorf("something was sent: %+v", seen)
	}
	if now := from.until("still here", is(cluster.GuestRunning)); now.PID != g.PID {
		t.Errorf("afterwards: %+v, want %+v", now, g)
	}
	to.until("absent at the target", is(cluster.GuestAbsent))
	from.must(request{Op: "kill"})
}
