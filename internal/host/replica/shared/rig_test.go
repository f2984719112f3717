package shared_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/replica/shared"
	"holdfast/internal/testbed/drbdnode"
)

// TestMain is also what runs on the nodes: commands from afar, and the disk.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "disk" {
		out, err := disk(os.Args[2], os.Args[3])
		fmt.Print(out)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		fmt.Fprintln(os.Stderr, drbdnode.Serve())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// disk calls the driver on a node.
func disk(path, what string) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	me := 0
	if host == "n2" {
		me = 1
	}
	d := shared.New(path, "test", me)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch what {
	case "claim":
		return "", d.Claim(ctx, true)
	case "claim-free":
		return "", d.Claim(ctx, false)
	case "release":
		return "", d.Release(ctx)
	case "clear":
		return "", d.Clear(ctx)
	case "check":
		return "", d.Check(ctx)
	case "answers":
		return "", d.Answers(ctx)
	case "ready", "ready-own":
		own, err := shared.Ready(ctx, path, map[string]string{"ready-own": "test"}[what])
		return fmt.Sprint("own ", own), err
	case "fresh":
		return "", d.Fresh(ctx)
	case "holder":
		r, err := d.Holder(ctx)
		return fmt.Sprintf("%s type %d", r.Key, r.Type), err
	case "keys":
		keys, err := d.Keys(ctx)
		return fmt.Sprint(keys), err
	}
	return "", fmt.Errorf("no such call: %s", what)
}

// node is one of two, with the driver on it.
type node struct {
	*drbdnode.Node
	t *testing.T
}

const lun = "/dev/sda"

// do calls the driver, which has to end well.
func (n node) do(what string) string {
	n.t.Helper()
	return n.Run("/node", "disk", lun, what)
}

// refuses reports why a call failed.
func (n node) refuses(why, disk, what string) {
	n.t.Helper()
	out, code := n.Try("/node", "disk", disk, what)
	if code == 0 || !strings.Contains(out, why) {
		n.t.Errorf("%s: %s of %s: exit code %d, %q: want %q", n.Name(), what, disk, code, out, why)
	}
}

// persist asks sg_persist, which this package is compared with.
func (n node) persist(args ...string) (string, int) {
	n.t.Helper()
	return n.Try(append(append([]string{"/usr/bin/sg_persist", "-n"}, args...), lun)...)
}

// writes reports whether the device takes a write of this node.
func (n node) writes() bool {
	n.t.Helper()
	_, code := n.Try("dd", "if=/dev/zero", "of="+lun, "bs=4096", "seek=1000", "count=1", "conv=fsync")
	return code == 0
}
