package agent

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/config"
)

func TestWhichStorageIsProbed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "nbd://" + l.Addr().String() + "/mnvm"
	if err := l.Close(); err != nil { // nobody listens there now
		t.Fatal(err)
	}
	dir := t.TempDir()
	nd := node{Options: Options{Exe: filepath.Join(dir, "none")}}
	for _, c := range []struct {
		name string
		cfg  config.Cluster
		want string // in the reason; "" for no probe
	}{
		{"directory", config.Cluster{Type: config.FileConf, ImageFolder: dir}, "does not start"},
		{"NBD", config.Cluster{Type: config.FileConf, ImageFolder: dir, ImageURL: url}, "can not be reached"},
		{"NBD with other times", config.Cluster{Type: config.FileConf, ImageURL: url,
			SharedStorageProbe: &config.SharedStorageProbe{Timeout: config.Duration(time.Minute)}}, "can not be reached"},
		{"directory, off", config.Cluster{Type: config.FileConf, ImageFolder: dir,
			SharedStorageProbe: &config.SharedStorageProbe{Off: true}}, ""},
		{"NBD, off", config.Cluster{Type: config.FileConf, ImageURL: url, SharedStorageProbe: &config.SharedStorageProbe{Off: true}}, ""},
		{"pool", config.Cluster{Type: config.CephConf, PoolName: "p",
			Ceph: config.Ceph{Credential: "file:" + dir + "/none"}, MonAddrs: []string{"127.0.0.1:1"}}, "probe the pool p"},
		{"pool, off", config.Cluster{Type: config.CephConf, PoolName: "p", SharedStorageProbe: &config.SharedStorageProbe{Off: true}}, ""},
	} {
		p := nd.storageProber(c.cfg)
		if p == nil || c.want == "" {
			if p != nil || c.want != "" {
				t.Errorf("%s: probe %v, want one: %v", c.name, p, c.want != "")
			}
			continue
		}
		want := 15 * time.Second
		if c.cfg.SharedStorageProbe != nil {
			want = 65 * time.Second
		}
		if got := p.Recovers(); got != want {
			t.Errorf("%s: recovers within %s, want %s", c.name, got, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		for end := time.Now().Add(20 * time.Second); p.State().Why == "" && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		}
		cancel()
		<-ended
		if s := p.State(); s.Hangs || !strings.Contains(s.Why, c.want) {
			t.Errorf("%s: %+v, want %q", c.name, s, c.want)
		}
	}
}
