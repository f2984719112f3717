package onhost

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/install"
	"holdfast/internal/lib/pki"
)

// TestSettingsElsewhere: what is installed and which certificate counts follow from the
// settings that are asked about, and an agent that has answered runs without a unit, too.
func TestSettingsElsewhere(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ca, err := pki.NewCA("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("node1", []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteCert(at("ca.pem")); err != nil {
		t.Fatal(err)
	}
	if err := pair.Write(at("node1.pem"), at("node1.key")); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"host": "node1", "addr": "192.0.2.1", "cluster": "prod", "guests_only": true, "data_dir": %q, "run_dir": %q,
		"store": {"endpoints": ["https://192.0.2.2:2379"]}, "tls": {"ca": %q, "cert": %q, "key": %q}}`, dir, dir, at("ca.pem"), at("node1.pem"), at("node1.key"))
	if err := os.WriteFile(at("agent.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	q := install.Query{Settings: at("agent.json"), Runs: true}
	in, err := installed(t.Context(), q)
	if err != nil || in == nil || in.Host != "node1" || in.Cluster != "prod" || !in.Active {
		t.Errorf("installed: %+v, %v", in, err)
	}
	if got := certificates(q); got[at("node1.pem")] == "" || got[install.KeyDir+"/host.pem"] != "" {
		t.Errorf("certificates of %d files, without the settings' own", len(got))
	}
	q.Settings = at("none.json")
	if in, err := installed(t.Context(), q); err != nil || in != nil {
		t.Errorf("without settings: %+v, %v", in, err)
	}
}
