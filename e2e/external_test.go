package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	helper "holdfast/testbed/try"
)

// TestExternalStore runs agents that have no member of their own: they reach an
// etcd that somebody else runs by its endpoint alone, and start the guest.
func TestExternalStore(t *testing.T) {
	need.Drill(t, "agents without a member of their own start the guest by an etcd that somebody else runs")
	need.Real(t, built)
	exe, err := filepath.Abs("../bin/holdfast")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hfx") // unix sockets want short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killThatName(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	client, peer := "http://"+freePort(t), "http://"+freePort(t)
	cl := sampleIn(t, dir)
	write(t, filepath.Join(dir, "cluster.json"), cl)
	node := func(host string, member *config.Member) string {
		n := config.Node{
			Host: host, Addr: "127.0.0.1", Cluster: "external", Driver: "process",
			DataDir: filepath.Join(dir, host, "data"), RunDir: filepath.Join(dir, host, "run"), ConfigFile: filepath.Join(dir, "cluster.json"),
			Process:  config.Process{Command: []string{exe, "demo-guest"}, Dir: dir},
			Store:    config.Store{Endpoints: []string{client}, Member: member},
			Watchdog: config.Watchdog{Device: "none"},
		}
		file := filepath.Join(dir, host+".json")
		write(t, file, n)
		return file
	}
	etcd := &config.Member{ListenPeer: peer, PeerURL: peer, ListenClient: client, ClientURL: client, Initial: map[string]string{"h3": peer}}
	begin(t, exe, "store-member", "--config", node("h3", etcd))
	for _, h := range []string{"h1", "h2"} {
		begin(t, exe, "agent", "--config", node(h, nil))
	}
	ctx, cancel := waiting(t)
	defer cancel()
	var st cluster.Status
	probes := func() []string { // each host's agent writes one, at most an interval after its start
		found, err := filepath.Glob(filepath.Join(cl.ImageFolder, ".holdfast-probe-h[12]"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for st.Owner.State != cluster.Running || len(probes()) < 2 {
		out, err := exec.CommandContext(ctx, exe, "status", "-o", "json", "--socket", filepath.Join(dir, "h2", "run", "holdfast.sock")).Output()
		if err == nil {
			err = lab.ReadTold(out, &st)
		}
		if ctx.Err() != nil {
			t.Fatalf("the guest does not run on probed storage: %+v, %v, probes %v", st, err, probes())
		}
		time.Sleep(100 * time.Millisecond)
	}
	if st.Takeover.Possible {
		t.Errorf("a takeover is said to be possible from a host without a watchdog: %+v", st.Takeover)
	}
	out, err := exec.CommandContext(ctx, exe, "stop", "--socket", filepath.Join(dir, "h1", "run", "holdfast.sock")).CombinedOutput()
	if err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
}

// sampleIn gives the sample configuration for three hosts of loopback addresses. The
// folder of images, which agents probe, is made in dir: the sample's own need not be
// on this machine.
func sampleIn(t *testing.T, dir string) config.Cluster {
	t.Helper()
	sample, err := config.Sample(config.FileConf, bytes.NewReader(make([]byte, 1024)))
	if err != nil {
		t.Fatal(err)
	}
	cl, faults, _ := config.Parse("sample.json", sample, config.Options{})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	cl.Node = []string{"127.0.0.11 h1", "127.0.0.12 h2", "127.0.0.13 h3"}
	cl.ImageFolder = filepath.Join(dir, "images")
	if err := os.MkdirAll(cl.ImageFolder, 0o700); err != nil {
		t.Fatal(err)
	}
	return cl
}

// killThatName ends the processes whose command line names dir, which this test
// alone made: a failed run leaves its guest.
func killThatName(t *testing.T, dir string) {
	t.Helper()
	for pid := range helper.Processes(t, dir+"/") {
		if pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}

// begin starts a process and ends it with the test.
func begin(t *testing.T, exe string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	c := exec.Command(exe, args...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
		kill := time.AfterFunc(15*time.Second, func() { _ = c.Process.Kill() })
		defer kill.Stop()
		if err := c.Wait(); err != nil && t.Failed() {
			t.Logf("%v: %v: %s", args, err, out.String())
		}
	})
}

func write(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
