package drbdnode_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"holdfast/testbed/drbdnode"
	"holdfast/testbed/need"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		fmt.Fprintln(os.Stderr, drbdnode.Serve())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestALinkIsCutAndADiskSurvives(t *testing.T) {
	need.Drill(t, "the emulated hosts of other drills: their link is cut and heals, and their disk survives a "+
		"loss of power", need.Root, need.Programs("qemu-system-x86", "qemu-system-x86_64"), need.Programs("busybox-static", "busybox"))
	nodes := drbdnode.New(t, "holdfast/testbed/drbdnode")
	a, b := nodes[0], nodes[1]
	a.Run("ping", "-c", "1", "-w", "20", "10.97.1.2")
	b.Cut(true)
	if out, code := a.Try("ping", "-c", "1", "-w", "2", "10.97.1.2"); code == 0 {
		t.Errorf("the link is cut: %s", out)
	}
	b.Cut(false)
	a.Run("ping", "-c", "1", "-w", "20", "10.97.1.2")
	want := "version: 8.4"
	if os.Getenv("HOLDFAST_DRBD_MODULE") != "" {
		want = "version: 9."
	}
	if got := a.Run("head", "-n", "1", "/proc/drbd"); !strings.HasPrefix(got, want) {
		t.Errorf("the kernel has %q", got)
	}
	a.Run("sh", "-c", "echo kept >/dev/vda && sync")
	a.Crash()
	a.Boot()
	a.Wait()
	if got := a.Run("head", "-n", "1", "/dev/vda"); got != "kept" {
		t.Errorf("the disk has %q", got)
	}
	a.Run("ping", "-c", "1", "-w", "20", "10.97.1.2")
}
