package e2e

import (
	"context"
	"strings"
	"testing"

	"holdfast/testbed/need"
)

// TestReportOfAHost writes a support archive where the management VM runs, and once more
// while libvirtd stands still: that part is missing, and all else is there.
func TestReportOfAHost(t *testing.T) {
	need.Drill(t, "a support archive has its parts, and without libvirtd all but that one")
	onLab(t, plain, reportOfAHost)
}

func reportOfAHost(t testing.TB, r *rig) {
	home := string(r.healthy(t).Owner.Host)
	report := func(out string, args ...string) string {
		t.Helper()
		said := r.command(t, home, append([]string{"report", "-O", out, "--config", "/srv/host/agent.json", "--log-dir", "/srv/log"}, args...)...)
		list, err := r.lab.Exec(t.Context(), home, "sh", "-c",
			`stat -c %a "$0"; tar -xzOf "$0" --wildcards '*/index.txt' '*/status.txt' '*/libvirt/*.xml'; tar -tzf "$0"; rm "$0"`, out)
		if err != nil || !strings.HasPrefix(list, "600\n") {
			t.Fatalf("%s: %v\n%s", said, err, list)
		}
		return list
	}
	has := func(list string, all ...string) {
		t.Helper()
		for _, want := range all {
			if !strings.Contains(list, want) {
				t.Errorf("the archive has no %q:\n%s", want, list)
			}
		}
	}
	has(report("/run/r1.tar.gz"), "<name>holdfast-mnvm</name>", "running on "+home, "/log/", "/store.json",
		"/doctor.txt", "/events.json", "/network/addresses.txt")

	if err := r.lab.Pause(t.Context(), home, "libvirtd"); err != nil {
		t.Fatal(err)
	}
	goesOn := func(ctx context.Context) {
		if err := r.lab.Resume(ctx, home, "libvirtd"); err != nil {
			t.Error(err)
		}
	}
	list := func() string {
		defer goesOn(context.WithoutCancel(t.Context()))
		return report("/run/r2.tar.gz", "--timeout", "5s")
	}()
	has(list, "libvirt/holdfast-mnvm.xml: not available: ", "running on "+home, "/log/", "/store.json", "/events.json")
	if strings.Contains(list, "<name>") {
		t.Errorf("libvirtd stood still, and told the domain:\n%s", list)
	}
	r.healthy(t)
}
