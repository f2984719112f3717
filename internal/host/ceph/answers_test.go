package ceph

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

func keyring(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	try.Must(t, os.WriteFile(path, []byte(text), mode))
	return path
}

func must(key string) []byte {
	b, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		panic(err)
	}
	return b
}

// says is a cluster that answers as it is told to, by the beginning of the command.
func says(answers map[string]string, asked *[]string) *Client {
	return New(Options{
		RBD: cluster.RBD{Mons: []string{"m"}, Pool: "p", Image: "i", User: "u", Keyring: "k"}, Local: func(netip.Addr) bool { return false },
		Run: func(_ context.Context, _ []byte, name string, args ...string) ([]byte, error) {
			line := name + " " + strings.Join(args[8:], " ")
			*asked = append(*asked, line)
			for begin, a := range answers {
				if strings.HasPrefix(line, begin) {
					if a == "fails" {
						return nil, errors.New("fails")
					}
					return []byte(a), nil
				}
			}
			return nil, errors.New("not told: " + line)
		},
	})
}

// Evict believes nothing that it can not read.
func TestEvictWithAnswersThatAreNotRight(t *testing.T) {
	const one = `{"watchers":[{"address":"10.0.0.1:0/5","client":1,"cookie":2}]}`
	for name, c := range map[string]struct{ status, locks, list, add string }{
		"no status":                 {"fails", "[]", "[]", ""},
		"status is empty":           {"", "[]", "[]", ""},
		"status has no watchers":    {"{}", "[]", "[]", ""},
		"watchers of another form":  {`{"watchers":{"watcher":{"address":"10.0.0.1:0/5"}}}`, "[]", "[]", ""},
		"a watcher without address": {`{"watchers":[{"client":1}]}`, "[]", "[]", ""},
		"no locks":                  {one, "fails", "[]", ""},
		"a lock without address":    {one, `[{"id":"x"}]`, "[]", ""},
		"add fails":                 {one, "[]", "[]", "fails"},
		"it is not on the list":     {one, "[]", `[{"addr":"10.0.0.1:0/6","until":""}][]`, ""},
		"the list is empty":         {one, "[]", "", ""},
		"the list is no list":       {one, "[]", `{"addr":"10.0.0.1:0/5"}`, ""},
		"it still has it open":      {one, "[]", `[{"addr":"10.0.0.1:0/5","until":""}]`, ""},
	} {
		var asked []string
		cl := says(map[string]string{"rbd status": c.status, "rbd lock ls": c.locks, "ceph osd blocklist ls": c.list,
			"ceph osd blocklist add": c.add}, &asked)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if gone, err := cl.Evict(ctx); err == nil {
			t.Errorf("%s: evicted %v", name, gone)
		}
		cancel()
	}
}

// A client that is silent for long is no watcher any more, but it still holds the lock.
func TestEvictOfWhoHoldsTheLockOnly(t *testing.T) {
	for list, want := range map[string][]string{
		`[{"addr":"10.0.0.1:0/5","until":""}][]`: nil, // it was locked out before
		`[][]`:                                   {"ceph osd blocklist add 10.0.0.1:0/5 2592000"},
	} {
		var asked []string
		cl := says(map[string]string{"rbd status": `{"watchers":[]}`,
			"rbd lock ls":           `[{"id":"auto 1","locker":"client.1","address":"10.0.0.1:0/5"}]`,
			"ceph osd blocklist ls": list, "ceph osd blocklist add": ""}, &asked)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := cl.Evict(ctx)
		cancel()
		if (err == nil) != (want == nil) { // where it is not on the list at the end, there is no start
			t.Errorf("%s: %v", list, err)
		}
		asked = slices.DeleteFunc(asked, func(a string) bool { return !strings.Contains(a, "blocklist add") })
		if !slices.Equal(asked, want) {
			t.Errorf("%s: %q, want %q", list, asked, want)
		}
	}
}

// Who was stopped in the middle and goes on when its time is over locks nobody out: the
// one who has the image open by now may be the right one.
func TestNobodyIsLockedOutTooLate(t *testing.T) {
	var asked []string
	cl := says(map[string]string{"rbd status": `{"watchers":[{"address":"10.0.0.1:0/5"}]}`, "rbd lock ls": "[]",
		"ceph osd blocklist add": ""}, &asked)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := cl.Evict(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	for _, a := range asked {
		if strings.Contains(a, "add") {
			t.Errorf("asked %q", asked)
		}
	}
}

// A program that hangs is ended with its time.
func TestAProgramThatHangs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Program(ctx, nil, "sleep", "1000"); !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), "no answer from the cluster") {
		t.Error(err)
	}
	if _, err := Program(t.Context(), nil, "no-such-program-of-ceph"); err == nil || !strings.Contains(err.Error(), "install ceph-common") {
		t.Error(err)
	}
	if _, err := Program(t.Context(), nil, "sh", "-c",
		"echo one >&2; echo '2026-11-22T09:56:26.776+0000 7fa920e91380 -1 two' >&2; exit 3"); err == nil ||
		!strings.HasSuffix(err.Error(), "exit status 3: two") {
		t.Error(err)
	}
	if out, err := Program(t.Context(), []byte("text"), "cat"); err != nil || string(out) != "text" {
		t.Errorf("%q, %v", out, err)
	}
}

func FuzzParseClient(f *testing.F) {
	for _, s := range []string{"10.0.0.1:0/123", "v1:[fd00::1]:0/7", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseClient(s)
		if err != nil {
			return
		}
		if again, err := parseClient(c.name); err != nil || again != c {
			t.Errorf("%q: %+v, again %+v, %v", s, c, again, err)
		}
	})
}
