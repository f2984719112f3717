package service

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/request"
)

// tells is the agent of another host: it says what the test wants.
type tells struct {
	Peer
	host    string
	status  *int
	version *string
}

func (p tells) GatherFacts(_ context.Context, w fact.Wanted) (fact.Facts, error) {
	f := fact.Facts{Host: cluster.HostID(p.host), At: time.Now(), Version: *p.version}
	if w.Request.Status != nil {
		f.Status = &fact.Probe{Name: w.Request.Status.Name, Exit: *p.status}
	}
	return f, nil
}

func (tells) Close() {}

// casRig is a service of h1 with a package of CAS, in a pair with h2. The program status on
// h1 and the file version are real ones.
type casRig struct {
	*rig
	q       request.Request
	status  int    // of h2
	version string // of h2
	dir     string
}

func newCASRig(t *testing.T, version string) *casRig {
	t.Helper()
	c := &casRig{status: 3, version: "E0705", dir: t.TempDir()}
	c.rig = newRig(t, storetest.NewMem(), "h1", func(p *Parts) {
		p.Dial = func(cluster.HostID, string) (Peer, error) {
			return tells{host: "h2", status: &c.status, version: &c.version}, nil
		}
	})
	other := bare("h2")
	other.API = "https://192.0.2.2:1"
	c.report(bare("h1"), other)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	const text = "#!/bin/sh\n"
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "upgrade." + version + "/upgrade.sh",
		Size: int64(len(text)), Mode: 0o755, Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := c.PutBundle(limited(t), &buf, request.Trust{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	both := []inventory.Role{inventory.RoleManager, inventory.RoleHost}
	c.q = request.Request{Bundle: b.SHA256, Version: "E0705", Inventory: &inventory.Inventory{
		Hosts: []inventory.Host{{Name: "h1", Roles: both}, {Name: "h2", Roles: both}},
		Pair: &inventory.Pair{Nodes: []cluster.HostID{"h1", "h2"}, Active: "h1", Switch: []string{"/switch"},
			Status: []string{filepath.Join(c.dir, "status")}},
		Status: inventory.Watched{VersionFile: filepath.Join(c.dir, "version")},
	}}
	c.says(0, "E0705")
	return c
}

// says sets what h1 says.
func (c *casRig) says(status int, version string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, "status"), fmt.Appendf(nil, "#!/bin/sh\nexit %d\n", status), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "version"),
		[]byte("V500R001B01D006 V5.0 "+version+" Enterprise 45807.\n"), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// The plan is made for the manager that the platform says is active, in the only mode that
// fits.
func TestTheActiveManagerIsAsked(t *testing.T) {
	c := newCASRig(t, "e0710")
	for _, x := range []struct {
		one, two int
		on       cluster.HostID
		level    upgrade.Level
		words    string
	}{
		{0, 3, "h1", upgrade.Info, "h1 is active (exit code 0), h2 is standby (exit code 3)"},
		{3, 0, "h2", upgrade.Warn, "though the platform file says h1"},
		{0, 0, "", upgrade.Block, "both managers of the pair say that they are active"},
		{3, 1, "", upgrade.Block, "no manager of the pair is active"},
	} {
		c.says(x.one, "E0705")
		c.status = x.two
		p, err := c.PlanUpgrade(limited(t), c.q)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(p.Findings, func(f upgrade.Finding) bool {
			return f.Rule == upgrade.RuleActive && f.Level == x.level && strings.Contains(f.Text, x.words)
		}) || p.Options.Mode != manifest.Reboot {
			t.Errorf("%+v: mode %s, %+v", x, p.Options.Mode, p.Findings)
		}
		installs := slices.ContainsFunc(p.Steps(), func(s job.Step) bool { return s.ID == string(x.on)+"/install/cas" })
		if x.on != "" && !installs {
			t.Errorf("%+v: no step installs there", x)
		}
	}
	for _, mode := range []manifest.Mode{manifest.Rolling, manifest.Offline} {
		q := c.q
		q.Options.Mode = mode
		_, err := c.RunUpgrade(limited(t), "ann", q)
		wantKind(t, err, fail.Invalid, "mode "+string(mode)+" does not fit the bundle: upgrade.e0710/upgrade.sh changes all hosts at once")
	}
	c.untouched("asked")
}

// The same is asked by the step, of the hosts of its run.
func TestTheStepAsksTheHosts(t *testing.T) {
	c := newCASRig(t, "e0710")
	run := c.begin(c.q).Job.ID
	all := allHosts{c.Service}
	said, err := all.Active(limited(t))
	if err != nil || !strings.HasPrefix(said, "h1 is the active manager (") {
		t.Errorf("%q, %v", said, err)
	}
	c.status = 0
	if _, err := all.Active(limited(t)); err == nil || !strings.Contains(err.Error(), "both managers") {
		t.Errorf("got %v", err)
	}
	c.says(3, "E0710")
	if _, err := all.Active(limited(t)); err == nil || !strings.Contains(err.Error(), "the active manager is h2, not h1") {
		t.Errorf("got %v", err)
	}
	known, behind, err := all.Behind(limited(t), run, "E0710")
	if !known || behind != "h2 has E0705" || err != nil {
		t.Errorf("%v, %q, %v", known, behind, err)
	}
	c.version = "E0710"
	if known, behind, err = all.Behind(limited(t), run, "E0710"); !known || behind != "" || err != nil {
		t.Errorf("%v, %q, %v", known, behind, err)
	}
	if _, _, err := all.Behind(limited(t), "upgrade-x", "E0710"); err == nil {
		t.Error("of a run that is not there")
	}
	// A rollback is planned by what hosts have then.
	c.record(run, "h1/install/cas", job.Failed)
	c.end(run, "aborted", func(s *upgrade.Status) {
		s.Cluster, s.Hosts = upgrade.Rollup, map[cluster.HostID]upgrade.HostState{"h1": upgrade.HostRollup}
	})
	back := request.Request{Purpose: upgrade.ForRollback}
	p, err := c.PlanUpgrade(limited(t), back)
	if err != nil || !p.Blocked() || !strings.Contains(fmt.Sprint(p.Findings), "h2 has E0710, h1 has E0710") {
		t.Errorf("%v, %+v", err, p.Findings)
	}
	c.says(3, "E0705")
	c.version = "E0705"
	if p, err = c.PlanUpgrade(limited(t), back); err != nil || p.Blocked() {
		t.Errorf("%v, %+v", err, p.Findings)
	}
	// A second run has the mode of the first, whatever the default is.
	q := c.q
	q.Inventory = nil
	if p, err = c.PlanUpgrade(limited(t), q); err != nil || p.Options.Mode != manifest.Reboot || p.Blocked() || len(p.Earlier) != 1 {
		t.Errorf("%v, mode %s, %+v", err, p.Options.Mode, p.Findings)
	}
}

// TestPlansKnowComponents: a rule of the catalogue asks for one that people have named.
func TestPlansKnowComponents(t *testing.T) {
	c := newCASRig(t, "e0525")
	c.q.Version = "E0513H01"
	blocked := func() bool {
		t.Helper()
		p, err := c.PlanUpgrade(limited(t), c.q)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(p.Findings, func(f upgrade.Finding) bool { return f.Rule == "s1020v-kernel-4.14" && f.Level == upgrade.Block })
	}
	if blocked() {
		t.Error("nobody has named a component")
	}
	c.q.Inventory.Components = []string{"s1020v"}
	if !blocked() {
		t.Error("the rule does not know the component")
	}
	c.q.Options.Confirmed = []string{"s1020v-kernel-4.14"}
	if blocked() {
		t.Error("it was confirmed")
	}
}

// TestPlansReadTheCatalogueOfTheBundle: of the bundle's file, before it is unpacked anywhere.
func TestPlansReadTheCatalogueOfTheBundle(t *testing.T) {
	r, q := three(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"manifest.yaml": strings.Replace(fmt.Sprintf(appManifest, "3.0.0"), "files: [bin/db.sh, data/]",
			"files: [bin/db.sh, data/, paths.yaml]", 1) + "path: {catalogue: paths.yaml}\n",
		"bin/db.sh": "#!/bin/sh\n", "data/blob": strings.Repeat("x", 1<<20),
		"paths.yaml": "format: 1\nname: app\nscheme: dotted\nversions: [1.0.0, 2.0.0, 3.0.0]\nrules:\n- {name: " +
			"by-two, kind: through, from: 1.0.0, through: 2.0.0, to: 3.0.0, text: The tables change in two steps., remedy: take 2.0.0 first}\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := bundle.Build(t.Context(), dir, &out, bundle.BuildOptions{Compression: bundle.Zstd}); err != nil {
		t.Fatal(err)
	}
	b, err := r.PutBundle(limited(t), &out, request.Trust{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	q.Bundle = b.SHA256
	p, err := r.PlanUpgrade(limited(t), q)
	if err != nil || !strings.Contains(fmt.Sprint(p.Findings), "From 1.0.0 the way to 3.0.0 is 1.0.0 -> 2.0.0 -> 3.0.0.") {
		t.Errorf("%v, %+v", err, p.Findings)
	}
}
