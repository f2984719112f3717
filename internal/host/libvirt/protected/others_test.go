package protected

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
	"holdfast/testbed/virthost"
)

// other is a guest of others on the host, which has nothing.
func other(name string, uuid string) virthost.Setup {
	return virthost.Setup{UUID: uuid, XML: fmt.Sprintf(`<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os><devices><memballoon model='none'/></devices></domain>`, name, uuid)}
}

// TestGuestsOfOthersWithItsNames: whoever makes a guest chooses its name, and may choose its UUID. It is not mistaken
// for the management VM.
func TestGuestsOfOthersWithItsNames(t *testing.T) {
	h := newHosts(t, 1)[0]
	spec := guest(t)

	// The management VM's name with a comma behind is another guest's.
	comma := other(testName+",x", "98000000-0000-4000-8000-000000000100")
	h.SetUp("define", comma)
	h.SetUp("start", comma)
	if a := h.must(request{Op: "observe"}); a.Guest.State != cluster.GuestAbsent {
		t.Errorf("a guest of others is taken for the management VM: %+v", a.Guest)
	}
	h.must(request{Op: "check", Spec: spec})
	h.must(request{Op: "start", Spec: spec})
	h.until("running", is(cluster.GuestRunning))
	h.must(request{Op: "new"}) // the next agent's driver looks anew
	h.until("running", is(cluster.GuestRunning))
	h.must(request{Op: "check", Spec: spec})
	h.must(request{Op: "kill"})
	if err := h.TrySetUp("destroy", comma); err != nil {
		t.Errorf("the kill of the management VM has ended a guest of others: %v", err)
	}

	// Its name or its UUID alone is told before a start is tried.
	for _, c := range []struct {
		what  string
		taken virthost.Setup
		want  string
	}{
		{"name", other(testName, "98000000-0000-4000-8000-000000000200"), "virsh domrename 98000000-0000-4000-8000-000000000200"},
		{"UUID", other("it\tis", testUUID), `that is named "it is"`},
	} {
		try.Until(t, "libvirtd to forget the management VM", func() bool { return h.TrySetUp("define", c.taken) == nil })
		if _, err := h.do(request{Op: "check", Spec: spec}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("another guest has its %s: %v, want %q", c.what, err, c.want)
		}
		h.SetUp("undefine", c.taken)
	}
}
