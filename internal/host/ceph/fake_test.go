package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
)

func TestContractOfTheFake(t *testing.T) {
	contract(t, &fake{
		open: map[string]bool{}, shut: map[string]bool{}, objects: map[string][]byte{},
		features: []string{"layering", needed}, caps: true,
	})
}

// fake is a cluster in memory, behind the programs' command lines.
type fake struct {
	mu       sync.Mutex
	open     map[string]bool // addresses of those who have the image open
	locker   string          // who holds its lock
	shut     map[string]bool // the blocklist
	objects  map[string][]byte
	features []string
	caps     bool // the user may lock clients out
	writes   int
	last     int
}

const fakeKey = "AQAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAA=="

func (f *fake) client(t *testing.T, host int, edit func(*cluster.RBD)) *Client {
	t.Helper()
	i := cluster.RBD{Mons: []string{"10.77.0.1"}, Pool: "p", Image: "i", User: "holdfast",
		Keyring: keyring(t, "ring", "[client.holdfast]\n\tkey = "+fakeKey+"\n", 0o600)}
	if edit != nil {
		edit(&i)
	}
	return New(Options{RBD: i, Local: func(a netip.Addr) bool { return a == hostAddr(host) }, Run: f.run})
}

func hostAddr(host int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(host + 1)}) }

// run answers as the programs do.
func (f *fake) run(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
	var user Options
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-m":
			user.RBD.Mons = []string{args[1]}
		case "--id":
			user.RBD.User = args[1]
		case "--keyring":
			user.RBD.Keyring = args[1]
		case "-p":
			user.RBD.Pool = args[1]
		}
		args = args[2:]
	}
	if user.RBD.Mons[0] != "10.77.0.1" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if key, err := (&Client{Options: user}).Key(); err != nil || string(key) != string(must(fakeKey)) {
		return nil, errors.New(name + ": exit status 13: error connecting")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answer(stdin, name, args)
}

func (f *fake) answer(stdin []byte, name string, args []string) ([]byte, error) {
	line := name + " " + strings.Join(args, " ")
	switch {
	case name == "rbd" && !strings.Contains(line, " p/i "):
		return nil, errors.New("rbd: exit status 2: no image " + line)
	case line == "ceph fsid":
		return []byte("b2c22809-2e20-6c3b-6269-bf55b2f85e5a\n"), nil
	case strings.HasPrefix(line, "rbd info "):
		return json.Marshal(Info{ID: "1a", Size: 1 << 20, Features: f.features})
	case strings.HasPrefix(line, "rbd status "):
		all := []map[string]any{}
		for a := range f.open {
			all = append(all, map[string]any{"address": a, "client": 1, "cookie": 2})
		}
		return json.Marshal(map[string]any{"watchers": all})
	case strings.HasPrefix(line, "rbd lock ls "):
		if f.locker == "" {
			return []byte("[]\n"), nil
		}
		return fmt.Appendf(nil, `[{"id":"auto 1","locker":"client.1","address":%q}]`, f.locker), nil
	case strings.HasPrefix(line, "ceph osd blocklist add ") && !f.caps:
		return nil, errors.New("ceph: exit status 13: access denied")
	case strings.HasPrefix(line, "ceph osd blocklist add "):
		f.shut[args[3]] = true
		delete(f.open, args[3])
		return nil, nil
	case line == "ceph osd blocklist ls --format json":
		all := []map[string]string{}
		for a := range f.shut {
			all = append(all, map[string]string{"addr": a, "until": "2026-11-22T10:16:07.555252+0000"})
		}
		out, err := json.Marshal(all)
		return append(append([]byte("\n"), out...), "[]"...), err
	case strings.HasPrefix(line, "rados put "):
		f.objects[args[1]] = slices.Clone(stdin)
		return nil, nil
	case strings.HasPrefix(line, "rados get "):
		return f.objects[args[1]], nil
	}
	return nil, fmt.Errorf("the fake knows no %q", line)
}

// fakeWriter writes each millisecond.
type fakeWriter struct {
	mu    sync.Mutex // held while it is frozen
	ended chan struct{}
}

func (f *fake) write(t *testing.T, host int) writer {
	f.mu.Lock()
	f.last++
	name := fmt.Sprintf("%s:0/%d", hostAddr(host), f.last)
	f.open[name] = true
	f.mu.Unlock()
	w := &fakeWriter{ended: make(chan struct{})}
	stop := make(chan struct{})
	go func() {
		defer close(w.ended)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			w.mu.Lock()
			ok := f.writeOnce(name)
			w.mu.Unlock()
			if !ok {
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-w.ended })
	return w
}

func (f *fake) writeOnce(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shut[name] {
		return false
	}
	f.locker = name
	f.writes++
	return true
}

func (w *fakeWriter) freeze(on bool) {
	if on {
		w.mu.Lock()
	} else {
		w.mu.Unlock()
	}
}

func (w *fakeWriter) failed() <-chan struct{} { return w.ended }

func (f *fake) written(*testing.T) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

func (f *fake) admin(_ *testing.T, what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch what {
	case unlocked:
		f.features, f.caps = []string{"layering"}, true
	case reader:
		f.caps = false
	}
}
