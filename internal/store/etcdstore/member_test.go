package etcdstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/store"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// single is a cluster of one member without TLS.
func single(t *testing.T) *cluster {
	t.Helper()
	return &cluster{members: newMembers(t, 1, plain)}
}

func TestDataIsKept(t *testing.T) {
	c := single(t)
	m := c.members[0]
	m.conf.LogFile, m.conf.LogLevel = m.log+".own", "info"
	m.write(t)
	c.run(t)
	cl := c.open(t, "/")
	first := insist(t, cl, "k", "v")
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		m.end(t, sig)
		checkFree(t, m)
		m.start(t)
		kv, ok, err := cl.Get(try.Context(t), "k")
		if err != nil || !ok || string(kv.Value) != "v" || kv.CreateRev != first {
			c.fail(t, "after %v: %+v, %v", sig, kv, err)
		}
	}
	if log, err := os.ReadFile(m.conf.LogFile); err != nil || !strings.Contains(string(log), "starting an etcd server") {
		t.Errorf("log file: %v, %s", err, log)
	}
}

// A write that is refused for want of space may have been applied; see verdict.
func TestNoSpace(t *testing.T) {
	c := single(t)
	c.members[0].conf.QuotaMB = 4
	c.members[0].write(t)
	c.run(t)
	cl := c.open(t, "/")
	value := bytes.Repeat([]byte{1}, 512<<10)
	for i := range 40 {
		_, _, err := cl.Txn(try.Context(t), nil, []store.Op{{Key: fmt.Sprint(i), Value: value}})
		if err == nil {
			continue
		}
		if !errors.Is(err, store.ErrUnknown) || !strings.Contains(err.Error(), "space") {
			t.Errorf("got %v", err)
		}
		return
	}
	t.Error("20 MB went into a store of 4 MiB")
}

func TestRunMemberInThisProcess(t *testing.T) {
	need.Seconds(t)
	m := single(t).members[0]
	m.conf.LogLevel = "error"
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- RunMember(ctx, m.conf) }()
	c := &cluster{members: []*member{m}}
	insist(t, c.open(t, "/"), "k", "v")

	second := m.conf
	if err := RunMember(t.Context(), second); !errors.Is(err, ErrDataInUse) {
		t.Errorf("second one on the data: %v", err)
	}
	second.DataDir = filepath.Join(t.TempDir(), "other")
	err := RunMember(t.Context(), second)
	if listen, _ := url.Parse(m.conf.ListenPeer); !errors.Is(err, ErrAddressInUse) || !strings.Contains(err.Error(), listen.Host) {
		t.Errorf("second one on the ports: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	checkFree(t, m)
}

func TestClientPortTaken(t *testing.T) {
	m := single(t).members[0]
	m.conf.LogLevel = "error"
	u, err := url.Parse(m.conf.ListenClient)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := RunMember(t.Context(), m.conf); !errors.Is(err, ErrAddressInUse) || !strings.Contains(err.Error(), u.Host) {
		t.Errorf("got %v", err)
	}
}

func TestForeignData(t *testing.T) {
	m := single(t).members[0]
	if err := os.Mkdir(m.conf.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := own(m.conf); err != nil {
			t.Fatalf("own data: %v", err)
		}
	}
	unmarked := t.TempDir()
	if err := os.Mkdir(filepath.Join(unmarked, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	torn := t.TempDir()
	if err := os.WriteFile(filepath.Join(torn, "owner.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(*MemberConfig){
		"cluster": func(c *MemberConfig) { c.Cluster = "another" },
		"member": func(c *MemberConfig) {
			c.Name, c.Initial = "h9", map[string]string{"h9": c.PeerURL}
		},
		"unmarked": func(c *MemberConfig) { c.DataDir = unmarked },
		"torn":     func(c *MemberConfig) { c.DataDir = torn },
	} {
		c := m.conf
		alter(&c)
		if err := RunMember(t.Context(), c); !errors.Is(err, ErrForeignData) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The member outlives the agent that started it, and the next one adopts it.
func TestMemberOutlivesItsKeeper(t *testing.T) {
	c := single(t)
	m := c.members[0]
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec := supervise.Spec{Name: "store", Exe: exe, Args: []string{"store-member", m.file}, Dir: t.TempDir(), Log: discard()}
	stop := func() {
		if err := supervise.Stop(context.Background(), spec.Dir, spec.Name); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	cl := c.open(t, "/")
	var pids []int
	for round := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		kept := make(chan error, 1)
		go func() { kept <- supervise.Run(ctx, spec) }()
		insist(t, cl, "k", fmt.Sprint(round))
		cancel()
		if err := <-kept; err != nil {
			t.Error(err)
		}
		insist(t, cl, "k", "nobody keeps it")
		st, err := supervise.Read(spec.Dir, spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, st.PID)
	}
	if pids[0] == 0 || pids[0] != pids[1] {
		t.Errorf("members had the ids %v", pids)
	}
	stop()
	checkFree(t, m)
}

func TestLoadMember(t *testing.T) {
	m := single(t).members[0]
	got, err := LoadMember(m.file)
	if err != nil {
		t.Fatal(err)
	}
	if got.HeartbeatMS != 100 || got.ElectionMS != 1000 || got.QuotaMB != 512 || got.State != "new" || got.LogLevel != "warn" {
		t.Errorf("defaults: %+v", got)
	}
	for name, alter := range map[string]func(map[string]any){
		"unknown field":   func(c map[string]any) { c["colour"] = "red" },
		"no name":         func(c map[string]any) { delete(c, "name") },
		"no cluster":      func(c map[string]any) { delete(c, "cluster") },
		"relative dir":    func(c map[string]any) { c["data_dir"] = "data" },
		"state":           func(c map[string]any) { c["state"] = "old" },
		"level":           func(c map[string]any) { c["log_level"] = "loud" },
		"log file":        func(c map[string]any) { c["log_file"] = "log" },
		"election":        func(c map[string]any) { c["election_ms"] = 300 },
		"quota":           func(c map[string]any) { c["quota_mb"] = -1 },
		"not in initial":  func(c map[string]any) { c["initial"] = map[string]string{} },
		"other peer URL":  func(c map[string]any) { c["peer_url"] = "http://127.0.0.1:1" },
		"no port":         func(c map[string]any) { c["client_url"] = "http://127.0.0.1" },
		"scheme, no TLS":  func(c map[string]any) { c["listen_peer"] = "https://127.0.0.1:1" },
		"scheme, TLS":     func(c map[string]any) { c["tls"] = TLSFiles{CA: "a", Cert: "b", Key: "c"} },
		"initial, no URL": func(c map[string]any) { c["initial"].(map[string]any)["h2"] = "h2" },
	} {
		var c map[string]any
		data, err := os.ReadFile(m.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &c); err != nil {
			t.Fatal(err)
		}
		alter(c)
		if data, err = json.Marshal(c); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "member.json")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadMember(file); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
