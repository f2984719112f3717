package facts

import (
	"encoding/json"
	"testing"
	"time"

	"holdfast/internal/inventory/fact"
	"holdfast/testbed/need"
)

// A host of any kind is read without a crash, and what it is for certain is known.
func TestThisHostIsRead(t *testing.T) {
	need.Real(t)
	g := Gatherer{Timeout: 5 * time.Second}
	f := g.Gather(t.Context(), fact.Request{Host: "h1", Unpack: t.TempDir() + "/not/there",
		Commands: []string{"sh", "no-such-command"}, Python: []string{"sys"}})
	b, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b)
	if f.Host != "h1" || f.Space.Free <= 0 || f.Kernel.Running == "" {
		t.Errorf("%+v", f)
	}
	if f.Commands["sh"] == "" || f.Commands["no-such-command"] != "" {
		t.Errorf("commands %v", f.Commands)
	}
	if why, ok := f.Python["sys"]; !ok || why != "" && why != "python3 is not installed" {
		t.Errorf("python %v", f.Python)
	}
}
