package install

import (
	"slices"
	"testing"
	"time"

	"holdfast/internal/config"
)

func TestDiagnose(t *testing.T) {
	a, err := NewAuthorities("hf-1")
	if err != nil {
		t.Fatal(err)
	}
	h := Host{Name: "a", Addr: "192.0.2.1"}
	certs := map[string]string{}
	for _, f := range must(a.files(h, Facts{}, true)) {
		if slices.Contains(CertificateFiles(), f.Path) {
			certs[f.Path] = string(f.Data)
		}
	}
	for _, c := range []struct {
		name string
		edit func(*Facts)
		now  time.Time
		want []string
	}{
		{"all well", func(*Facts) {}, time.Now(), nil},
		{"the agent does not run", func(f *Facts) { f.Installed.Active = false }, time.Now(), []string{"fail a agent"}},
		{"no image", func(f *Facts) { f.Image.Error = "gone" }, time.Now(), []string{"fail a image"}},
		{"certificates that end soon", func(*Facts) {}, time.Now().Add(hostFor - 29*24*time.Hour), []string{"warn a certificate"}},
		{"certificates that have ended", func(*Facts) {}, time.Now().Add(hostFor + time.Hour), []string{"fail a certificate"}},
		{"no certificate", func(f *Facts) { f.Certificates = map[string]string{"/x": "text"} }, time.Now(), []string{"fail a certificate"}},
	} {
		f := good()[0].facts
		f.Certificates, f.Domain = certs, "running"
		f.Installed = &Installed{Cluster: "hf-1", Host: "a", Active: true, Members: testConfig().Node}
		f.Image.InUse = true // by our own guest
		c.edit(&f)
		r := Diagnose(testConfig(), config.Node{}, h, f, c.now, []Finding{{"a", "cluster", Pass, "", ""}})
		if got := bad(r.Findings); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
