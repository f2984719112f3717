package readback

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// standIn is a program that is called as Python is. The real one, with Nova, reads in the
// end-to-end tests.
func standIn(t *testing.T, shell string) Nova {
	t.Helper()
	name := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+shell+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Nova{Python: name, Conf: "nova.conf", Without: []string{"nova.compute_nodes"}}
}

func TestNova(t *testing.T) {
	for _, c := range []struct {
		shell, want string
		faults      []string
	}{
		{shell: `cat > /dev/null; echo '{"faults": []}'`},
		{shell: `cat > /dev/null; echo '{"faults": ["a: hidden", "b: no mapping"]}'; exit 1`, faults: []string{"a: hidden", "b: no mapping"}},
		{shell: `test "$*" = "- nova.conf --without=nova.compute_nodes one two" && cat | grep -q InstanceMapping && echo '{"faults": ["given"]}'`, faults: []string{"given"}},
		{shell: `cat > /dev/null; echo '{"faults": ["cells: not mysql+pymysql://nova:s3:c/ret@db/nova, nova:x@db"]}'; exit 1`,
			faults: []string{"cells: not ***@db/nova, ***@db"}},
		{shell: `cat > /dev/null; echo Traceback >&2; echo "ModuleNotFoundError: No module named 'nova'" >&2; exit 1`,
			want: "exit status 1: ModuleNotFoundError: No module named 'nova'"},
		{shell: `cat > /dev/null; echo "can not parse 'nova:secret@db/nova'" >&2; exit 1`, want: "exit status 1: can not parse '***@db/nova'"},
		{shell: `cat > /dev/null; echo something`, want: "invalid character"},
		{shell: `exit 7`, want: "exit status 7"},
	} {
		r, err := standIn(t, c.shell).Read(t.Context(), "one", "two")
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--nova-conf nova.conf: ") {
				t.Errorf("%s: %v", c.shell, err)
			}
			continue
		}
		if err != nil || !slices.Equal(r.Faults, c.faults) || !strings.Contains(string(r.Document), "faults") {
			t.Errorf("%s: %+v, %v", c.shell, r, err)
		}
	}
	if _, err := (Nova{Python: "/there/is/none"}).Read(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

// TestInterrupted: what is interrupted ends, and its process does.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := standIn(t, "exec sleep 1000000").Read(ctx); err != context.DeadlineExceeded {
		t.Error(err)
	}
}
