package rest_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/try"
)

// TestAClientGeneratedFromTheDocument: a client in Python, generated from the document that is served, works.
func TestAClientGeneratedFromTheDocument(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed:", err)
	}
	x := newSite(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	try.Must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Certificate().Raw}), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run := func(in string, args ...string) string {
		cmd := exec.CommandContext(ctx, python, args...)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1")
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	made := run(x.ask("", "GET", "/api/openapi.json", "").body, "testdata/generate.py")
	try.Must(t, os.WriteFile(filepath.Join(dir, "client.py"), []byte(made), 0o600))
	tokens, err := json.Marshal(x.tokens)
	try.Must(t, err)
	if got := run("", "testdata/use.py", x.URL, ca, string(tokens)); got != "done\n" {
		t.Errorf("it says %q", got)
	}
	if n := len(x.cluster.Users()); n != 2 {
		t.Errorf("%d requests were carried out, want 2: one of the three repeats a key", n)
	}
	if s := x.cluster.Status(); len(s.Want.Maintenance) != 0 {
		t.Errorf("in maintenance: %v", s.Want.Maintenance)
	}
}
