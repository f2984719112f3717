package doctor

import (
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/install"
)

// TestADoctorWithoutAQuorum: that is no warning.
func TestADoctorWithoutAQuorum(t *testing.T) {
	f := ofCluster("h1", cluster.Status{StoreError: "no leader", Waiting: "a quorum"})
	if len(f) != 1 || f[0].Result != install.Fail || !strings.Contains(f[0].Finding, "no leader") || f[0].Remedy == "" {
		t.Errorf("%+v", f)
	}
	f = ofCluster("h1", cluster.Status{Connected: true, Waiting: "host h2"})
	if len(f) != 1 || f[0].Result != install.Warn {
		t.Errorf("%+v", f)
	}
}

// TestWhereAReportIsWritten: nobody wants it in the root of all, or in somebody else's directory.
func TestWhereAReportIsWritten(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Chdir("/")
	if got := reportDir(); got != home {
		t.Errorf("in / it is %q, want the home %q", got, home)
	}
	t.Chdir(t.TempDir())
	if got := reportDir(); got != "" {
		t.Errorf("in a directory of one's own it is %q", got)
	}
}
