package facts

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTimeSources(t *testing.T) {
	dir := t.TempDir()
	patterns := []string{filepath.Join(dir, "chrony.conf"), filepath.Join(dir, "*.sources")}
	if got, err := timeSources(patterns); len(got) != 0 || err != nil {
		t.Errorf("no chronyd: %v, %v", got, err)
	}
	for name, text := range map[string]string{
		"chrony.conf": "# server no.example\nserver 192.0.2.1 iburst\nPool time.example\ndriftfile /x\nserver\n",
		"own.sources": "  peer   192.0.2.2 iburst\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.sources"), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := timeSources(patterns)
	conf := filepath.Join(dir, "chrony.conf")
	want := []TimeSource{{"192.0.2.1", conf, "server 192.0.2.1 iburst"}, {"time.example", conf, "Pool time.example"},
		{"192.0.2.2", filepath.Join(dir, "own.sources"), "peer   192.0.2.2 iburst"}}
	if !slices.Equal(got, want) || err == nil {
		t.Errorf("%v, %v, want %v and that a directory can not be read", got, err, want)
	}
}

func TestAHostThatIsATimeServerDoesNotAskItself(t *testing.T) {
	names := []string{"192.0.2.11", "node-1", "127.0.0.1"}
	other, own := TimeSource{Name: "time.example.org"}, TimeSource{Name: "192.0.2.11", File: "own.sources", Line: "server 192.0.2.11 iburst"}
	for _, c := range []struct {
		sources []TimeSource
		err     error
		want    string
	}{
		{nil, nil, ""},
		{[]TimeSource{other}, nil, ""},
		{[]TimeSource{other, own}, errors.New("denied"), "own.sources: server 192.0.2.11 iburst"},
		{[]TimeSource{other}, errors.New("denied"), "can not be read: denied"},
	} {
		if got := TimeFromItself(c.sources, c.err, names...); (got == "") != (c.want == "") || !strings.HasSuffix(got, c.want) {
			t.Errorf("%v, %v: %q, want %q", c.sources, c.err, got, c.want)
		}
	}
}
